/* A scripted set of ports for tests of the scheduler's core: it records what the core asks for, answers reads from
 * small tables, and commits, confirms and evaluates when the test says so. */
#pragma once
#include "scheduler/core/sched_core.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define SCRIPT_RUNS 700
#define SCRIPT_FETCH 600 /* commands of one answer */
#define MS US_PER_MS
#define SEC US_PER_S

struct sent { /* published */
    char queue[160], type[16], id[600];
    struct str body;
    uint64_t confirm;
    bool persistent, in_memory;
    int64_t order; /* among all calls of ports */
    bool answered; /* by the test */
};
struct acked {
    void *delivery;
    int64_t order;
};
struct script_run {
    struct run_id id;
    struct str document, input;
    int32_t organisation;
    bool exists, has_parent;
    struct run_id parent;
    struct str parent_step;
    uint8_t depth;
    enum run_status status; /* as the run's row says */
    struct str error_code;
    size_t event_count, event_cap, work_count, work_cap;
    struct sched_event_loaded *events;
    struct str *outputs; /* of the events */
    struct sched_work_row *work;
    /* of the last wait for an event that was opened */
    struct str event_type, event_source;
    int64_t look_back_us;
};
struct script_command {
    struct sched_command row;
    bool gone, held;
};
struct script {
    struct sched *sched;
    struct sched_settings settings;
    struct arena *arena;
    int64_t now, wake, order;
    bool lease_lapsed;
    struct script_run *runs;
    size_t run_count;
    /* look_back: asked for and not answered; how often, and of which shards last */
    bool looking;
    size_t look_calls, look_shard_count;
    int16_t look_shards[16];
    struct script_command commands[1000];
    size_t command_count;
    struct { /* that children may be of; disabled when it has no document */
        const char *name, *document;
    } workflows[8];
    size_t workflow_count, load_calls, fetch_calls;
    uint32_t weights[8]; /* of organisations */
    const char *limits;  /* of all of them, their own: JSON */
    /* what was asked for and not answered */
    uint64_t fetch;
    int16_t fetch_shards[16];
    struct run_id *asides; /* left out of it */
    size_t fetch_shard_count, aside_count;
    bool fetching;
    struct {
        uint64_t load;
        struct run_id id;
    } loads[1200];
    size_t load_count;
    struct sched_body_want *bodies;
    size_t body_count, body_cap, bodies_read; /* bodies_read: answered ever */
    struct sched_plan_want plans[100];
    size_t plan_count;
    struct {
        int16_t shard;
        int64_t epoch;
    } shards[32];
    size_t shard_count;
    const struct sched_batch *batch; /* in flight */
    struct sched_evaluation *evaluations;
    size_t evaluation_count, evaluation_cap;
    char depths[200][160];
    size_t depth_count;
    /* what was done */
    struct sent *sent;
    size_t sent_count, sent_cap, confirmed_count;
    struct acked acked[1000], forgotten[1000];
    size_t acked_count, forgotten_count;
    int16_t closed[32], released[32], newer[32];
    size_t closed_count, released_count, newer_count, checks, commits;
    int64_t committed_order;
    struct run_id journal;
    size_t entered, left;
    size_t fail_loads; /* so many of the next reads of runs */
    /* switches: leave these unanswered */
    bool hold_commits, hold_loads, hold_fetches, hold_bodies, hold_shards, hold_confirms;
};

#define NOOP "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"noop\"}}}"
#define CHAIN "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"noop\"},\"b\":{\"needs\":[\"a\"],\"call\":\"noop\"}}}"

struct script *script_new(void);
struct script *script_new_with(const struct sched_settings *settings);
void script_free(struct script *s);
void script_own(struct script *s, int16_t shard, int64_t epoch); /* gains it; it is loaded at the next settle */
void script_lose(struct script *s, int16_t shard);
/* A run with its start command. `shard` is its slot, too. */
struct script_run *script_run(struct script *s, int16_t shard, const char *document);
int64_t script_command(struct script *s, const struct script_run *run, const char *kind, const char *reply_to);
int64_t script_command_body(struct script *s, const struct script_run *run, const char *kind, const char *body);
void script_workflow(struct script *s, const char *name, const char *document); /* for children */
/* The n-th child (from 0) of a run in the order in which they were started; NULL. */
struct script_run *script_child(struct script *s, const struct script_run *parent, size_t n);
void script_tick(struct script *s);
void script_settle(struct script *s);              /* ticks and answers until nothing is left to answer */
void script_advance(struct script *s, int64_t us); /* in steps of at most 100 ms, settling after each */
void script_commit(struct script *s, enum sched_outcome outcome, const struct script_run *culprit);
void write_as_if_committed(struct script *s); /* what is in flight, without an answer */
/* Delivers; returns the delivery, which is acked or forgotten later. */
void *script_deliver(struct script *s, int16_t shard, const char *type, const char *id, const char *body);
void *script_result(struct script *s, int16_t shard, const struct sent *task, const char *worker, const char *rest);
void *script_started(struct script *s, int16_t shard, const struct sent *task, const char *worker);
void script_lapse(struct script *s, int16_t shard); /* no heartbeats, and nothing unread that might be one */
void script_heartbeat(struct script *s, const char *worker, const struct sent *task);
void script_depth(struct script *s, const char *queue, uint32_t ready, uint32_t consumers);
struct str script_token(struct script *s, const char *task_id);
const struct sent *script_last(const struct script *s, const char *type); /* NULL: none */
size_t script_count(const struct script *s, const char *type);
bool script_was_acked(const struct script *s, const void *delivery);
bool script_was_forgotten(const struct script *s, const void *delivery);
size_t script_events(const struct script *s, const struct script_run *run, enum event_type type);
/* A run that has gone as far as it can by itself. */
struct script_run *script_begin(struct script *s, const char *document, const char *input);
const char *script_list(struct script *s, unsigned count);                /* {"list":[{"n":0},{"n":1},...]} */
void script_answer(struct script *s, size_t i, const char *value);        /* of evaluation i, and settles */
const struct sent *script_task(const struct script *s, const char *step); /* the newest of that path */
/* The output of the last event of that type and step (NULL: any). */
struct str script_output(const struct script_run *run, enum event_type type, const char *step);
void assert_json(struct str value, const char *expected);
void assert_member(struct script *s, const struct sent *task, const char *key, const char *expected); /* a string */
