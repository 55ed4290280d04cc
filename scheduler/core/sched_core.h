/* The scheduler's protocol logic: what to load, apply, commit, publish and acknowledge, and when. A state machine
 * without I/O, clock or randomness of its own: the shell (or the simulator) calls the inputs below and carries out what
 * the ports ask for. Every port call is asynchronous: it returns at once and never calls back into the core; its
 * completion is an input. Inputs only take note; the work is done by sched_tick, which the shell calls once after each
 * turn of its loop that brought inputs, and at the time the last tick returned.
 *
 * Memory: what a port call points to is the core's and valid during the call only, except a batch (until
 * sched_on_committed) and evaluations (until sched_on_values). What an input points to is the caller's and valid during
 * the call only, except deliveries: their text is the shell's and must stay until `ack` or `forget`. One thread. */
#pragma once
#include "common/engine/engine.h"
#include "scheduler/core/journal.h"

struct sched;

enum sched_priority { PRIORITY_CRITICAL, PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_LOW, PRIORITY_COUNT };
extern const char *const sched_priority_names[PRIORITY_COUNT]; /* "critical" ... as queue names have them */

struct sched_settings {
    const char *name;                /* of this scheduler, for logs; copied */
    struct str token_key;            /* installation.token_key: HMAC key of task tokens; copied */
    const int16_t *slot_shards;      /* shard of each of the SLOT_COUNT slots; copied; NULL: slot modulo 16 */
    int32_t incarnation;             /* installation.incarnation */
    size_t cache_runs_bytes;         /* folded state; 0: 256 MiB */
    size_t cache_bodies_bytes;       /* 0: 64 MiB */
    int64_t commands_poll_us;        /* commands are also looked for without a nudge; 0: 1 s */
    int64_t lease_us;                /* of an attempt; 0: 6 s */
    int64_t overdue_us;              /* first republication; then twice and four times that; 0: 15 s */
    int64_t evaluate_wait_us;        /* how long a batch waits for values; 0: 2 ms */
    uint32_t window_min, window_max; /* ready messages per task queue; 0: 64 and 500 */
    uint32_t batch_inputs;           /* 0: 512 */
    size_t batch_bytes;              /* 0: 4 MiB */
    size_t document_max_bytes;       /* of what one expression reads; 0: 4 MiB */
    struct limit_settings limits;    /* of the installation; a standard of 0: as LIMITS_DEFAULT has it */
    int format;                      /* newest event format that it reads and writes; 0: this release's */
    struct sched_journal journal;    /* functions may be NULL (tests) */
};

/* ---- what commit gets: one transaction, all or nothing ---- */
struct sched_event_row {
    struct run_id run;
    int32_t organisation;
    const struct event *event; /* seq, type, at, step, attempt, output */
    struct str data;           /* encoded; STR_NONE: NULL */
};
struct sched_open_row { /* insert into open_work */
    int16_t shard;
    struct run_id run;
    uint32_t seq;
    int32_t organisation;
    enum work_kind kind;
    struct str step;
    uint16_t attempt;
    uint32_t dispatch;
    struct str pool;  /* tasks, else STR_NONE */
    uint8_t priority; /* tasks */
    struct wall_us due_at, opened_at;
    const char *reason; /* NULL: none */
    /* WORK_EVENT: what it waits for (source: STR_NONE, any), and how far it looks back, -1: to the run's beginning */
    struct str event_type, event_source;
    int64_t look_back_us;
};
struct sched_close_row { /* delete from open_work; an absent row is no error */
    int16_t shard;
    struct run_id run;
    uint32_t seq;
};
struct sched_change_row { /* update open_work set dispatch, due_at, reason; never to a smaller dispatch than it has */
    int16_t shard;
    struct run_id run;
    uint32_t seq, dispatch;
    struct wall_us due_at; /* 0: NULL */
    const char *reason;
};
struct sched_run_row { /* update run; 0 and STR_NONE leave a column as it is */
    struct run_id run;
    int32_t organisation;
    enum run_status status;
    bool reopened; /* ended_at and the error columns take what is here, also nothing */
    struct wall_us started_at, ended_at;
    struct str error_code, error_step, error_text;
};
/* insert run, pending, and its command "start"; or, when the organisation has no such workflow or version, or it is
 * disabled, instead of both a command "child_ended" for the parent, status failed, with error code unknown_workflow,
 * unknown_version or workflow_disabled. In the order given. What protects it from being done twice is the parent's
 * event in the same transaction. */
struct sched_child_row {
    int16_t shard; /* of child and parent */
    int32_t organisation;
    struct run_id run, parent;
    struct str parent_step; /* path; also the name of the run's trigger, whose kind is "workflow" */
    struct str workflow;
    int32_t version;           /* 0: the newest */
    uint8_t priority;          /* the parent's */
    uint8_t depth;             /* from 1 */
    struct wall_us created_at; /* as the id says it */
    struct str input;          /* JSON */
};
struct sched_command_key {
    int16_t shard;
    int64_t id;
};
/* In the order given, behind the children. held: an input kept for a quarantined run. Else something for another run of
 * the shard; when there is no such run, nothing; or for a concurrency key, of whatever shard. */
struct sched_command_insert {
    int16_t shard;
    bool held;
    struct run_id run;
    int32_t organisation; /* 0: take it from the run's row */
    const char *kind;     /* "held_result", "held_started"; "child_ended", "cancel"; "slot_ask", "slot_release" */
    struct str body;      /* STR_NONE: NULL */
};
/* What a run asks of a concurrency key, in the order given. When it is there already, or has ended, nothing, but that
 * who has been granted a slot is told so again. Else it gets a slot at once (command "slot_grant" {seq}), when fewer
 * than `bound` are held and nobody waits, or when it takes one anyway; or it waits; or, with mode "skip", it is told
 * that it gets none ("slot_grant" {seq, refused}). With "cancel_oldest" all but the newest `bound` that hold or wait
 * are told to make room
 * ("cancel" {superseded_by}), each once. release: it gives back what it has, or waits no more, unless it has asked
 * after `seq`. After each, who waits longest gets what is free, by its own bound. Commands go to the run's shard,
 * whoever has it. */
struct sched_admission_row {
    int16_t shard; /* of the key */
    struct run_id key, run;
    int32_t organisation;
    bool release;
    uint32_t seq;                    /* of the run's event */
    uint32_t bound;                  /* 0: none. Of an organisation (no workflow) its own max_running_runs goes first */
    struct str mode, workflow, name; /* "queue", "skip", "cancel_oldest", "take"; STR_NONE; JSON text or STR_NONE */
};
struct sched_dead_letter {
    int32_t organisation;  /* 0: the run's, if there is one */
    const char *kind;      /* "message", "command", "task" */
    struct str source;     /* the queue */
    struct str type;       /* of the message, or the kind of the command; STR_NONE: none */
    struct str message_id; /* STR_NONE: none */
    bool has_run;
    struct run_id run;
    struct str step; /* STR_NONE: NULL */
    const char *reason;
    struct str body; /* any bytes, at most 1 MiB */
    size_t bytes;    /* of all of it */
    bool again; /* it may have been written before: not if one with this source, type, message id and body is there */
    bool has_ancestor;
    struct run_id ancestor; /* the dead letter that was requeued, and came to this */
};
struct sched_quarantine_row {
    struct run_id run;
    int32_t organisation; /* 0: not known here, take it from the run's row */
    int16_t shard;
    const char *reason;
};
/* insert into outgoing, for each endpoint of the organisation that wants it. In the transaction of its event: whoever
 * repeats the one repeats the other. */
struct sched_notice {
    int32_t organisation;
    struct run_id run;
    uint32_t seq;     /* of the event */
    const char *type; /* notice.def */
    struct wall_us at;
    struct str workflow, body; /* body: the CloudEvent, JSON */
};
struct sched_batch {
    uint64_t number;
    /* First of all: shard_lock(shards), then shard_assert(me, shards, epochs); also when nothing else is in it. */
    size_t shard_count;
    const int16_t *shards;
    const int64_t *epochs;
    size_t event_count, open_count, close_count, change_count, run_count, child_count;
    const struct sched_event_row *events;
    const struct sched_open_row *opens;
    const struct sched_close_row *closes;
    const struct sched_change_row *changes;
    const struct sched_run_row *runs;
    const struct sched_child_row *children;
    size_t command_delete_count, command_hold_count, command_insert_count;
    const struct sched_command_key *command_deletes;
    const struct sched_command_key *command_holds; /* set held = true */
    const struct sched_command_insert *command_inserts;
    size_t admission_count;
    const struct sched_admission_row *admissions;
    int32_t most_running_runs; /* that an organisation may give itself */
    size_t dead_letter_count, quarantine_count, release_count;
    const struct sched_dead_letter *dead_letters;
    const struct sched_quarantine_row *quarantines; /* on conflict do nothing */
    const struct sched_close_row
        *releases; /* delete the quarantine row, held = false for the run's commands (seq unused) */
    size_t notice_count;
    const struct sched_notice *notices;
};

enum sched_outcome {
    SCHED_COMMITTED,
    SCHED_FENCED,      /* shard_assert refused (RW001): follow up with sched_on_shards once the truth is read */
    SCHED_CONFLICT,    /* unique violation: cached state is stale */
    SCHED_REFUSED,     /* a data error */
    SCHED_UNAVAILABLE, /* certainly not committed: it is sent again after a pause */
    SCHED_UNKNOWN, /* may or may not have been committed; to be said when it cannot happen any more. Where that cannot
                    * be made sure, a late commit costs at most a quarantine that has to be lifted again. */
};
struct sched_commit_outcome {
    enum sched_outcome outcome;
    bool has_run; /* CONFLICT, REFUSED: the error names the run at fault (else the core finds it) */
    struct run_id run;
    struct err err;
    size_t told_count; /* COMMITTED: shards of runs that admissions have told something; may repeat */
    const int16_t *told;
};

/* ---- what evaluate gets ---- */
struct sched_evaluation {
    uint64_t id;
    int32_t organisation;
    const struct plan *plan; /* the version, for programs compiled once per version; kept until answered */
    struct str source;       /* jq */
    struct str document;     /* its input, JSON */
};
struct sched_value {
    uint64_t id;
    enum {
        VALUE_OK,
        VALUE_FAILED /* the expression's own fault */,
        VALUE_AGAIN /* the child died of another's */
    } status;
    struct str value;   /* JSON of the one output */
    struct str message; /* VALUE_FAILED: why */
};

/* A place in a task's `with` where the value of a secret belongs. */
struct sched_secret {
    struct str pointer, name;
};
struct sched_publish {
    const char *queue;      /* routing key on the default exchange; NULL: to every worker */
    const char *type;       /* "task", "grant", "cancel", "update", "result", "started" */
    const char *message_id; /* NULL: none */
    const char *reply_to;   /* NULL: none */
    struct str body;
    /* What has to be added to the body before it goes: "secrets", sealed as they are stored. The arrays and their texts
     * live until the call returns. */
    int32_t organisation;
    size_t secret_count;
    const struct sched_secret *secrets;
    bool persistent;  /* mandatory and confirmed; else fire and forget */
    bool in_memory;   /* ... and lost when a broker of one node restarts: whoever published it does it again */
    uint64_t confirm; /* for sched_on_confirm; 0: nobody cares */
};
struct sched_body_want {
    struct run_id run;
    uint32_t seq; /* event whose output is wanted; 0: the run's input */
};
struct sched_command_want {
    size_t shard_count, aside_count;
    const int16_t *shards;
    const struct run_id *asides; /* whose commands are left out; any number */
};
struct sched_plan_want {
    int32_t organisation;
    struct str workflow;
    int32_t version;
};

struct sched_ports {
    void *ctx;
    struct mono_us (*mono)(void *ctx);
    struct wall_us (*wall)(void *ctx); /* PostgreSQL's clock (db_clock_now) */
    /* -> sched_on_commands: commands of these shards with held = false, by id: of each its part of 4,000, or of 64 MiB.
     * One call at a time. */
    void (*fetch_commands)(void *ctx, uint64_t fetch, const struct sched_command_want *want);
    /* -> sched_on_open_work: all of the shard's open_work and quarantine rows. */
    void (*load_shard)(void *ctx, int16_t shard, int64_t epoch);
    /* -> sched_on_loaded with the same number, in any grouping; every id is answered (found or not) unless its shard is
     * lost meanwhile. Run row, events and open work of a run are read in one statement or one snapshot. */
    void (*load_runs)(void *ctx, uint64_t load, const struct run_id *ids, size_t count);
    void (*load_bodies)(void *ctx, const struct sched_body_want *wants, size_t count); /* -> sched_on_bodies */
    void (*load_plans)(void *ctx, const struct sched_plan_want *wants, size_t count);  /* -> sched_on_plans */
    /* -> sched_on_looked. Steps of these shards that have begun to wait for an event are told, by commands, of those
     * that came before: of one type, as many as is reasonable at once. Each is told of an event here or by whoever
     * takes it, oldest first, never of one twice. One call at a time. */
    void (*look_back)(void *ctx, const int16_t *shards, size_t count);
    void (*commit)(void *ctx, const struct sched_batch *batch);      /* -> sched_on_committed; one at a time */
    void (*publish)(void *ctx, const struct sched_publish *publish); /* -> sched_on_confirm */
    void (*ack)(void *ctx, void *delivery);                          /* acknowledge and free */
    void (*forget)(void *ctx, void *delivery); /* free without acknowledging (its channel is being closed) */
    void (*evaluate)(void *ctx, const struct sched_evaluation *evaluations, size_t count); /* -> sched_on_values */
    /* -> sched_on_queue_depth. Ask on the consuming connection: the answer then comes after what was delivered before.
     */
    void (*queue_depth)(void *ctx, const char *queue);
    void (*close_shard)(void *ctx, int16_t shard); /* close the shard's consuming channels; the core has dropped it */
    void (*shard_released)(void *ctx, int16_t shard); /* answer to sched_release_shard: give the row up now */
    /* A run of the shard needs a newer event format than ours. It is left alone, with what comes for it, as long as the
     * shard is ours: it should become that of somebody who has the format. NULL: nobody has. */
    void (*needs_newer)(void *ctx, int16_t shard);
    /* Is our lease within its time? What is published without one says that it may have been published before: another
     * may have the shard already. NULL: always. */
    bool (*lease_is_live)(void *ctx);
    void (*check_shards)(
        void *ctx); /* a commit was fenced: read who owns what, then sched_on_shards (also without changes) */
};

struct sched *sched_new(const struct sched_ports *ports, const struct sched_settings *settings);
void sched_free(struct sched *sched); /* forgets all deliveries; no other port is called */

/* Does the work that is there. Returns when to be called again at the latest (us INT64_MAX: only after an input). */
struct mono_us sched_tick(struct sched *sched);

/* ---- inputs ---- */
struct sched_shard_change {
    int16_t shard;
    bool gained;   /* false: lost */
    int64_t epoch; /* gained: the new one. Gaining what is held under another epoch counts as lost and gained. */
};
/* Consume a gained shard's inboxes right after this call; a lost shard's channels are closed through close_shard. */
void sched_on_shards(struct sched *sched, const struct sched_shard_change *changes, size_t count);

struct sched_message {
    void *delivery;   /* given back to ack or forget exactly once */
    int16_t shard;    /* of the inbox */
    bool large;       /* from the .large inbox */
    bool redelivered; /* somebody had it before, and may have committed what came of it */
    struct str type, message_id, body;
    uint64_t whole_bytes; /* the body is only the beginning of something that long; 0: it is all of it */
};
void sched_on_message(struct sched *sched, const struct sched_message *message);
void sched_on_heartbeat(struct sched *sched,
                        struct str body); /* from this scheduler's queue at ropewalk.heartbeat; no ack */

struct sched_command {
    int16_t shard;
    int64_t id;
    int32_t organisation;
    struct run_id run;
    struct str kind, body, reply_to; /* body, reply_to may be STR_NONE */
};
/* Commands were written for our shards: they are fetched at once. */
void sched_commands_written(struct sched *sched);
/* Answers fetch_commands. complete: these are all there are (fewer than the bound). failed: could not be read. */
void sched_on_commands(struct sched *sched, uint64_t fetch, const struct sched_command *rows, size_t count,
                       bool complete, bool failed);

/* Answers look_back. told: commands were written; remaining: some have not looked, or not at all that there is. */
void sched_on_looked(struct sched *sched, bool told, bool remaining, bool failed);

struct sched_work_row {
    struct run_id run;
    uint32_t seq;
    int32_t organisation;
    uint32_t weight; /* of the organisation */
    enum work_kind kind;
    struct str step;
    uint16_t attempt;
    uint32_t dispatch;
    struct str pool;
    uint8_t priority;
    struct wall_us due_at;
};
/* Answers load_shard, possibly in several calls; `last` with the last. Runs of the shard are applied only after it.
 * failed: could not be read; the core asks again. Answers for another epoch than the current one are ignored. */
void sched_on_open_work(struct sched *sched, int16_t shard, int64_t epoch, const struct sched_work_row *rows,
                        size_t count, const struct run_id *quarantined, size_t quarantined_count, bool last,
                        bool failed);

/* An organisation's row has changed, perhaps; it need not be known here. */
struct sched_organisation {
    int32_t id;
    uint32_t weight;
    struct str limits; /* its own: JSON */
    int32_t outgoing;  /* odd: somebody is told of its runs; grows with each change */
};
/* True: runs may go on at a time that could not before, as far as is known here. */
bool sched_on_organisations(struct sched *sched, const struct sched_organisation *rows, size_t count);

struct sched_event_loaded {
    uint32_t seq;
    int16_t type;
    struct wall_us at;
    struct str step;
    uint16_t attempt;
    struct str data;
    uint32_t output_bytes; /* length of output as text, 0: NULL */
};
struct sched_loaded_run {
    struct run_id id;
    bool found;  /* false: there is no such run */
    bool failed; /* could not be read; the core asks again */
    int32_t organisation;
    struct str organisation_name;
    uint32_t weight;
    struct str limits; /* of the organisation, its own: JSON; STR_NONE: none */
    int32_t outgoing;  /* of the organisation */
    struct str workflow;
    int32_t version;
    uint8_t priority;
    struct wall_us created_at;
    struct str input, trigger; /* JSON; trigger may be STR_NONE */
    bool has_parent;
    struct run_id parent;
    struct str parent_step;
    uint8_t depth;  /* 0: no child */
    bool begins_so; /* not as its workflow alone says: its first command says how */
    size_t event_count;
    const struct sched_event_loaded *events; /* by seq */
    size_t work_count;
    const struct sched_work_row *work;
};
void sched_on_loaded(struct sched *sched, uint64_t load, const struct sched_loaded_run *runs, size_t count);

struct sched_body {
    struct run_id run;
    uint32_t seq;
    bool failed; /* could not be read; the core asks again */
    struct str body;
};
void sched_on_bodies(struct sched *sched, const struct sched_body *bodies, size_t count);

struct sched_plan_loaded {
    struct sched_plan_want key;
    bool failed;
    struct str document; /* STR_NONE: there is no such version */
};
void sched_on_plans(struct sched *sched, const struct sched_plan_loaded *plans, size_t count);

void sched_on_committed(struct sched *sched, uint64_t batch, const struct sched_commit_outcome *outcome);
void sched_on_values(struct sched *sched, const struct sched_value *values, size_t count);
enum sched_confirm { SCHED_CONFIRMED, SCHED_NOT_CONFIRMED };
void sched_on_confirm(struct sched *sched, uint64_t confirm, enum sched_confirm outcome);
void sched_on_queue_depth(struct sched *sched, const char *queue, bool known, uint32_t ready, uint32_t consumers);
/* Both broker connections are usable, or one is not any more. Leases count only while they are. */
void sched_on_broker(struct sched *sched, bool up);
/* The oldest and the newest event format that live schedulers announce, ours included. What needs a newer one than the
 * oldest is refused, or waits. Both are ours until this is first called. */
void sched_on_formats(struct sched *sched, int oldest, int newest);

/* ---- control ---- */
/* Finish what is in hand of the shard, take nothing new of it, then call shard_released. For rebalancing and SIGTERM.
 */
void sched_release_shard(struct sched *sched, int16_t shard);
/* A run that the journal accuses: quarantined as soon as its shard is here. Call before the first shard is gained. */
void sched_suspect(struct sched *sched, struct run_id run);

/* What the watch has found and put right (orphans.c). */
enum sched_orphan {
#define ORPHAN(name, text, help) ORPHAN_##name,
#include "scheduler/core/orphans.def"
#undef ORPHAN
    ORPHAN_COUNT
};
extern const char *const sched_orphan_names[ORPHAN_COUNT];
/* Reads these open runs again, unless they are in hand, compares their rows with their history, and puts right what
 * differs. A run without events and commands is started: to be said of one only that has none. */
void sched_audit(struct sched *sched, const struct run_id *runs, size_t count);
/* Something was put right by others: count and tell it. */
void sched_orphan(struct sched *sched, struct run_id run, enum sched_orphan reason);

struct sched_queue_stat {
    struct str pool;
    uint8_t priority;
    uint32_t backlog;   /* rows not yet published */
    uint32_t published; /* published and nothing heard yet */
    int64_t oldest_us;  /* age of the oldest of the backlog, 0: none */
    int consumers;      /* when last heard of: 0 none, 1 some; -1: not known */
};
/* What one organisation has waiting in one pool and priority. */
struct sched_load { /* of an organisation, in one queue */
    int32_t organisation;
    uint8_t priority;
    uint32_t waiting; /* tasks that are ready and of which no worker was heard yet */
    /* How long one more would wait for us; 0 where it would wait for workers, which have no room, or for the broker. */
    int64_t delay_us;
};
/* False, and nothing told, when it was asked less than 50 ms ago. */
bool sched_each_load(struct sched *sched, void (*fn)(void *ctx, const struct sched_load *load), void *ctx);
/* A worker that was heard in the last ten seconds, by the tasks that it says it holds. */
struct sched_worker {
    struct str name;
    uint32_t tasks;
    int64_t silent_us;
};
void sched_each_worker(struct sched *sched, void (*fn)(void *ctx, const struct sched_worker *worker), void *ctx);

/* Runs that wait until schedulers are upgraded, for people who ask why. */
enum aside_until {
    ASIDE_UNTIL_FORMATS, /* other schedulers come or go, or the shard is lost: one of them is too old for it */
    ASIDE_UNTIL_LOST,    /* the shard is another's: we are too old for it */
};
void sched_each_aside(const struct sched *sched, void (*fn)(void *ctx, struct run_id run, enum aside_until until),
                      void *ctx);
struct sched_stats {
    uint64_t orphans[ORPHAN_COUNT];
    size_t shards, shards_loading, runs_cached, run_bytes, body_bytes, timers, leases, inputs_waiting, watchers;
    bool batch_in_flight;
};
void sched_get_stats(const struct sched *sched, struct sched_stats *ret);
void sched_each_queue(const struct sched *sched, void (*fn)(void *ctx, const struct sched_queue_stat *stat), void *ctx);

/* The token of a task id as messages carry it: 64 hex digits and NUL. */
#define SCHED_TOKEN_SIZE 65
void sched_task_token(struct str key, int32_t incarnation, struct str task_id, char ret[SCHED_TOKEN_SIZE]);
