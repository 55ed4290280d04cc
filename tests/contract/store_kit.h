/* What the store's scenarios have in common: batches put together, sent, and runs read back. */
#pragma once
#include "tests/contract/store.h"

#define SHARD 3
#define OTHER_SHARD 2
#define EPOCH 7

static const int16_t SHARDS[] = {SHARD};
static const int64_t EPOCHS[] = {EPOCH};

static inline struct str T(struct str s) /* for comparisons: absent and empty alike */
{
    return s.ptr == NULL ? STR("") : s;
}

#define assert_str(actual, expected)                                                                                   \
    do {                                                                                                               \
        struct str a_ = T(actual), e_ = T(expected);                                                                   \
        if (!str_eq(a_, e_))                                                                                           \
            fail_msg("'" STR_FMT "' is not '" STR_FMT "'", STR_ARG(a_), STR_ARG(e_));                                  \
    } while (0)

static inline struct wall_us
now_wall(void)
{
    return ports.wall(ports.ctx);
}

static inline struct run_id new_id(unsigned slot)
{
    return run_id_make(now_wall(), slot);
}

static inline struct run_id new_run(void)
{
    struct run_id id = new_id(SHARD);

    hand_run(id, STR("{\"a\": 1.0}"));
    return id;
}

/* Asks, and gives the count of answers to wait for. */
static inline int send_batch(struct sched_batch *batch)
{
    static uint64_t number;
    int before = heard.committed;

    batch->number = ++number;
    if (batch->shard_count == 0) {
        batch->shard_count = 1;
        batch->shards = SHARDS;
        batch->epochs = EPOCHS;
    }
    ports.commit(ports.ctx, batch);
    assert_int_equal(heard.committed, before); /* nothing calls back from inside a port */
    return before + 1;
}

static inline enum sched_outcome commit(struct sched_batch *batch)
{
    int wanted = send_batch(batch);

    UNTIL(heard.committed == wanted);
    return heard.outcome.outcome;
}

#define assert_commits(batch) assert_int_equal(commit(batch), SCHED_COMMITTED)

/* `count` events of a run from `first` on, all of the same kind, each with an output that names it. */
struct history {
    struct event events[8];
    struct sched_event_row rows[8];
    char outputs[8][32];
};

static inline void history_of(struct history *h, size_t at, struct run_id run, uint32_t seq)
{
    snprintf(h->outputs[at], sizeof(h->outputs[at]), "{\"seq\":%u}", seq);
    h->events[at] = (struct event){.seq = seq,
                                   .type = EVENT_STEP_SUCCEEDED,
                                   .at = now_wall(),
                                   .step = STR("s"),
                                   .attempt = 1,
                                   .output = str_of(h->outputs[at])};
    h->rows[at] = (struct sched_event_row){.run = run, .organisation = 1, .event = &h->events[at]};
}

static inline struct sched_batch batch_of(struct history *h, size_t count)
{
    return (struct sched_batch){.event_count = count, .events = h->rows};
}

static inline enum sched_outcome commit_events(struct run_id run, uint32_t first, uint32_t last)
{
    struct history h = {0};
    struct sched_batch batch;

    for (uint32_t seq = first; seq <= last; seq++)
        history_of(&h, seq - first, run, seq);
    batch = batch_of(&h, last - first + 1);
    return commit(&batch);
}

static inline const struct sched_loaded_run *load(struct run_id run)
{
    static uint64_t number;
    size_t before = heard.run_count;

    ports.load_runs(ports.ctx, ++number, &run, 1);
    assert_int_equal(heard.run_count, before);
    UNTIL(heard.run_count == before + 1);
    assert_true(run_id_eq(heard.runs[before].id, run));
    return &heard.runs[before];
}

static inline size_t events_of(struct run_id run)
{
    const struct sched_loaded_run *loaded = load(run);

    assert_true(loaded->found && !loaded->failed);
    for (size_t i = 1; i < loaded->event_count; i++)
        assert_true(loaded->events[i].seq > loaded->events[i - 1].seq);
    return loaded->event_count;
}

static inline void fetch_wanted(const struct sched_command_want *want)
{
    static uint64_t number;
    int before = heard.commands;

    ports.fetch_commands(ports.ctx, ++number, want);
    UNTIL(heard.commands == before + 1);
    for (size_t i = 1; i < heard.command_count; i++)
        assert_true(heard.command_rows[i].id > heard.command_rows[i - 1].id);
}

static inline void fetch(const int16_t *shards, size_t count)
{
    fetch_wanted(&(struct sched_command_want){.shard_count = count, .shards = shards});
}

static inline size_t fetched(void)
{
    fetch(SHARDS, 1);
    assert_false(heard.failed);
    return heard.command_count;
}

static inline void load_shard(void)
{
    heard.work_count = heard.quarantined_count = heard.pages = 0;
    heard.last = heard.failed = false;
    ports.load_shard(ports.ctx, SHARD, EPOCH);
    UNTIL(heard.last || heard.failed);
}

static inline struct str body_of(struct run_id run, uint32_t seq)
{
    const struct sched_body_want want = {run, seq};
    size_t before = heard.body_count;

    ports.load_bodies(ports.ctx, &want, 1);
    UNTIL(heard.body_count == before + 1);
    assert_false(heard.body_rows[before].failed);
    return heard.body_rows[before].body;
}

static inline struct sched_open_row open_row(struct run_id run, uint32_t seq)
{
    return (struct sched_open_row){.shard = SHARD,
                                   .run = run,
                                   .seq = seq,
                                   .organisation = 1,
                                   .kind = WORK_TASK,
                                   .step = STR("t"),
                                   .attempt = 2,
                                   .dispatch = 3,
                                   .pool = STR("gpu"),
                                   .priority = PRIORITY_LOW,
                                   .due_at = {now_wall().us + 5 * US_PER_S},
                                   .opened_at = now_wall()};
}
