/* See model_schedules.h. */
#include "tests/sim/model_schedules.h"
#include <stdlib.h>

#include "common/base/banned.h"

/* ---- the unique rows of times ---- */

struct db_fired *db_fired_at(struct db_schedules *db, size_t at, int64_t nominal)
{
    uint64_t h = ((uint64_t)nominal ^ (uint64_t)at << 50) * UINT64_C(0x9e3779b97f4a7c15);

    for (size_t i = (size_t)(h >> 20) & (db->fired_size - 1);; i = (i + 1) & (db->fired_size - 1))
        if (db->fired[i].schedule == 0 || (db->fired[i].schedule == (int32_t)at + 1 && db->fired[i].nominal == nominal))
            return &db->fired[i];
}

static void grow(struct db_schedules *db)
{
    struct db_fired *old = db->fired;
    size_t size = db->fired_size;

    if (size > 0 && db->fired_count * 2 < size)
        return;
    db->fired_size = size == 0 ? 1 << 16 : size * 2;
    db->fired = mem_array(db->fired_size, sizeof(*db->fired));
    for (size_t i = 0; i < size; i++)
        if (old[i].schedule != 0)
            *db_fired_at(db, (size_t)old[i].schedule - 1, old[i].nominal) = old[i];
    mem_free(old);
}

/* False: it was there. */
static bool insert(struct db_schedules *db, size_t at, int64_t nominal)
{
    struct db_fired *row;

    grow(db);
    row = db_fired_at(db, at, nominal);
    if (row->schedule != 0) {
        db->doubles_refused++;
#ifdef PLANT_NO_KEY
        return true;
#else
        return false;
#endif
    }
    *row = (struct db_fired){(int32_t)at + 1, 0, nominal};
    db->fired_count++;
    return true;
}

/* ---- runs ---- */

static void end_runs(struct db_schedule *s, int64_t now)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->run_count; i++)
        if (s->runs[i].ends > now)
            s->runs[kept++] = s->runs[i];
    s->run_count = kept;
}

bool db_schedule_goes_on(struct db_schedules *db, size_t at)
{
    struct db_schedule *s = &db->all[at];

    end_runs(s, db->now);
    for (size_t i = 0; i < s->run_count; i++)
        if (s->r.has_run && run_id_eq(s->runs[i].id, s->r.last_run))
            return true;
    return false;
}

static void cancel(struct db_schedule *s, struct run_id id)
{
    s->cancelled++;
    for (size_t i = 0; i < s->run_count; i++)
        if (run_id_eq(s->runs[i].id, id))
            s->runs[i].ends = 0;
}

static void start_run(struct db_schedules *db, size_t at, const struct fire_time *time, bool asked_since)
{
    struct db_schedule *s = &db->all[at];
    int64_t ends = INT64_MAX;

    if (time->cancels)
        cancel(s, s->r.last_run);
    end_runs(s, db->now);
    db_fired_at(db, at, time->nominal.us)->runs++;
    if (db->starts != NULL)
        ends = db->starts(db, at, time, asked_since);
    if (s->run_count == DB_SCHEDULE_RUNS)
        s->run_count--;
    s->runs[s->run_count++] = (struct db_schedule_run){time->run, ends};
    s->r.has_run = true;
    s->r.last_run = time->run;
    s->started++;
}

/* ---- schedule_fire.sql ---- */

static size_t release(struct db_schedules *db, size_t at, const struct fire_time *time)
{
    struct db_schedule *s = &db->all[at];

    for (size_t i = 0; i < s->queued_count; i++) {
        bool asked_since = s->queued[i].revision != s->r.revision;

        if (s->queued[i].nominal != time->nominal.us)
            continue;
        memmove(&s->queued[i], &s->queued[i + 1], (--s->queued_count - i) * sizeof(s->queued[0]));
        s->r.waiting--;
        db->released++;
        if (time->error.ptr != NULL)
            return 0;
        start_run(db, at, time, asked_since);
        return 1;
    }
    return 0;
}

static void put_in_queue(struct db_schedules *db, size_t at, const struct fire_time *time)
{
    struct db_schedule *s = &db->all[at];

    if (s->queued_count == FIRE_WAITING_MAX) {
        db->fault(db, "has more times that wait than may", at);
        return;
    }
    s->queued[s->queued_count].nominal = time->nominal.us;
    s->queued[s->queued_count++].revision = s->r.revision;
    s->r.waiting++;
}

static size_t fire_time(struct db_schedules *db, size_t at, const struct fire_time *time)
{
    if (time->what == FIRE_RELEASE)
        return release(db, at, time);
    if (!insert(db, at, time->nominal.us))
        return 0;
    if (time->nominal.us > db->now + db->clock_off)
        db->fault(db, "is fired before its time", at);
    db->skipped += time->what == FIRE_SKIP;
    if (time->what == FIRE_QUEUE)
        put_in_queue(db, at, time);
    if (time->what != FIRE_START || time->error.ptr != NULL)
        return 0;
    start_run(db, at, time, false);
    return 1;
}

static size_t place_of(const struct db_schedules *db, struct run_id id)
{
    size_t at = 0;

    while (at < db->count && !run_id_eq(db->all[at].r.id, id))
        at++;
    return at;
}

size_t db_schedule_fire(struct db_schedules *db, const struct fire *fire)
{
    size_t at = place_of(db, fire->row->id), started = 0;
    struct db_schedule *s = &db->all[at];

    if (at == db->count || s->r.revision != fire->row->revision || s->paused || s->disabled ||
        (s->r.due.us == 0 && s->r.waiting == 0) || fire->after.us > db->now + db->clock_off)
        return 0;
    for (size_t i = 0; i < fire->count; i++)
        started += fire_time(db, at, &fire->times[i]);
    s->r.after = fire->after;
    s->next = fire->next;
    s->r.due = fire->look_at;
    return started;
}

/* ---- schedule_due.sql ---- */

bool db_schedule_is_due(struct db_schedules *db, size_t at)
{
    struct db_schedule *s = &db->all[at];

    if (s->r.due.us != 0 && s->r.due.us <= db->now + db->clock_off)
        return true;
    return s->r.waiting > 0 && !s->paused && !s->disabled && !db_schedule_goes_on(db, at);
}

static struct wall_us oldest(const struct db_schedule *s)
{
    struct wall_us first = {0};

    for (size_t i = 0; i < s->queued_count; i++)
        if (first.us == 0 || s->queued[i].nominal < first.us)
            first.us = s->queued[i].nominal;
    return first;
}

/* Those without a time come last. */
static int by_due(const void *a, const void *b)
{
    const struct fire_row *x = a, *y = b;
    int64_t of_x = x->due.us == 0 ? INT64_MAX : x->due.us, of_y = y->due.us == 0 ? INT64_MAX : y->due.us;

    return of_x != of_y ? (of_x < of_y ? -1 : 1) : run_id_cmp(x->id, y->id);
}

size_t db_schedules_due(struct db_schedules *db, const bool *own, size_t most, struct arena *arena,
                        struct fire_row *ret)
{
    struct fire_row *rows = arena_array(arena, db->count, sizeof(*rows));
    size_t count = 0;

    for (size_t i = 0; i < db->count; i++) {
        struct db_schedule *s = &db->all[i];

        if (!own[s->r.shard] || !db_schedule_is_due(db, i))
            continue;
        s->r.busy = db_schedule_goes_on(db, i);
        s->r.now.us = db->now + db->clock_off;
        s->r.oldest = oldest(s);
        rows[count] = s->r;
        rows[count++].definition = str_arena(arena, s->r.definition);
    }
    qsort(rows, count, sizeof(*rows), by_due);
    count = count < most ? count : most;
    memcpy(ret, rows, count * sizeof(*rows));
    return count;
}

int64_t db_schedules_next(struct db_schedules *db, const bool *own, bool *ret_waiting)
{
    int64_t next = INT64_MAX;

    *ret_waiting = false;
    for (size_t i = 0; i < db->count; i++) {
        const struct db_schedule *s = &db->all[i];

        if (!own[s->r.shard])
            continue;
        if (s->r.due.us != 0 && s->r.due.us - db->now - db->clock_off < next)
            next = s->r.due.us - db->now - db->clock_off;
        *ret_waiting |= s->r.waiting > 0 && !s->paused;
    }
    return next;
}
