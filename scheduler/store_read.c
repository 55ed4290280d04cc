/* What the core asks to be read: commands, open work of a shard, runs, bodies, workflow versions. */
#include "common/base/fault.h"
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "rw_scheduler_sql.h"
#include "scheduler/store_internal.h"
#include <stdlib.h>

#include "common/base/banned.h"

/* Of one fetch: a shard may have its part of these. Those in hand are read again until they are committed, so a part
 * has to hold more than a batch takes of one shard. */
#define COMMANDS_MAX 4000
#define COMMANDS_MAX_BYTES ((size_t)64 << 20)
#define LOAD_CHUNK 256 /* runs per statement, so that one answer stays within reason */
#define PAGE_ROWS 5000 /* of a shard's open work */
#define BODY_CHUNK 1000

/* What a read was asked for, so that a failure can be answered for each of its parts. */
struct read {
    struct store *store;
    uint64_t fetch, load;
    int16_t shard;
    int64_t epoch;
    size_t count;
    struct run_id *ids;
    struct sched_body_want *bodies;
    struct sched_plan_want *plans; /* with text of the arena */
    struct arena *arena;
};

static struct read *read_new(struct store *store, size_t count)
{
    struct read *read = mem_alloc(sizeof(*read));

    read->store = store;
    read->count = count;
    read->arena = arena_new(1024 + count * 64);
    return read;
}

static void read_done(struct read *read, const struct pg_outcome *o, const char *what)
{
    struct store *store = read->store;

    if (o->rc != ERR_OK)
        log_event(LOG_WARN, "store.read_failed", log_cstr("what", what), log_err(o->err));
    arena_free(read->arena);
    mem_free(read);
    store->options.woken(store->options.ctx);
}

static size_t part_of_each(size_t of, size_t shards)
{
    ENSURE(shards > 0);
    return (of + shards - 1) / shards;
}

/* A shard that has filled its part may have more. As stored, a body has a few bytes more than its text, or less. */
static bool all_fetched(const struct read *read, const struct sched_command *rows, size_t count)
{
    size_t part = part_of_each(COMMANDS_MAX, read->count), part_bytes = part_of_each(COMMANDS_MAX_BYTES, read->count);
    size_t *counts = arena_array(read->arena, SLOT_COUNT, sizeof(*counts));
    size_t *bytes = arena_array(read->arena, SLOT_COUNT, sizeof(*bytes));

    for (size_t i = 0; i < count; i++) {
        size_t shard = (size_t)rows[i].shard % SLOT_COUNT;

        bytes[shard] += rows[i].body.len + 8;
        if (++counts[shard] >= part || bytes[shard] >= part_bytes)
            return false;
    }
    return true;
}

static void commands_fetched(void *ctx, const struct pg_outcome *o)
{
    struct read *read = ctx;
    size_t count = o->rc == ERR_OK ? pg_rows(o->results[0]) : 0;
    struct sched_command *rows = arena_array(read->arena, count + 1, sizeof(*rows));

    for (size_t i = 0; i < count; i++) {
        const struct pg_result *res = o->results[0];
        rows[i] = (struct sched_command){.shard = (int16_t)pg_get_int(res, i, 0),
                                         .id = pg_get_int(res, i, 1),
                                         .organisation = (int32_t)pg_get_int(res, i, 2),
                                         .run = pg_get_uuid(res, i, 3),
                                         .kind = pg_get_str(res, i, 4),
                                         .body = pg_get_str(res, i, 5),
                                         .reply_to = pg_get_str(res, i, 6)};
    }
    FAULT_POINT_IF(scheduler_commands_read, count > 0);
    sched_on_commands(read->store->sched, read->fetch, rows, count, all_fetched(read, rows, count), o->rc != ERR_OK);
    read_done(read, o, "commands");
}

void store_fetch_commands(struct store *store, uint64_t fetch, const struct sched_command_want *want)
{
    struct pg_batch *pg = pg_batch_new(false);
    struct pg_array *shards = pg_array_new(pg, PG_E_I16), *asides = pg_array_new(pg, PG_E_UUID);
    struct read *read = read_new(store, want->shard_count);

    read->fetch = fetch;
    for (size_t i = 0; i < want->shard_count; i++)
        pg_array_add(shards, pg_i16(want->shards[i]));
    for (size_t i = 0; i < want->aside_count; i++)
        pg_array_add(asides, pg_uuid(want->asides[i]));
    (void)pg_add(pg, SQL_COMMAND_FETCH, pg_array_param(shards),
                 pg_i32((int32_t)part_of_each(COMMANDS_MAX, want->shard_count)),
                 pg_i64((int64_t)part_of_each(COMMANDS_MAX_BYTES, want->shard_count)), pg_array_param(asides));
    pg_submit(store->reader, pg, commands_fetched, read);
}

static void load_page(struct read *read, struct run_id after, uint32_t after_seq);

static void page_loaded(void *ctx, const struct pg_outcome *o)
{
    struct read *read = ctx;
    bool good = o->rc == ERR_OK;
    size_t count = good ? pg_rows(o->results[0]) : 0, held = good ? pg_rows(o->results[1]) : 0;
    struct sched_work_row *rows = arena_array(read->arena, count + 1, sizeof(*rows));
    struct run_id *quarantined = arena_array(read->arena, held + 1, sizeof(*quarantined));
    bool last = count < PAGE_ROWS;

    for (size_t i = 0; i < count; i++) {
        const struct pg_result *res = o->results[0];

        rows[i] = (struct sched_work_row){.run = pg_get_uuid(res, i, 0),
                                          .seq = (uint32_t)pg_get_int(res, i, 1),
                                          .organisation = (int32_t)pg_get_int(res, i, 2),
                                          .weight = (uint32_t)pg_get_int(res, i, 3),
                                          .kind = (enum work_kind)pg_get_int(res, i, 4),
                                          .step = pg_get_str(res, i, 5),
                                          .attempt = (uint16_t)pg_get_int(res, i, 6),
                                          .dispatch = (uint32_t)pg_get_int(res, i, 7),
                                          .pool = pg_get_str(res, i, 8),
                                          .priority = (uint8_t)pg_get_int(res, i, 9),
                                          .due_at = pg_get_time(res, i, 10)};
    }
    for (size_t i = 0; i < held; i++)
        quarantined[i] = pg_get_uuid(o->results[1], i, 0);
    FAULT_POINT_IF(scheduler_shard_read, count > 0);
    sched_on_open_work(read->store->sched, read->shard, read->epoch, rows, count, quarantined, last ? held : 0, last,
                       !good);
    if (last) {
        read_done(read, o, "open work of a shard");
        return;
    }
    read->store->options.woken(read->store->options.ctx);
    load_page(read, rows[count - 1].run, rows[count - 1].seq);
}

/* Quarantined runs are few: they come with each page and are told with the last. */
static void load_page(struct read *read, struct run_id after, uint32_t after_seq)
{
    struct pg_batch *pg = pg_batch_new(false);

    arena_reset(read->arena);
    (void)pg_add(pg, SQL_SHARD_WORK, pg_i16(read->shard), pg_uuid(after), pg_i32((int32_t)after_seq),
                 pg_i32(PAGE_ROWS));
    (void)pg_add(pg, SQL_SHARD_QUARANTINED, pg_i16(read->shard));
    pg_submit(read->store->reader, pg, page_loaded, read);
}

void store_load_shard(struct store *store, int16_t shard, int64_t epoch)
{
    struct read *read = read_new(store, 1);

    read->shard = shard;
    read->epoch = epoch;
    load_page(read, (struct run_id){{0}}, 0);
}

static void fill_run(struct sched_loaded_run *run, const struct pg_result *res, size_t i)
{
    run->found = true;
    run->organisation = (int32_t)pg_get_int(res, i, 3);
    run->created_at = pg_get_time(res, i, 4);
    run->version = (int32_t)pg_get_int(res, i, 5);
    run->priority = (uint8_t)pg_get_int(res, i, 6);
    run->weight = (uint32_t)pg_get_int(res, i, 7);
    run->limits = pg_get_str(res, i, 15);
    run->outgoing = (int32_t)pg_get_int(res, i, 16);
    run->workflow = pg_get_str(res, i, 9);
    run->organisation_name = pg_get_str(res, i, 10);
    run->input = pg_get_str(res, i, 11);
    run->trigger = pg_get_str(res, i, 12);
    run->has_parent = !pg_is_null(res, i, 13);
    if (run->has_parent)
        run->parent = pg_get_uuid(res, i, 13);
    run->parent_step = pg_get_str(res, i, 14);
    run->depth = (uint8_t)pg_get_int(res, i, 8);
    run->begins_so = pg_get_int(res, i, 2) != 0;
}

/* The rows from `first` on that belong to `run`: fills it and returns the index behind them. */
static size_t fill_parts(struct read *read, struct sched_loaded_run *run, const struct pg_result *res, size_t first)
{
    size_t rows = pg_rows(res), end = first;
    struct sched_event_loaded *events;
    struct sched_work_row *work;

    while (end < rows && run_id_eq(pg_get_uuid(res, end, 0), run->id))
        end++;
    events = arena_array(read->arena, end - first + 1, sizeof(*events));
    work = arena_array(read->arena, end - first + 1, sizeof(*work));
    for (size_t i = first; i < end; i++) {
        int64_t kind = pg_get_int(res, i, 1);
        if (kind == 0)
            fill_run(run, res, i);
        else if (kind == 1)
            events[run->event_count++] = (struct sched_event_loaded){.seq = (uint32_t)pg_get_int(res, i, 2),
                                                                     .type = (int16_t)pg_get_int(res, i, 5),
                                                                     .at = pg_get_time(res, i, 4),
                                                                     .step = pg_get_str(res, i, 9),
                                                                     .attempt = (uint16_t)pg_get_int(res, i, 6),
                                                                     .data = pg_get_str(res, i, 10),
                                                                     .output_bytes = (uint32_t)pg_get_int(res, i, 7)};
        else
            work[run->work_count++] = (struct sched_work_row){.run = run->id,
                                                              .seq = (uint32_t)pg_get_int(res, i, 2),
                                                              .organisation = (int32_t)pg_get_int(res, i, 3),
                                                              .kind = (enum work_kind)pg_get_int(res, i, 5),
                                                              .step = pg_get_str(res, i, 9),
                                                              .attempt = (uint16_t)pg_get_int(res, i, 6),
                                                              .dispatch = (uint32_t)pg_get_int(res, i, 7),
                                                              .pool = pg_get_str(res, i, 10),
                                                              .priority = (uint8_t)pg_get_int(res, i, 8),
                                                              .due_at = pg_get_time(res, i, 4)};
    }
    for (size_t i = 0; i < run->work_count; i++)
        work[i].weight = run->weight;
    run->events = events;
    run->work = work;
    return end;
}

static int compare_ids(const void *a, const void *b)
{
    return run_id_cmp(*(const struct run_id *)a, *(const struct run_id *)b);
}

static void runs_loaded(void *ctx, const struct pg_outcome *o)
{
    struct read *read = ctx;
    struct sched_loaded_run *runs = arena_array(read->arena, read->count + 1, sizeof(*runs));
    size_t row = 0;

    /* rows come ordered by run: so are the ids, and both are walked once */
    qsort(read->ids, read->count, sizeof(*read->ids), compare_ids);
    for (size_t i = 0; i < read->count; i++) {
        runs[i].id = read->ids[i];
        runs[i].failed = o->rc != ERR_OK;
        if (o->rc == ERR_OK)
            row = fill_parts(read, &runs[i], o->results[0], row);
    }
    FAULT_POINT_IF(scheduler_runs_read, o->rc == ERR_OK);
    sched_on_loaded(read->store->sched, read->load, runs, read->count);
    read_done(read, o, "runs");
}

void store_load_runs(struct store *store, uint64_t load, const struct run_id *ids, size_t count)
{
    for (size_t first = 0; first < count; first += LOAD_CHUNK) {
        size_t n = count - first < LOAD_CHUNK ? count - first : LOAD_CHUNK;
        struct pg_batch *pg = pg_batch_new(false);
        struct pg_array *runs = pg_array_new(pg, PG_E_UUID);
        struct pg_array *shards = pg_array_new(pg, PG_E_I16);
        struct read *read = read_new(store, n);
        read->load = load;
        read->ids = arena_array(read->arena, n, sizeof(*read->ids));
        for (size_t i = 0; i < n; i++) {
            read->ids[i] = ids[first + i];
            pg_array_add(runs, pg_uuid(ids[first + i]));
            pg_array_add(shards, pg_i16(store->options.slot_shard[run_id_slot(ids[first + i])]));
        }
        (void)pg_add(pg, SQL_RUN_LOAD, pg_array_param(runs), pg_array_param(shards));
        pg_submit(store->reader, pg, runs_loaded, read);
    }
}

/* As a rule rows come in the order in which they were asked for: each search goes on where the last one ended. */
static struct str body_of(const struct pg_result *res, struct sched_body_want want, size_t *at)
{
    size_t rows = pg_rows(res);

    for (size_t n = 0; n < rows; n++) {
        size_t r = (*at + n) % rows;

        if (!run_id_eq(pg_get_uuid(res, r, 0), want.run) ||
            (want.seq != 0 && (uint32_t)pg_get_int(res, r, 1) != want.seq))
            continue;
        *at = r + 1;
        return pg_get_str(res, r, want.seq == 0 ? 1 : 2);
    }
    return STR_NONE;
}

static void bodies_loaded(void *ctx, const struct pg_outcome *o)
{
    struct read *read = ctx;
    struct sched_body *bodies = arena_array(read->arena, read->count + 1, sizeof(*bodies));
    size_t at[2] = {0, 0}; /* outputs, inputs */

    for (size_t i = 0; i < read->count; i++) {
        struct sched_body_want want = read->bodies[i];
        int kind = want.seq == 0;

        bodies[i] = (struct sched_body){.run = want.run, .seq = want.seq, .failed = o->rc != ERR_OK};
        if (o->rc == ERR_OK)
            bodies[i].body = body_of(o->results[kind], want, &at[kind]);
    }
    sched_on_bodies(read->store->sched, bodies, read->count);
    read_done(read, o, "bodies");
}

static void load_bodies(struct store *store, const struct sched_body_want *wants, size_t count)
{
    struct pg_batch *pg = pg_batch_new(false);
    struct pg_array *runs = pg_array_new(pg, PG_E_UUID);
    struct pg_array *seqs = pg_array_new(pg, PG_E_I32);
    struct pg_array *inputs = pg_array_new(pg, PG_E_UUID);
    struct read *read = read_new(store, count);

    read->bodies = arena_array(read->arena, count, sizeof(*read->bodies));
    for (size_t i = 0; i < count; i++) {
        read->bodies[i] = wants[i];
        if (wants[i].seq == 0) {
            pg_array_add(inputs, pg_uuid(wants[i].run));
            continue;
        }
        pg_array_add(runs, pg_uuid(wants[i].run));
        pg_array_add(seqs, pg_i32((int32_t)wants[i].seq));
    }
    (void)pg_add(pg, SQL_BODY_LOAD, pg_array_param(runs), pg_array_param(seqs));
    (void)pg_add(pg, SQL_INPUT_LOAD, pg_array_param(inputs));
    pg_submit(store->reader, pg, bodies_loaded, read);
}

/* The list of a loop is asked for as ten thousand outputs. */
void store_load_bodies(struct store *store, const struct sched_body_want *wants, size_t count)
{
    for (size_t first = 0; first < count; first += BODY_CHUNK)
        load_bodies(store, wants + first, count - first < BODY_CHUNK ? count - first : BODY_CHUNK);
}

static void plans_loaded(void *ctx, const struct pg_outcome *o)
{
    struct read *read = ctx;
    struct sched_plan_loaded *plans = arena_array(read->arena, read->count + 1, sizeof(*plans));
    size_t rows = o->rc == ERR_OK ? pg_rows(o->results[0]) : 0;

    for (size_t i = 0; i < read->count; i++) {
        const struct sched_plan_want *want = &read->plans[i];
        plans[i] = (struct sched_plan_loaded){.key = *want, .failed = o->rc != ERR_OK};
        for (size_t r = 0; r < rows; r++) {
            const struct pg_result *res = o->results[0];
            if (pg_get_int(res, r, 0) == want->organisation && pg_get_int(res, r, 2) == want->version &&
                str_eq(pg_get_str(res, r, 1), want->workflow))
                plans[i].document = pg_get_str(res, r, 3);
        }
    }
    sched_on_plans(read->store->sched, plans, read->count);
    read_done(read, o, "workflow versions");
}

void store_load_plans(struct store *store, const struct sched_plan_want *wants, size_t count)
{
    struct pg_batch *pg = pg_batch_new(false);
    struct pg_array *organisation = pg_array_new(pg, PG_E_I32);
    struct pg_array *workflow = pg_array_new(pg, PG_E_TEXT);
    struct pg_array *version = pg_array_new(pg, PG_E_I32);
    struct read *read = read_new(store, count);

    read->plans = arena_array(read->arena, count, sizeof(*read->plans));
    for (size_t i = 0; i < count; i++) {
        read->plans[i] = wants[i];
        read->plans[i].workflow = str_arena(read->arena, wants[i].workflow);
        pg_array_add(organisation, pg_i32(wants[i].organisation));
        pg_array_add(workflow, pg_text(wants[i].workflow));
        pg_array_add(version, pg_i32(wants[i].version));
    }
    (void)pg_add(pg, SQL_PLAN_LOAD, pg_array_param(organisation), pg_array_param(workflow), pg_array_param(version));
    pg_submit(store->reader, pg, plans_loaded, read);
}

/* --- events that came before -------------------------------------------------------------------------------------- */

#define LOOKS_MAX 200   /* steps at a time */
#define LOOK_EVENTS 100 /* of each */

static void looked(void *ctx, const struct pg_outcome *o)
{
    struct read *read = ctx;
    bool good = o->rc == ERR_OK;
    bool told = good && pg_get_int(o->results[0], 0, 0) > 0, remaining = good && pg_get_bool(o->results[0], 0, 1);

    FAULT_POINT_IF(scheduler_looked, told);
    sched_on_looked(read->store->sched, told, remaining, !good);
    read_done(read, o, "events that came before");
}

void store_look_back(struct store *store, const int16_t *shards, size_t count)
{
    struct pg_batch *pg = pg_batch_new(false);
    struct pg_array *numbers = pg_array_new(pg, PG_E_I16);

    for (size_t i = 0; i < count; i++)
        pg_array_add(numbers, pg_i16(shards[i]));
    (void)pg_add(pg, SQL_EVENT_LOOK, pg_array_param(numbers), pg_i32(LOOKS_MAX), pg_i32(LOOK_EVENTS));
    pg_submit(store->reader, pg, looked, read_new(store, count));
}
