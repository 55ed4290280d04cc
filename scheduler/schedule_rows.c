/* See schedule_rows.h. */
#include "scheduler/schedule_rows.h"
#include "rw_scheduler_sql.h"

#include "common/base/banned.h"

void schedule_rows_due(struct pg_batch *batch, const int16_t *shards, size_t count, size_t most)
{
    struct pg_array *of = pg_array_new(batch, PG_E_I16);

    for (size_t i = 0; i < count; i++)
        pg_array_add(of, pg_i16(shards[i]));
    (void)pg_add(batch, SQL_SCHEDULE_DUE, pg_array_param(of), pg_i32((int32_t)most));
    (void)pg_add(batch, SQL_SCHEDULE_NEXT, pg_array_param(of));
}

int64_t schedule_next_row(const struct pg_result *rows, bool *ret_waiting)
{
    *ret_waiting = pg_get_bool(rows, 0, 1);
    return pg_is_null(rows, 0, 0) ? INT64_MAX : pg_get_int(rows, 0, 0);
}

struct fire_row *schedule_row(const struct pg_result *rows, size_t i, struct arena *arena)
{
    struct fire_row *row = arena_alloc(arena, sizeof(*row));
    char text[UUID_TEXT_SIZE];

    *row = (struct fire_row){.id = pg_get_uuid(rows, i, 0),
                             .organisation = (int32_t)pg_get_int(rows, i, 1),
                             .workflow = str_arena(arena, pg_get_str(rows, i, 2)),
                             .trigger = str_arena(arena, pg_get_str(rows, i, 3)),
                             .shard = (int16_t)pg_get_int(rows, i, 4),
                             .revision = (int32_t)pg_get_int(rows, i, 5),
                             .definition = str_arena(arena, pg_get_str(rows, i, 6)),
                             .anchor = pg_get_time(rows, i, 9),
                             .after = pg_get_time(rows, i, 10),
                             .due = pg_get_time(rows, i, 11),
                             .has_run = !pg_is_null(rows, i, 12),
                             .busy = pg_get_bool(rows, i, 13),
                             .waiting = (int32_t)pg_get_int(rows, i, 14),
                             .oldest = pg_get_time(rows, i, 15),
                             .now = pg_get_time(rows, i, 16)};
    if (!pg_is_null(rows, i, 7))
        row->input = str_arena(arena, pg_get_str(rows, i, 7));
    if (!pg_is_null(rows, i, 8))
        row->input_schema = str_arena(arena, pg_get_str(rows, i, 8));
    if (row->has_run)
        row->last_run = pg_get_uuid(rows, i, 12);
    run_id_format(row->id, text);
    row->id_text = str_arena(arena, str_of(text));
    return row;
}

enum { T_SCHEDULE, T_NOMINAL, T_RUN, T_INPUT, T_TRIGGER, T_CANCELS, T_QUEUED, T_RELEASED, T_ERROR, T_COLUMNS };

static void add_time(struct pg_array *t[], const struct fire_row *row, const struct fire_time *time)
{
    bool runs = (time->what == FIRE_START || time->what == FIRE_RELEASE) && time->error.ptr == NULL;

    pg_array_add(t[T_SCHEDULE], pg_uuid(row->id));
    pg_array_add(t[T_NOMINAL], pg_time(time->nominal));
    pg_array_add(t[T_RUN], runs ? pg_uuid(time->run) : pg_null());
    pg_array_add(t[T_INPUT], pg_json(time->input.ptr == NULL ? STR("{}") : time->input));
    pg_array_add(t[T_TRIGGER], pg_json(time->trigger));
    pg_array_add(t[T_CANCELS], runs && time->cancels ? pg_uuid(row->last_run) : pg_null());
    pg_array_add(t[T_QUEUED], pg_bool(time->what == FIRE_QUEUE));
    pg_array_add(t[T_RELEASED], pg_bool(time->what == FIRE_RELEASE));
    pg_array_add(t[T_ERROR], pg_json(time->error));
}

void schedule_rows_fire(struct pg_batch *batch, const struct fire *fires, size_t count)
{
    static const enum pg_elem types[T_COLUMNS] = {PG_E_UUID, PG_E_TIME, PG_E_UUID, PG_E_JSON, PG_E_JSON,
                                                  PG_E_UUID, PG_E_BOOL, PG_E_BOOL, PG_E_JSON};
    struct pg_array *ids = pg_array_new(batch, PG_E_UUID), *revisions = pg_array_new(batch, PG_E_I32);
    struct pg_array *afters = pg_array_new(batch, PG_E_TIME), *nexts = pg_array_new(batch, PG_E_TIME);
    struct pg_array *dues = pg_array_new(batch, PG_E_TIME), *t[T_COLUMNS];

    for (size_t i = 0; i < T_COLUMNS; i++)
        t[i] = pg_array_new(batch, types[i]);
    for (size_t i = 0; i < count; i++) {
        const struct fire *fire = &fires[i];

        pg_array_add(ids, pg_uuid(fire->row->id));
        pg_array_add(revisions, pg_i32(fire->row->revision));
        pg_array_add(afters, pg_time(fire->after));
        pg_array_add(nexts, pg_time(fire->next));
        pg_array_add(dues, pg_time(fire->look_at));
        for (size_t k = 0; k < fire->count; k++)
            add_time(t, fire->row, &fire->times[k]);
    }
    (void)pg_add(batch, SQL_SCHEDULE_FIRE, pg_array_param(ids), pg_array_param(revisions), pg_array_param(afters),
                 pg_array_param(nexts), pg_array_param(dues), pg_array_param(t[0]), pg_array_param(t[1]),
                 pg_array_param(t[2]), pg_array_param(t[3]), pg_array_param(t[4]), pg_array_param(t[5]),
                 pg_array_param(t[6]), pg_array_param(t[7]), pg_array_param(t[8]));
}

void schedule_row_refuse(struct pg_batch *batch, const struct fire_row *row, struct str why)
{
    (void)pg_add(batch, SQL_SCHEDULE_REFUSE, pg_uuid(row->id), pg_i32(row->revision), pg_json(why));
}
