/* The contract of schedules against the simulator's model. */
#include "tests/contract/schedules.h"
#include "tests/sim/model_schedules.h"

#include "common/base/banned.h"

#define BEGIN_US (INT64_C(1800000000) * US_PER_S)

static struct db_schedule all[ROWS_MAX];
static struct db_schedules db;
static struct arena *arena;

static void on_fault(struct db_schedules *model, const char *what, size_t at)
{
    (void)model;
    fail_msg("schedule %zu %s", at, what);
}

int schedules_group_begin(void **state)
{
    (void)state;
    return 0;
}

int schedules_group_end(void **state)
{
    (void)state;
    return 0;
}

int schedules_world_begin(void **state)
{
    (void)state;
    memset(all, 0, sizeof(all));
    db = (struct db_schedules){.all = all, .now = BEGIN_US, .clock_off = 7 * US_PER_S, .fault = on_fault};
    arena = arena_new(0);
    return 0;
}

int schedules_world_end(void **state)
{
    (void)state;
    mem_free(db.fired);
    arena_free(arena);
    return 0;
}

void world_turn(void)
{
    db.now += US_PER_MS;
}

int64_t world_now_us(void)
{
    return db.now;
}

struct wall_us hand_clock(void)
{
    return (struct wall_us){db.now + db.clock_off};
}

struct run_id hand_schedule(int16_t shard, struct wall_us after, struct wall_us due)
{
    struct fire_row *row = &all[db.count++].r;

    *row = (struct fire_row){.id = run_id_make(hand_clock(), (unsigned)shard),
                             .definition = STR("{}"),
                             .shard = shard,
                             .revision = 1,
                             .after = after,
                             .due = due};
    return row->id;
}

static struct db_schedule *find(struct run_id id)
{
    size_t i = 0;

    while (!run_id_eq(all[i].r.id, id))
        i++;
    return &all[i];
}

void hand_change(struct run_id schedule, enum hand_change change)
{
    struct db_schedule *s = find(schedule);

    if (change != HAND_OVERRIDE)
        s->paused = change == HAND_PAUSE;
    s->r.revision++;
    s->r.after = hand_clock();
    s->r.due.us = s->paused ? 0 : s->r.after.us;
}

void hand_enable(bool enabled)
{
    for (size_t i = 0; i < db.count; i++)
        all[i].disabled = !enabled;
}

void hand_end_run(struct run_id run)
{
    for (size_t i = 0; i < db.count; i++)
        for (size_t k = 0; k < all[i].run_count; k++)
            if (run_id_eq(all[i].runs[k].id, run))
                all[i].runs[k].ends = db.now;
}

size_t hand_due(int16_t shards, size_t most, struct fire_row ret[ROWS_MAX])
{
    bool own[SHARD_COUNT];

    for (int16_t i = 0; i < SHARD_COUNT; i++)
        own[i] = i < shards;
    return db_schedules_due(&db, own, most, arena, ret);
}

int64_t hand_next(int16_t shards, bool *ret_waiting)
{
    bool own[SHARD_COUNT];

    for (int16_t i = 0; i < SHARD_COUNT; i++)
        own[i] = i < shards;
    return db_schedules_next(&db, own, ret_waiting);
}

size_t hand_fire(const struct fire *fires, size_t count)
{
    size_t started = 0;

    for (size_t i = 0; i < count; i++)
        started += db_schedule_fire(&db, &fires[i]);
    return started;
}

size_t hand_fire_at_once(const struct fire *first, const struct fire *second)
{
    return hand_fire(first, 1) + hand_fire(second, 1);
}

struct hand_state hand_state(struct run_id schedule)
{
    const struct db_schedule *s = find(schedule);
    struct hand_state state = {.after = s->r.after,
                               .due = s->r.due,
                               .waiting = s->r.waiting,
                               .has_run = s->r.has_run,
                               .last_run = s->r.last_run,
                               .runs = s->started,
                               .cancelled = s->cancelled};

    for (size_t i = 0; i < db.fired_size; i++)
        state.times += db.fired[i].schedule == (int32_t)(s - all) + 1;
    return state;
}
