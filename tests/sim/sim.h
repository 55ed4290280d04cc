/* The deterministic simulator: real engine, scheduler core and worker core against models of PostgreSQL, RabbitMQ,
 * Redis and the clock. Everything follows from one seed: the workflows, every delay, every fault. One history is one
 * seed; all its memory is one arena. README.md says what is checked. */
#pragma once
#include "scheduler/core/sched_core.h"
#include "tests/tools/history_rules.h"
#include "worker/worker_core.h"

#define MS US_PER_MS
#define SEC US_PER_S
#define SHARDS 4
#define SCHEDULERS 2
#define WORKERS 2
#define WORKFLOWS_MAX 16
#define VERSIONS_MAX 2

struct sim;
struct node;

/* ---- chance ---- */
struct rng {
    uint64_t s;
};
/* Everything that chance adds to the bare course of a history, by kind (decisions.def). Each kind has a stream of
 * chance of its own, and each decision a number within its kind, by which it can be left out: so histories are shrunk.
 */
enum decision {
#define DECISION(id, name, explains, what) DECIDE_##id,
#include "tests/sim/decisions.def"
#undef DECISION
    DECISIONS
};
extern const char *const decision_names[DECISIONS];
extern const bool decision_explains[DECISIONS]; /* may an effect be repeated because of it? */
#define MASK_BITS 2048
struct mask { /* what is left out */
    bool all[DECISIONS];
    uint64_t bits[DECISIONS][MASK_BITS / 64];
};
/* "run:1-3,crash,step:7"; false: it does not say that. */
bool mask_parse(const char *text, struct mask *ret);
void mask_print(const struct mask *mask, const uint32_t asked[DECISIONS]);
bool mask_has(const struct mask *mask, enum decision kind, uint32_t number);
void mask_set(struct mask *mask, enum decision kind, uint32_t number, bool out);
/* The next decision of its kind is taken; false: it is left out. */
bool sim_decides(struct sim *sim, enum decision kind);
/* ... when chance wants it. */
bool sim_chances(struct sim *sim, enum decision kind, uint32_t of_ten_thousand);
/* The decision of a number that does not follow from the order of asking. */
bool sim_keeps(struct sim *sim, enum decision kind, uint32_t number);
/* It has happened, or goes on until then. */
void sim_happened(struct sim *sim, enum decision kind, int64_t until);
struct rng sim_rng(const struct sim *sim, enum decision kind, uint64_t number); /* chance of its own for one of them */
uint64_t rng_next(struct rng *rng);
uint32_t rng_below(struct rng *rng, uint32_t n);
bool rng_chance(struct rng *rng, uint32_t of_ten_thousand);
int64_t rng_between(struct rng *rng, int64_t low, int64_t high);

/* ---- events of the simulation ---- */
typedef void (*sim_fn)(struct sim *sim, void *what);
/* node NULL: of the world; else it waits while the node is frozen and is dropped when that life of it has ended. */
void sim_at(struct sim *sim, int64_t at, struct node *node, sim_fn fn, void *what);
void sim_after(struct sim *sim, int64_t low, int64_t high, struct node *node, sim_fn fn, void *what);
typedef unsigned __int128 sim_due;
struct sim_event {
    int64_t at;
    uint32_t order;
    struct node *node;
    uint32_t incarnation;
    sim_fn fn;
    void *what;
};
/* The next that is to be done, with its time come: not of a life that is over, and of who is frozen when it wakes. */
bool sim_take(struct sim *sim, struct sim_event *ret);
#define sim_new(sim, type) ((type *)arena_alloc((sim)->arena, sizeof(type)))

/* ---- PostgreSQL ---- */
struct db_event {
    uint32_t seq;
    int16_t type;
    int64_t at;
    struct str step, data, output;
    uint16_t attempt;
    uint32_t notices; /* that were written of it */
};
struct db_work {
    bool open;
    struct sched_open_row row;
    /* of a wait for an event: how far it looks back; it has done so; events that it has looked at, or passed by */
    int64_t since;
    bool looked;
    size_t seen;
};
struct db_incoming { /* an event that was taken, in the order of arrival */
    int64_t at;
    struct str type, source, json;
};
struct db_workflow {
    const char *name;
    bool disabled;
    int32_t version_count;
    struct str documents[VERSIONS_MAX];
    struct plan *plans[VERSIONS_MAX]; /* for checks */
};
struct db_run {
    uint32_t number;
    struct run_id id;
    int16_t shard;
    const struct db_workflow *workflow;
    int32_t version;
    struct plan *plan; /* of the workflow's version */
    struct str input, trigger;
    uint8_t priority, depth;
    struct db_run *parent;
    struct str parent_step;
    enum run_status status;
    int64_t created_at, ended_at; /* created_at 0: nobody has asked for it yet */
    bool refuses;                 /* PostgreSQL refuses its third event: a data error */
    bool quarantined;             /* has a row */
    bool damaged;                 /* its rows are not what they should be, until the watch has seen to it */
    bool left_out;                /* nobody ever starts it */
    bool suspected;               /* a scheduler has accused it of its death */
    int64_t closed_at;            /* when its end was committed */
    bool asked_to_pause;          /* and was answered */
    uint32_t ends, told;          /* how often it has ended, and its parent was told so */
    size_t event_count, event_cap;
    struct db_event *events;
    size_t work_count, work_cap;
    struct db_work *work;
    /* what its history says so far, kept by the checks */
    struct run_state *state;
    struct history *history;
    size_t checked;
    struct str given; /* of a rerun: the outcomes that were copied for it; STR_NONE: it is none, or does all of it */
    uint32_t holds[ADMISSION_SCOPES]; /* the limit it was admitted by, 0: not, or it has ended since */
};
#define NO_RUN UINT32_MAX
struct db_command {
    int16_t shard;
    int64_t id;
    uint32_t run;      /* NO_RUN: it is for a concurrency key */
    struct run_id key; /* ... this one */
    const char *kind;
    struct str body, reply_to;
    bool held, deleted;
};
/* A slot of a concurrency key, held or waited for, in the order in which they were asked for. */
struct db_admission {
    struct db_admission *next;
    struct run_id key;
    struct db_run *run;
    uint32_t seq, bound;
    bool granted, told, gone;
};
struct db_member { /* of the table scheduler; name "": no row */
    char name[16];
    struct run_id incarnation;
    int64_t lease_until; /* by PostgreSQL's clock */
    int format;
    int64_t since; /* its lease has been without a gap */
};
struct db_shard {
    bool owned;
    struct run_id incarnation;
    int64_t epoch;
    int format; /* that its runs need */
};
struct db {
    struct db_workflow workflows[WORKFLOWS_MAX];
    uint32_t workflow_count;
    struct db_run **runs;
    uint32_t run_count, run_cap;
    struct map *by_id;
    struct db_command *commands;
    size_t command_count, command_cap, command_first; /* those before the first are deleted */
    struct db_incoming *incoming;
    size_t incoming_count, incoming_cap;
    struct db_admission *admissions;
    uint32_t max_running_runs;  /* of the organisation, 0: it has no limit */
    uint32_t most_running_runs; /* ... that it has had so far; UINT32_MAX: it had none for a while */
    struct str limits;          /* all of its own, JSON; STR_NONE: none */
    struct db_shard shards[SHARDS];
    struct db_member members[SCHEDULERS + 1];
    bool stranger; /* one of them is nobody of ours */
    size_t commits, conflicts, fenced, refused, unknown, dead_letters, letter_cap;
    struct sched_dead_letter *letters; /* what tells them apart */
    struct transaction *open, *muted;
    bool hold, mute; /* batches go no further than to their first row; their answers do not come */
    int64_t down_until;
    int64_t clock_offset; /* of its clock, to ours */
    bool changed;         /* since somebody looked whether all is at rest */
    bool late_hold;       /* a transaction that nobody waited for any more has quarantined or released a run */
};
int db_oldest_format(const struct sim *sim, int64_t us); /* of the schedulers that have lived for so long */
int64_t db_wall(const struct sim *sim);                  /* what PostgreSQL's clock shows */
void db_jump(struct sim *sim, int64_t us);
struct db_run *db_find(struct sim *sim, struct run_id id); /* NULL: none */
struct db_run *db_run_add(struct sim *sim, struct run_id id, const struct db_workflow *workflow, int32_t version);
struct db_workflow *db_workflow_find(struct sim *sim, struct str name);
int64_t db_command_add(struct sim *sim, uint32_t run, const char *kind, struct str body, struct str reply_to);
int64_t db_key_command_add(struct sim *sim, struct run_id key, const char *kind, struct str body);
bool db_key_is_asked(const struct sim *sim, struct run_id key); /* is a command for it on its way? */
/* NULL: the run neither holds a slot of the key nor waits for one. */
struct db_admission *db_find_admission(struct sim *sim, struct run_id key, const struct db_run *run);
void db_make_scheduler_ports(struct sched_ports *ports);
/* model_events.c: a gateway takes an event; a step begins to wait for one; the port. */
void db_event_comes(struct sim *sim, struct str type, struct str source, struct str data);
void db_wait_opened(struct sim *sim, const struct db_run *run, struct db_work *work);
void db_look_back(void *ctx, const int16_t *shards, size_t count);
bool db_waits_for(const struct db_work *work, const struct db_incoming *event); /* by type and source */
/* damage.c: rows of open work are lost ("lost"), or one is there that should not be ("stray"). */
void db_damage(struct sim *sim, struct db_run *run, const char *kind);
struct node *db_owner(struct sim *sim, int16_t shard); /* NULL: none of those that live */
void db_stranger_comes(struct sim *sim);               /* a third scheduler joins for a while: shards are handed over */

/* ---- RabbitMQ ---- */
struct sim_message {
    struct str type, message_id, body;
    uint64_t place;  /* in its queue: rises */
    int64_t sent_at; /* in whole seconds, of the clock of who sent it; 0: not said */
    bool redelivered;
    bool in_memory; /* a restart loses it */
};
/* Of what is published: it may be lost on the way; it is there when it is confirmed, until the broker restarts; or even
 * then. */
enum care { CARE_NONE, CARE_CONFIRMED, CARE_KEPT };
struct consumer;
struct sim_delivery {
    struct consumer *consumer;
    struct sim_message message;
    bool settled;
};
struct consumer {
    struct consumer *next;
    struct queue *queue;
    struct node *node;
    uint32_t incarnation;
    int16_t shard;
    bool large, closed, cancelled;
    int64_t priority;
    uint32_t prefetch;
    int64_t delivered_at; /* when the last message arrives that is on its way */
    struct sim_delivery **unacked;
    size_t unacked_count, unacked_cap;
};
struct queue {
    struct queue *next;
    const char *name;
    struct sim_message *messages; /* ring would be faster; these are short */
    size_t count, cap;
    uint64_t places; /* given so far */
    struct consumer *consumers;
    uint32_t turn;
    uint32_t home; /* node of the broker */
    int64_t away_until;
};
#define BROKER_NODES 3
void broker_init(struct sim *sim);
struct consumer *broker_consume(struct node *node, const char *queue, int16_t shard, bool large, int64_t priority,
                                uint32_t prefetch);
void broker_close(struct sim *sim, struct consumer *consumer);
void broker_close_node(struct sim *sim, struct node *node);
void broker_settle(struct sim *sim, struct sim_delivery *delivery, bool requeue);
typedef void (*confirm_fn)(struct sim *sim, struct node *node, uint64_t id, void *ptr, bool confirmed);
void broker_publish(struct node *node, const char *queue, const char *type, const char *message_id, struct str body,
                    enum care care, confirm_fn confirm, uint64_t id, void *ptr);
void broker_put(struct sim *sim, const char *queue, const char *type, const char *message_id, struct str body);
void broker_heartbeat(struct node *node, struct str body);
void broker_depth(struct node *node, const char *queue);
void broker_declare(struct sim *sim, const char *queue);
void broker_delete(struct sim *sim, const char *queue);
void broker_purge_queue(struct sim *sim, const char *queue);
void broker_purge(struct sim *sim, struct rng *rng, bool everything);
void broker_lose_node(struct sim *sim, uint32_t lost, int64_t down_us, bool empty);
void broker_block(struct sim *sim, int64_t us);
void broker_heal(struct sim *sim);
/* What was only in memory is gone. */
void broker_forget(struct sim *sim);
void broker_restart(struct sim *sim, int64_t down_us);
void broker_pump(struct sim *sim);

/* ---- Redis ---- */
void cache_ask(struct node *node, struct job *job, size_t argc, const struct str *argv);
void cache_flush(struct sim *sim);
void cache_fail_over(struct sim *sim, int64_t lost_us);           /* what was written in the last moments is gone */
void cache_read_old(struct sim *sim, int64_t lag_us, int64_t us); /* for a while reads are answered by a replica */

/* ---- nodes ---- */
#define DEATHS_NOTED 16
enum node_kind { NODE_SCHEDULER, NODE_WORKER };
struct node {
    struct sim *sim;
    enum node_kind kind;
    int index;
    uint32_t incarnation; /* lives so far; the current one when alive */
    bool alive, broker_up;
    int64_t frozen_until;
    int64_t link_until;      /* no connection to the broker sooner */
    bool has_journal, dying; /* a run is being applied; it is the last that this life does */
    struct run_id journal;
    uint32_t deaths[DEATHS_NOTED];           /* by run */
    int64_t cache_answered_at;               /* when the last answer of Redis arrives that is on its way */
    int64_t published_at;                    /* when the last message arrives that it has sent */
    uint32_t connection;                     /* to the broker: how many it has lost */
    int64_t mono_base, wall_skew, db_offset; /* of its clocks to the simulation's; of PostgreSQL's as last seen */
    char name[32], control[64];
    /* scheduler */
    struct sched *sched;
    int format; /* event format of its release */
    bool tick_planned;
    int64_t wake_at;
    struct lease *lease;
    bool tight;                /* it takes next to nothing at once */
    int64_t consuming[SHARDS]; /* the epoch under which its inboxes are consumed; 0: they are not */
    bool handing[SHARDS];      /* to the other, when it is released */
    uint32_t strange[SHARDS];  /* how often in a row it was found to consume what is not its own */
    struct consumer *inboxes[SHARDS][2];
    bool commit_in_flight;
    /* worker */
    struct worker_core *worker;
    struct consumer *tasks[PRIORITY_COUNT];
    struct consumer *control_consumer;
    struct call *calls;
    struct waiting_batch *batches;
};
void node_start(struct sim *sim, void *node);
int64_t node_wall(const struct node *node); /* what its messages say of the time: PostgreSQL's clock, or its own */
void node_crash(struct sim *sim, struct node *node);
void node_freeze(struct sim *sim, struct node *node, int64_t us);
void node_disconnect(struct sim *sim, struct node *node); /* from the broker, for a moment */
void node_turn(struct node *node);                        /* inputs came: do the work of a turn soon */
void scheduler_start(struct node *node);
void scheduler_stop(struct node *node);
void scheduler_connected(struct node *node);
void scheduler_hand_over(struct node *node, int16_t shard); /* it gives the shard up, and the other takes it */
void scheduler_check_inboxes(struct node *node); /* each second: it consumes nothing for long that is another's */
void scheduler_deliver(struct node *node, struct sim_delivery *delivery);
void worker_start(struct node *node);
void worker_stop(struct node *node);
void worker_connected(struct node *node);
void worker_deliver(struct node *node, struct sim_delivery *delivery);

/* ---- the world that steps call ---- */
struct call {
    struct call *next;
    struct job *job;
    struct node *node;
    uint32_t incarnation;
    bool answered, aborted, once, sent;
    struct str key, run_step;
};
void world_begin(struct node *node, struct job *job, const struct task *task, int64_t bound_us, bool once);
void effect_published(struct sim *sim, struct str task_id); /* a task goes out, for the first time or again */
void world_abort(struct node *node, struct job *job);

/* As plan_compile. Both schedulers, each life of them and the checks want the same documents: they share the plans,
 * which are immutable, and cost a quarter of a history otherwise. */
struct plan *sim_plan_compile(struct str document, const struct plan_limits *limits, struct plan_faults *faults);

/* What jq would give for an expression that documents.c writes. False: *ret is the message of its failure. */
bool world_evaluate(struct arena *arena, struct str source, struct str document, struct str *ret);

/* ---- points at which a directed history does something (script.h) ---- */
/* What is to become of the message or transaction at a point. */
struct point {
    bool lost, doubled, unconfirmed, unknown, undone, conflict, unavailable;
    int64_t late_us;
};
/* A point is passed, by that node; its name is only put together for who listens. */
__attribute__((format(printf, 3, 4))) struct point sim_point(struct sim *sim, struct node *node, const char *format,
                                                             ...);
/* "0:s0/1/1" of a message that names a task of run 0. */
const char *sim_task_name(struct sim *sim, const struct sim_message *message);

/* ---- load, faults, checks ---- */
void documents_make(struct sim *sim); /* the workflows of a history */
void generate_runs(struct sim *sim);
void documents_add(struct sim *sim, const char *name, struct str document);
void load_start(struct sim *sim, void *run);
void load_request(struct sim *sim, struct db_run *run, const char *kind, struct str body);
void load_look_after(struct sim *sim);
void load_nudge(struct sim *sim, int16_t shard);
struct run_id load_make_id(struct rng *rng);
/* operators.c: of all runs at once; a run once more in a new one; other limits of the organisation. */
#define RERUNS_UP_TO 40 /* runs, reruns and children among them */
void operators_ask_all(struct sim *sim, struct rng *rng);
void operators_rerun(struct sim *sim, struct rng *rng, const struct db_run *old);
void operators_change_limits(struct sim *sim, struct rng *rng);
void operators_make_limits(struct sim *sim, struct rng *rng); /* of the beginning */
void check_given(struct sim *sim, const struct db_run *run, const struct event *event);
void stranger_sends(struct sim *sim, const struct db_run *run, const char *kind, const char *task);
void world_tell_sends(struct sim *sim, struct buf *out);
void faults_plan(struct sim *sim);
void strangers_plan(struct sim *sim);
bool stranger_takes(struct node *node, struct sim_delivery *delivery);
void sim_heal(struct sim *sim);
/* After each commit that touched a run: its new events are folded and held against the rules. */
void check_run(struct sim *sim, struct db_run *run);
/* Before an event is written: can every scheduler that has been here for a while read it? */
void check_format(struct sim *sim, const struct db_run *run, const struct event *event);
/* check_admission.c: no more runs go on than their keys allow; who goes on holds a slot, and gives it back. */
void check_admission(struct sim *sim, struct db_run *run, const struct event *event);
void check_slots(struct sim *sim, const struct db_run *run);
void check_slots_free(struct sim *sim);
bool check_waits_behind_excused(struct sim *sim, const struct db_run *run); /* for a slot of theirs */
/* A result that is acknowledged is in the history, or kept for a quarantined run. */
void check_acknowledged(struct sim *sim, const struct sim_delivery *delivery);
/* A command that is gone was answered. */
void check_command_gone(struct sim *sim, const struct db_command *command);
bool check_excused(struct sim *sim, const struct db_run *run); /* it, or a child of it, is in quarantine */
void check_end(struct sim *sim);
/* check_data.c: is the output of this event what the documents before it say? */
void check_output(struct sim *sim, struct db_run *run, const struct event *event);
struct str check_output_of(struct sim *sim, const struct db_run *run, const struct past_step *step);
__attribute__((format(printf, 2, 3))) void sim_fail(struct sim *sim, const char *format, ...);

/* One line to stderr with the virtual time, with --log; else its arguments are not even looked at. */
#define sim_trace(sim, ...) ((sim)->verbose ? sim_trace_line((sim), __VA_ARGS__) : (void)0)
__attribute__((format(printf, 2, 3))) void sim_trace_line(struct sim *sim, const char *format, ...);

/* What operators and limits do to runs. */
enum operation {
#define OPERATION(id, what) OPERATION_##id,
#include "tests/sim/operations.def"
#undef OPERATION
    OPERATIONS
};
struct sim_stats {
    uint64_t operations[OPERATIONS], crashed[OPERATIONS]; /* crashed: soon after a process had died */
    uint64_t happened[DECISIONS], repeated, repeated_by[DECISIONS];
    uint64_t dead_letters, released, children, items, signals, woken, actions, settled, reopened;
    uint64_t histories, runs, events, commits, conflicts, fenced, refused, unknown, crashes, freezes, outages,
        republished, duplicates, sends, quarantined, ended[16];
};

struct sim {
    struct arena *arena;
    const struct play *play;
    uint64_t seed;
    struct rng rng; /* delays, and what no decision hangs on */
    struct rng streams[DECISIONS];
    uint32_t asked[DECISIONS]; /* decisions so far, those left out among them */
    uint32_t made;             /* those not left out */
    int64_t last[DECISIONS];   /* until when the last of each kind lasted */
    int64_t now, start_wall;
    sim_due *due;
    struct sim_event *events;
    uint32_t due_len, due_cap;
    uint32_t next_order;
    struct db db;
    struct queue *queues;
    int64_t broker_down_until, broker_blocked_until;
    struct map *cache;
    int64_t cache_down_until, cache_old_until, cache_lag_us;
    struct {
        int64_t from, to;
    } cache_forgotten[8]; /* writes of then are gone */
    uint32_t cache_forgotten_count;
    struct node nodes[SCHEDULERS + WORKERS];
    struct map *sends;   /* at_most_once: run/step -> times sent */
    struct map *calls;   /* run/step -> times called */
    struct map *effects; /* task id, attempt -> what is known of it */
    struct step_sends *step_sends;
    struct point (*on_point)(struct sim *sim, struct node *node, const char *name); /* NULL: nobody listens */
    uint32_t points[16]; /* how often each point of the script was passed */
    bool quiet;          /* nothing happens by chance */
    bool healed;         /* no more faults */
    bool damaged;        /* there is something for the watch to put right */
    bool failed;
    bool verbose;
    uint64_t traced;
    bool late; /* transactions may be carried out after they were called unknown */
    char failure[1024];
    /* how bad this history is: chances of ten thousand */
    uint32_t lose, duplicate, reorder, unknown_commit, refuse_commit, fail_load, late_answers, strangers, suspect;
    struct sim_stats *stats;
};
void stats_operation(struct sim *sim, enum operation operation);
/* What a history follows from. */
struct play {
    uint64_t seed;
    uint64_t delays;             /* another course of the same decisions; 0: the seed's own */
    int64_t until_us;            /* faults end then; 0: after 40 s */
    const struct script *script; /* a directed history; NULL: all follows from the seed */
    bool noise;                  /* directed, with faults of chance around it */
    int64_t end_us;              /* what is not at rest then is stuck; 0: after 4 h */
    struct mask without;
    bool verbose, late;
    uint64_t trace_skip; /* verbose: so many lines are not written */
};
struct played {
    bool failed;
    char failure[1024];
    uint32_t asked[DECISIONS], made; /* made: not left out, of all kinds */
    uint64_t events, rows;           /* of the simulation; of all histories in the table */
    uint64_t traced;                 /* verbose: lines */
};
void sim_run(const struct play *play, struct sim_stats *stats, struct played *ret);
/* Reduces a history that fails to a short one that fails the same way; prints it. False: it does not fail. */
bool shrink(const struct play *play);
