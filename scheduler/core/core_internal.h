/* What the files of the scheduler's core share. Not for the shell.
 *
 * The objects: an *input* is one thing to apply (a result of a message, a command, a timer that is due). It waits at
 * the *entry* of its run in the cache. When the run is here, a *work* takes inputs and gathers what they change; works
 * make a *batch*, which is one transaction. An *item* is a row of open work in memory: timer, backlog, task in a queue,
 * or task under a lease. */
#pragma once
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "scheduler/core/list.h"
#include "scheduler/core/sched_core.h"
#include <inttypes.h>
#include <stdio.h>

#define NEVER INT64_MAX
#define EVENTS_PER_BATCH 1000 /* of one run */
#define LARGE_RESULT_BYTES (64 * 1024)
#define BODY_IN_UPDATE_BYTES 4096
#define DEAD_LETTER_MAX_BYTES (1024 * 1024)
#define QUEUE_NAME_SIZE 160

struct shard {
    int16_t number;
    bool owned;     /* else it is only kept because works in flight still point to it */
    bool ready;     /* its open work is here: runs may be applied */
    bool releasing; /* nothing new is begun */
    bool released;  /* the shell has been told */
    int64_t epoch;
    uint64_t fetch_barrier; /* answers of fetches up to this one are of before it was gained */
    uint32_t works;         /* not yet ended */
    uint64_t batch_mark;
    struct link entries, items;   /* struct run_entry.in_shard, struct item.in_shard */
    bool opening;                 /* load_shard is under way */
    struct mono_us open_again_at; /* it failed: ask again */
};

struct org {
    int32_t id;
    uint32_t weight;
    char name[64];
    struct limits limits; /* what holds for it */
    bool limited;         /* it has values of its own */
    int32_t outgoing;     /* odd: somebody is told of its runs */
};

struct plan_info {
    struct hnode node;
    int32_t organisation, version;
    struct str workflow;
    struct plan *plan; /* NULL: not here */
    bool asked, absent;
    bool unreadable; /* it is there, but not for this release */
    struct mono_us ask_at;
    bool *output_read;             /* per step: some template reads its output */
    bool *item_read;               /* per step, of loops: something in the body reads .item */
    bool signal_read;              /* some template reads what a wait_signal step has taken */
    struct link users;             /* entries that wait for it: run_entry.waits_plan */
    bool input_read;               /* some template reads the run's input */
    struct arena *schema_arena;    /* NULL: its input_schema was not needed yet */
    const struct schema *schema;   /* NULL: it has none */
    struct link in_lru, in_wanted; /* sched.plans_lru, sched.plans_wanted */
    uint32_t entries;              /* that point to it */
};

/* ---- inputs ---- */
struct delivery {
    void *handle;
    int16_t shard; /* of the inbox */
    int64_t epoch;
    uint32_t refs;
    bool again;                  /* what comes of it may be committed already */
    uint64_t whole_bytes;        /* of what the message holds only the beginning; 0: it is whole */
    struct arena *arena;         /* decoded text; NULL while none was needed */
    struct link link;            /* sched.deliveries */
    struct str type, message_id; /* the shell's, as long as the handle */
    struct input *inputs;
};

struct command;
enum input_kind {
    INPUT_ENGINE,
    INPUT_RELEASE,
    INPUT_UNKNOWN_COMMAND,
    INPUT_REFUSED,   /* a command that says nothing that could be done: `refusal` */
    INPUT_ADMISSION, /* a run asks something of a concurrency key: `admission` */
    INPUT_NOTHING,   /* nobody waits for a verdict on it; a dead letter */
    INPUT_REPAIR,    /* open work is not what the history asks for: run_entry.repair says how to mend it */
};

struct input {
    struct input *next;
    enum input_kind kind;
    struct engine_input in;
    struct run_id run;
    uint32_t seq;              /* IN_LOST: of the open work; step and attempt are looked up when it is applied */
    struct delivery *delivery; /* of a message, or */
    struct command *command;   /* of a command; neither: of a timer or lease */
    struct str raw;            /* the result or started as it came */
    struct str reply_to;       /* started: the worker's control queue */
    const char *dead;          /* a dead letter of `raw` goes with it: why */
    const char *refusal;       /* INPUT_REFUSED: why */
    const struct sched_admission_row *admission; /* INPUT_ADMISSION; of the command's arena */
    uint32_t bytes;
};

struct command {
    struct hnode node; /* sched.commands, by id */
    int64_t id;
    struct shard *shard;
    uint64_t done_fetch; /* committed while fetches up to this one might still show it */
    struct link link;    /* sched.commands_done */
    struct str kind, body, reply_to;
    bool requeued;        /* it is what a dead letter held, with body and kind of that */
    bool message;         /* ... of a message */
    struct run_id letter; /* ... of this one */
    struct arena *arena;  /* decoded text of held results; may be NULL */
    struct input input;
};

/* ---- runs ---- */
enum entry_state {
    ENTRY_EMPTY,
    ENTRY_LOADING,
    ENTRY_PLAN,
    ENTRY_HERE,
    ENTRY_ABSENT,
    ENTRY_BEYOND, /* it needs a newer release: left alone until its shard is another's */
};

struct own_key {       /* an Idempotency-Key that the document gave, of the step's first dispatch */
    struct hnode node; /* run_entry.keys, by path: nodes go from one iteration to the next */
    struct str key;    /* JSON text as in the event's detail */
};

struct run_entry {
    struct hnode node; /* sched.runs */
    struct run_id id;
    struct shard *shard;
    enum entry_state state;
    bool lost;                 /* its shard went away while a work had it in hand: dies with the work */
    bool reload;               /* its cached state is not to be trusted */
    bool unloadable;           /* its history could not be folded */
    bool greet;                /* somebody who watches has not heard of it yet */
    bool audit;                /* the watch wants it looked at */
    bool begins_so;            /* only its first command says how it starts */
    bool passing;              /* only the watch wants it: the first to go when room is needed */
    struct repair *repair;     /* what a load has found to mend; NULL: nothing */
    struct mono_us recheck_at; /* load it once more: 0 not */
    uint64_t load;             /* number of the load asked for */
    struct run_state *run;
    struct org *org;
    struct plan_info *plan;
    struct sched_loaded_run *pending; /* ENTRY_PLAN: what was loaded, in pending_arena */
    struct arena *pending_arena;
    struct link waits_plan;
    struct str trigger;     /* owned */
    struct str parent_step; /* of a child: what waits for its end; owned */
    struct str input_fault; /* of a child that has not started: how its input breaks the input_schema; owned */
    struct str document;    /* {"id", "workflow", ...} for expressions; owned, made when first read */
    struct htable keys;     /* of steps that have not ended */
    size_t key_bytes;
    struct input *first, **last;
    uint32_t input_count;
    struct work *work;
    struct link in_shard, in_lru, in_recheck;
    struct link in_list;   /* sched.to_load, sched.ready or sched.delayed */
    struct link wanting;   /* items picked for publication that wait for state or body: item.list */
    uint64_t bodies_round; /* the newest time that it was told of bodies */
    uint32_t tries;        /* loads or stale inputs in a row */
    struct mono_us not_before;
    size_t bytes;
};

struct element { /* of a list: where it is in the text */
    uint32_t at, len;
};

struct body {
    struct hnode node;
    struct run_id run;
    uint32_t seq;
    struct link in_lru;
    bool asked, here;
    struct mono_us used, ask_at;
    struct str text;          /* owned */
    struct element *elements; /* when somebody has asked for one; owned */
    uint32_t element_count;
};

/* ---- open work in memory ---- */
enum item_state {
    ITEM_IDLE,      /* a timer, or a task that was deferred */
    ITEM_BACKLOG,   /* ready, not published: in its organisation's list */
    ITEM_FETCHING,  /* picked; its run or body is being brought: in run_entry.wanting */
    ITEM_PUBLISHED, /* nothing heard of it yet: in task_queue.unheard[] */
    ITEM_LEASED,    /* some worker has it: in sched.leases */
    ITEM_DOUBTED,   /* its lease is over; whether that counts is being found out: in sched.doubted */
    ITEM_LOSING,    /* IN_LOST is on its way */
};

struct item {
    struct hnode node;    /* sched.items, by run and seq */
    struct hnode by_step; /* sched.task_items, by run and path of the step; tasks only */
    struct hnode by_run;  /* sched.item_runs: of the first item of a run; the others hang on it */
    struct link of_run;
    struct run_id run;
    uint32_t seq;
    uint32_t slot, generation; /* of the slab: for confirms */
    struct shard *shard;
    struct org *org;
    uint8_t kind; /* enum work_kind */
    uint8_t state, priority;
    uint8_t tries;    /* republications because nothing was heard */
    bool leads;       /* it is the first of its run */
    bool firing;      /* its timer input is on its way */
    bool unconfirmed; /* its message is on its way to the broker, for all we know */
    bool told;        /* workers have been told not to go on with it */
    bool deferred;    /* a task that waits for due_at before it is published again */
    bool in_line;     /* of the backlog: in its line */
    uint16_t attempt;
    uint32_t dispatch;
    uint32_t publications;
    uint64_t mark; /* load that saw it */
    struct task_queue *queue;
    struct link list, in_shard;
    struct wall_us due_at; /* as in the row */
    struct wall_us fire_at;
    uint32_t heap_pos;   /* from 1; 0: not in the heap */
    int64_t order;       /* of publication within its queue */
    int16_t reply_shard; /* whose inbox its message named */
    struct mono_us published_at, ready_at, lease_until;
    char token[SCHED_TOKEN_SIZE]; /* of the dispatch as it was published; empty: not yet */
    struct str worker_queue;      /* leased: the control queue; owned */
    uint64_t granted;             /* at_most_once: hash of the worker that may send, 0: none that we know of */
};

/* What was begun is ended first: a task that ends hands its turn on to one that it made ready, so that of a backlog
 * runs end, instead of all going forward in step. Everything else stands in line. */
enum task_place {
    PLACE_LINE,
    PLACE_NEXT,  /* behind what others have handed on */
    PLACE_FIRST, /* it has had its turn already */
};
struct org_backlog {
    struct link link; /* task_queue.orgs; an organisation without items is not in it */
    struct link next, line;
    struct org *org;
    struct task_queue *queue;
    uint32_t count, line_count, credit;
    uint32_t passed_by; /* turns that `next` has had since the line had one */
    uint32_t picked;    /* from the backlog, and about to be published */
    uint32_t published; /* and nothing heard of them yet */
    uint32_t begun;     /* turns of the line, since the load was last looked at */
    int64_t rate;       /* of them in a second, of late */
};

#define OVERDUE_LEVELS 3
struct task_queue {
    struct task_queue *next;
    struct str pool;
    uint8_t priority;
    char name[QUEUE_NAME_SIZE];
    struct link orgs;     /* round robin: the first is next */
    struct map *backlogs; /* organisation id -> struct org_backlog */
    uint32_t backlog_count;
    uint32_t published_count;
    uint32_t unconfirmed;                /* of them: no depth counts these yet */
    uint32_t picked;                     /* from the backlog, and about to be published */
    struct link unheard[OVERDUE_LEVELS]; /* by time of publication */
    int64_t ready;                       /* messages that wait in the broker, as far as we know */
    int64_t since_asked;                 /* published since the depth was asked for */
    int64_t next_order, heard_order;
    int64_t doubted_order; /* what was published until then may be lost with the broker's memory; 0: nothing */
    bool asking;
    bool no_consumers;   /* when it was last asked */
    bool consumers_told; /* it has been asked, or somebody has taken a task */
    struct mono_us asked_at, consumers_since;
    struct mono_us heard_at;     /* a task of it was last begun or ended */
    struct mono_us paused_until; /* a publication was not confirmed */
    uint32_t last_depth;
    struct mono_us looked_at;    /* at its depth, while there was a backlog */
    uint32_t empty_share;        /* of looks of late that found it empty; see task_share.c */
    struct mono_us window_start; /* tasks finished in this and the last 100 ms */
    uint32_t finished, finished_before;
    uint32_t reserve;          /* of the window, beyond what the pace asks for */
    uint32_t empty_looks;      /* in a row, at its depth */
    int64_t took_us, total_us; /* of late, of tasks: by their workers, and from publication to answer */
};

/* ---- applying ---- */
struct grant {
    struct grant *next;
    struct str queue, task_id;
    int64_t ask; /* number of the question; 0: it was no such */
    bool go;
};
#define ASK_AFTER_US                                                                                                   \
    (1 * US_PER_S) /* whoever begins a task later asks first: nothing cancelled begins later than this */

struct repair_row { /* of open work, to be inserted again */
    struct repair_row *next;
    struct sched_work_row work;
    struct wall_us opened_at;
    uint32_t node;
};
struct repair { /* lives in its own arena */
    struct arena *arena;
    struct repair_row *missing;
    size_t missing_count;
    uint32_t *stray; /* seqs of rows to be deleted */
    size_t stray_count;
    bool start, wake;
};

struct eval_job;
struct eval_ask { /* one expression at the sandbox */
    struct hnode node;
    uint64_t id;
    struct work *work; /* NULL: nobody waits for it any more */
    struct eval_job *job;
    uint32_t index; /* of the expression */
    uint32_t tries;
    int32_t organisation;
    struct plan *plan; /* referenced */
    struct str source, document;
    struct eval_ask *next_of_work;
};
struct eval_job {
    struct eval_job *next;
    uint32_t node, index, question;
    enum eval_purpose purpose;
    const struct template *template;
    const struct frame *frame; /* whose steps it sees */
    struct str *values;
    bool *have, *asked;
    uint32_t missing;
    bool wants_body;
    bool done, failed;
    struct str message;
};

struct work {
    struct link link;        /* sched.evaluating, sched.collecting or batch.works */
    struct run_entry *entry; /* NULL: only a dead letter */
    struct shard *shard;
    struct arena *arena;
    struct effects fx;
    struct wall_us now;
    struct input *first, **last; /* applied */
    uint32_t input_count;
    size_t bytes;
    struct eval_job *jobs;
    uint32_t pending; /* jobs not done */
    size_t evals_seen;
    struct eval_ask *asks;
    struct made *made; /* put together for its expressions, of what is not committed */
    struct mono_us pending_since;
    struct grant *grants;
    struct repair *repair; /* being mended; owned */
    bool holds;            /* inputs are kept for later, nothing is applied: the run is quarantined */
    bool release;          /* the quarantine ends */
    bool dead_only;        /* its inputs could not even be kept: dead letters */
    const char *reason;
    struct wall_us run_started, run_ended;
};

struct batch {
    struct link link; /* sched.batches: the first is in flight or next */
    uint64_t number;
    struct link works;
    uint32_t work_count;
    struct arena *arena;
    struct sched_batch rows;
    bool in_flight, fenced, must_split;
    struct mono_us not_before;
    uint32_t tries;
};

struct forward { /* a result for a shard of another scheduler, until the broker has it */
    struct hnode node;
    uint64_t id;
    struct delivery *delivery;
    char queue[64];
    const char *type;
    struct str body;
    struct mono_us again_at; /* 0: in flight */
};

struct quarantined {
    struct hnode node;
    struct run_id run;
    bool written;    /* the row is in the table */
    bool accused;    /* by the journal, not by what we saw ourselves */
    bool doubtful;   /* a release of it may have been committed: loading the run tells */
    int64_t release; /* the command that may have released it, 0: none */
    const char *reason;
};

struct watcher {
    struct link link;
    char *reply_to;
    int64_t after_seq; /* events beyond it are sent; INT64_MAX: only the end */
    struct mono_us until;
    bool greeted;
};
struct watched {
    struct hnode node;
    struct run_id run;
    struct link watchers;
    uint32_t last_seq;
    uint8_t status;
    bool known;
};

struct sched {
    struct sched_ports ports;
    struct sched_settings set;
    char *name, *token_key;
    int16_t slot_shards[SLOT_COUNT];
    struct mono_us now;
    struct wall_us wall;
    struct mono_us last_tick;
    struct mono_us wake; /* being computed by the tick */

    struct shard **shards; /* by number */
    size_t shard_cap;
    size_t owned_count;
    char reply_to[64]; /* an inbox of ours: that of reply_shard */
    int16_t reply_shard;
    int format_oldest, format_newest; /* event formats of the schedulers that live */

    struct map *orgs;
    struct htable plans;
    struct link plans_lru, plans_wanted;
    size_t plan_count;

    struct htable runs;
    struct link lru; /* entries without anything to do, least recently used first */
    struct link to_load, ready, delayed, rechecks;
    size_t run_bytes, inputs_waiting;
    uint64_t next_load;

    struct htable bodies;
    struct link bodies_lru;
    size_t body_bytes;
    uint64_t bodies_round;
    struct sched_body_want *body_wants;
    size_t body_want_count, body_want_cap;

    struct link deliveries;
    struct htable forwards;
    uint64_t next_forward;
    struct htable commands, asides;
    struct link commands_done;
    size_t commands_waiting;
    uint64_t fetch_number, fetch_barrier; /* the newest asked; answers up to the barrier are of before */
    bool fetching, fetch_wanted, fetch_failed;
    struct mono_us fetch_at;
    bool looking, look_wanted;
    struct mono_us look_at; /* not sooner, when it is wanted; else the next regular one */
    int64_t look_pause_us;  /* of late: nothing came of it, and something remained */

    struct htable items, task_items, item_runs;
    struct item **slab; /* blocks of ITEM_BLOCK */
    size_t slab_blocks;
    struct link free_items;
    struct item **heap; /* by fire_at, from 1 */
    size_t heap_len, heap_cap;

    struct task_queue *queues;
    struct mono_us load_at; /* when sched_load was last asked for */
    struct htable quarantine;
    struct link leases, doubted;
    size_t lease_count;
    uint64_t orphans[ORPHAN_COUNT];
    bool broker_up;
    struct mono_us broker_since, doubt_asked_at;
    struct map *workers;      /* heard of late: name -> struct worker_heard */
    struct map *inbox_depths; /* inboxes asked about, for leases: name -> struct inbox_ask */

    struct link evaluating, collecting, batches;
    uint32_t collecting_inputs;
    size_t collecting_bytes;
    struct mono_us collecting_since;
    uint64_t next_batch;
    struct htable asks;
    uint64_t next_ask;
    struct sched_evaluation *evaluations;
    size_t evaluation_count, evaluation_cap;
    struct arena **arenas; /* a few to use again */
    size_t arena_count;
    struct buf text; /* encoded data of a batch's events */
    struct buf message, scratch;
    struct htable watched;
    size_t watcher_count;
    struct mono_us watch_sweep_at;
};

static inline void wake_by(struct sched *sched, struct mono_us at)
{
    if (at.us < sched->wake.us)
        sched->wake = at;
}
static inline struct mono_us mono_after(struct mono_us at, int64_t us)
{
    return (struct mono_us){at.us + us};
}
/* Run ids are random in these bytes; the slot, shared by children, is behind them. */
static inline uint64_t run_hash(struct run_id id)
{
    uint64_t x;

    memcpy(&x, id.bytes + 6, sizeof(x));
    return hash_u64(x);
}

/* Does its organisation's limit of running runs count it? A child is a part of its parent, which holds a slot already.
 */
static inline bool run_is_bounded(const struct run_entry *entry)
{
    int64_t limit = entry->org->limits.of[LIMIT_RUNNING_RUNS]; /* 0: nobody has said anything */

    return limit > 0 && limit < LIMIT_INFO[LIMIT_RUNNING_RUNS].ceiling && !entry->run->has_parent;
}
void run_note_bound(const struct sched *sched, const struct run_entry *entry, struct engine_input *in);

/* sched_core.c */
void sched_log_run(enum log_level level, const char *event, const struct run_entry *entry, const struct err *err);

/* shards.c */
struct shard *shard_find(const struct sched *sched, int16_t number); /* owned ones; else NULL */
static inline int16_t shard_of_run(const struct sched *sched, struct run_id run)
{
    return sched->slot_shards[run_id_slot(run)];
}
void shards_tick(struct sched *sched);
void shard_work_ended(struct sched *sched, struct shard *shard);
void shards_free(struct sched *sched);

/* orgs_plans.c */
struct org *org_get(struct sched *sched, int32_t id, struct str name, uint32_t weight);
void org_set_limits(struct sched *sched, struct org *org, struct str own);
/* notices.c: what others are told. */
void org_note_outgoing(struct org *org, int32_t outgoing);
size_t notices_most(const struct work *work);
size_t notices_add(const struct work *work, struct arena *arena, struct sched_notice *ret); /* how many */
struct plan_info *plan_get(struct sched *sched, int32_t organisation, struct str workflow, int32_t version);
void plan_wait(struct sched *sched, struct plan_info *info, struct run_entry *entry);
/* Will a template want the body of this event, as far as can be told? After the event has been folded. */
bool plan_reads(const struct plan_info *info, const struct run_state *run, const struct event *event);
void plans_tick(struct sched *sched);
void plans_free(struct sched *sched);

/* Is it paused, as far as it is in memory? Then nothing of it is handed to workers. */
static inline bool run_is_held(const struct run_entry *entry)
{
    return entry->run != NULL && entry->run->status == RUN_PAUSED;
}

/* run_cache.c */
struct run_entry *run_find(const struct sched *sched, struct run_id id);
struct run_entry *run_get(struct sched *sched, struct run_id id, struct shard *shard);
void run_kick(struct sched *sched, struct run_entry *entry); /* decides what the entry has to wait for next */
void run_forget_state(struct sched *sched, struct run_entry *entry);
void run_free(struct sched *sched, struct run_entry *entry);
void run_recheck(struct sched *sched, struct run_entry *entry);
/* An operator lets it out of quarantine, and that can be done. */
bool run_has_release(const struct run_entry *entry);
void run_plan_here(struct sched *sched, struct run_entry *entry);
void run_delay(struct sched *sched, struct run_entry *entry, int64_t us);
void run_weigh(struct sched *sched, struct run_entry *entry); /* its state has grown or shrunk */
/* The path of a step, in `buf` where it is not the name in the plan. */
struct str run_path(const struct run_state *run, uint32_t node, char buf[STEP_PATH_SIZE]);
struct str run_own_key(const struct run_entry *entry, struct str path); /* JSON text; STR_NONE: none */
void run_note_key(struct run_entry *entry, const struct event *event);  /* each event, once */
void runs_tick(struct sched *sched);
void runs_evict(struct sched *sched);
void runs_free(struct sched *sched);

/* body_cache.c */
/* False: not here, asked for; whoever wants it is kicked when it comes. */
bool body_get(struct sched *sched, struct run_id run, uint32_t seq, struct str *ret);
void body_put(struct sched *sched, struct run_id run, uint32_t seq, struct str text);
/* ... or only an element of the list that it is; STR_NONE: it has none of that index. */
bool body_get_element(struct sched *sched, struct run_id run, uint32_t seq, uint32_t index, struct str *ret);
/* Is it here? It is not asked for: it is no event's, but was made of others. */
bool body_peek(struct sched *sched, struct run_id run, uint32_t seq, struct str *ret);
void body_put_own(struct sched *sched, struct run_id run, uint32_t seq, struct str text); /* takes the memory over */
void body_drop(struct sched *sched, struct run_id run,
               uint32_t seq);                             /* nobody wants it soon; no slice of it is in use */
void elements_find(struct str list, struct element *ret); /* jt_count of them */
static inline struct str element_of(struct str list, struct element element)
{
    return (struct str){list.ptr + element.at, element.len};
}
void bodies_tick(struct sched *sched);
void bodies_evict(struct sched *sched);
void bodies_free(struct sched *sched);

/* inputs.c */
struct delivery *delivery_new(struct sched *sched, const struct sched_message *message, size_t inputs);
struct arena *delivery_arena(struct delivery *delivery);
void delivery_unref(struct sched *sched, struct delivery *delivery);
struct input *input_new_internal(struct run_id run, enum engine_input_kind kind, uint32_t seq);
void input_submit(struct sched *sched, struct input *input); /* to the entry of its run, or on to another's inbox */
void input_done(struct sched *sched, struct input *input);   /* its effects are committed */
void input_drop(struct sched *sched, struct input *input);   /* it is another's now */
typedef void (*command_end_fn)(struct sched *sched, struct command *command);
/* ... of all commands that wait at the run */
void inputs_give_up_commands(struct sched *sched, struct run_entry *entry, command_end_fn give_up);
void inputs_put_back(struct sched *sched, struct run_entry *entry, struct input *first, bool drop_commands);
void forward_confirmed(struct sched *sched, uint64_t id, bool confirmed);
void forwards_tick(struct sched *sched);
void inputs_free(struct sched *sched);

/* messages.c */
void message_decode(struct sched *sched, const struct sched_message *message);
/* A result or started that was kept for a quarantined run; false: it is none. */
bool message_decode_held(struct sched *sched, struct command *command);
/* A result or started that an operator sends again: one that is no good becomes a dead letter again. */
void message_decode_again(struct sched *sched, struct command *command);

/* commands.c */
void commands_want(struct sched *sched);
void commands_tick(struct sched *sched);
void command_done(struct sched *sched, struct command *command);
void command_drop(struct sched *sched, struct command *command);
void command_leave(struct sched *sched, struct command *command); /* untouched; its run is set aside */
void commands_distrust(struct sched *sched); /* what is being fetched may be of before something we just learnt */
void commands_free(struct sched *sched);
/* looks.c */
void looks_want(struct sched *sched); /* a step has begun to wait for an event, or may have */
void looks_tick(struct sched *sched);
/* asides.c */
/* Gives up the run's commands that are in hand; none is taken until then. */
void aside_add(struct sched *sched, struct run_entry *entry, enum aside_until until);
bool aside_is(const struct sched *sched, struct run_id run);
void asides_formats_changed(struct sched *sched);
void asides_shard_lost(struct sched *sched, int16_t shard);
size_t asides_list(struct sched *sched, struct run_id **ret); /* to free */
void asides_free(struct sched *sched);
/* command_body.c */
/* From the body to command->input; also when the body is no good. False: there is no such kind of command. */
bool command_decode(struct command *command);
/* A command "requeue" becomes what the dead letter held; false: it says nothing that could be sent. */
bool command_unwrap(struct command *command);

/* children.c */
/* How the input of a child breaks the input_schema of its workflow: text to free, STR_NONE when it does not. */
struct str child_input_fault(struct plan_info *plan, struct str input);
/* Body of the command that tells the parent how the run has ended, by the event that says so. */
struct str child_ended_body(struct arena *arena, const struct run_entry *entry, const struct event *end);

/* ... that it cannot be retried with its parent; that it shall be, of the parent. */
struct str child_refused_body(struct arena *arena, const struct run_entry *entry,
                              const struct effect_retry_refused *refused);
struct str child_retry_body(struct arena *arena, struct run_id parent, const struct effect_child_retry *retry);
/* ... and of that which pauses or resumes a child with its parent. */
struct str child_pause_body(struct arena *arena, const struct effect_child_pause *pause);

/* admissions.c */
/* A command for a concurrency key; false: it says nothing that one could be asked. */
bool admission_decode(struct command *command, const struct sched_command *from);
/* Body of the command that asks a key for a slot, or gives it back. */
struct str admission_body(struct arena *arena, const struct run_entry *entry, const struct effect_admission *effect);
/* Commands for shards of others have been committed: their owners need not wait until they look. */
void admissions_committed(struct sched *sched, const struct sched_batch *rows,
                          const struct sched_commit_outcome *outcome);

/* quarantine.c */
struct quarantined *quarantine_find(const struct sched *sched, struct run_id run);
struct quarantined *quarantine_add(struct sched *sched, struct run_id run, bool written, const char *reason);
/* Is it held, for all we know? While a release is in doubt it is not: it is loaded to find out. */
bool quarantine_holds(const struct sched *sched, struct run_id run);
/* `command` may have released it: its history will say so, or not. 0: the one of before. */
void quarantine_doubt(struct sched *sched, struct run_id run, int64_t command);
void quarantine_settle(struct sched *sched, struct run_id run, bool released);
void quarantine_del(struct sched *sched, struct run_id run);
void quarantine_shard_lost(struct sched *sched, int16_t shard);
void quarantine_shard_ready(struct sched *sched, struct shard *shard);
void quarantine_free(struct sched *sched);

/* work.c */
struct work *work_new(struct sched *sched, struct run_entry *entry, struct shard *shard);
void work_collect(struct sched *sched, struct work *work); /* into the next batch */
void work_uncollect(struct sched *sched, struct work *work);
void work_take_input(struct work *work, struct input *input);
struct str work_step_path(const struct work *work, uint32_t node); /* of the work's arena */
void work_free(struct sched *sched, struct work *work);            /* its inputs have been dealt with */
void work_apply(struct sched *sched, struct run_entry *entry);     /* a ready entry: as many inputs as may be */
void work_continue(struct sched *sched, struct work *work);        /* values came */
enum err_code work_feed(struct sched *sched, struct work *work, struct engine_input *in, struct err *err) MUST_CHECK;
void work_broken(struct sched *sched, struct work *work, const struct err *err);
void work_alone(struct sched *sched, struct shard *shard, struct input *input);
/* Takes the work back: the run's state is dropped, the inputs wait again. */
void work_abort(struct sched *sched, struct work *work);
void work_drop(struct sched *sched, struct work *work);
void work_quarantine(struct sched *sched, struct work *work, const char *reason);

/* reading.c */
struct made;
struct reader { /* of one evaluation; zero but for the first four */
    struct sched *sched;
    struct work *work;
    const struct eval_job *job;
    const struct expr *expr;
    struct str answer; /* of a poll's try */
    bool too_large;    /* what it reads is more than any expression gets: it need not be brought */
    struct str *names; /* of .steps as a whole, when it was asked for */
    size_t name_count;
};
/* The document of an expression; false: something of it is being brought. */
bool reading_begin(struct reader *reader, struct expr_doc *ret);

/* evaluate.c */
enum err_code evaluate_start(struct sched *sched, struct work *work,
                             struct err *err) MUST_CHECK; /* answers what can be answered here */
void evaluate_ask(struct sched *sched, struct eval_ask *ask);
void evaluate_again(struct sched *sched, struct run_entry *entry);
void evaluate_flush(struct sched *sched);
void evaluate_drop(struct sched *sched, struct work *work);
void evaluate_free(struct sched *sched);

/* batch.c */
void batches_tick(struct sched *sched);
void batches_unfence(struct sched *sched);
void batches_free(struct sched *sched);
/* batch_rows.c */
void batch_rows(struct sched *sched, struct batch *batch);
/* committed.c */
void works_committed(struct sched *sched, struct batch *batch);

/* items.c */
struct item *item_find(const struct sched *sched, struct run_id run, uint32_t seq);
struct item *item_find_task(const struct sched *sched, struct run_id run, struct str step); /* path */
struct item *item_of_slot(const struct sched *sched, uint32_t slot, uint32_t generation);
struct item *item_new(struct sched *sched, const struct sched_work_row *row, struct shard *shard);
/* ... and a task of it goes to the backlog, as one that may have been published before. */
struct item *item_add(struct sched *sched, const struct sched_work_row *row, struct shard *shard);
void item_del(struct sched *sched, struct item *item);
void items_hold(struct sched *sched, struct run_id run);  /* its run is paused */
void items_go_on(struct sched *sched, struct run_id run); /* ... and is not any more */
void items_offer(struct sched *sched, struct run_id run); /* its tasks that nobody has: it is out of quarantine */
void items_drop_unseen(struct sched *sched, struct run_id run, uint64_t mark);
void items_free(struct sched *sched);

/* timers.c */
void timer_set(struct sched *sched, struct item *item, struct wall_us at); /* 0: none */
void timers_tick(struct sched *sched);
/* When it is to be heard: of a paused run only what ends a wait. 0: not at all. */
struct wall_us timer_due(const struct sched *sched, const struct item *item);
void timer_answered(struct sched *sched, struct run_id run, uint32_t seq);

/* task_window.c */
struct task_queue *task_queue_get(struct sched *sched, struct str pool, uint8_t priority);
void task_ready(struct sched *sched, struct item *item, enum task_place place);
void task_unready(struct sched *sched, struct item *item); /* out of whatever list it is in, back to ITEM_IDLE */
void task_finished(struct sched *sched, struct item *item);
/* task_share.c */
uint32_t task_window(const struct sched *sched, const struct task_queue *q); /* messages that may wait in the broker */
uint32_t task_reserve_idle(const struct sched *sched);
void task_looked(const struct sched *sched, struct task_queue *q, uint32_t depth); /* while there was a backlog */
bool task_workers_have_room(const struct sched *sched, const struct task_queue *q);
int64_t task_longest_wait(const struct sched *sched, const struct org_backlog *backlog); /* us */
void task_reserve_learn(const struct sched *sched, struct task_queue *q,
                        uint32_t depth);                            /* seen while there is a backlog */
void task_answered(struct sched *sched, const struct input *input); /* a result has come, and is not applied yet */
bool task_place_free(const struct org_backlog *backlog);            /* whatever others have in its queue */
void task_heard(struct sched *sched, struct item *item);
/* Publishes at once when there is room and its body is at hand (or given). */
bool task_try_now(struct sched *sched, struct item *item, struct run_entry *entry, uint32_t node, struct str with);
void task_publish_wanting(struct sched *sched, struct run_entry *entry);
void task_confirmed(struct sched *sched, uint64_t confirm, bool confirmed);
void tasks_tick(struct sched *sched);
void tasks_doubt(struct sched *sched);
void tasks_free(struct sched *sched);
/* task_message.c */
void task_publish(struct sched *sched, struct item *item, const struct run_entry *entry, uint32_t node,
                  struct str with);
void task_publish_grant(struct sched *sched, const struct grant *grant);
enum cancel_how { CANCEL_STOP, CANCEL_NOW, CANCEL_FINISH }; /* what runs: after the grace, at once, not at all */
/* To the worker that has it, or, when nobody knows who that is, to all: nobody is to begin it any more. */
void task_publish_cancel(struct sched *sched, const struct item *item, struct str path, enum cancel_how how);

/* lease_table.c */
void lease_begin(struct sched *sched, struct item *item, struct str worker_queue); /* begins or goes on */
void lease_end(struct sched *sched, struct item *item);
void leases_tick(struct sched *sched);
bool leases_depth(struct sched *sched, const char *queue, bool known, uint32_t ready);
void leases_free(struct sched *sched);
/* workers.c */
void worker_heard(struct sched *sched, struct str worker, size_t tasks);
void workers_free(struct sched *sched);

/* orphans.c */
void orphans_check(struct sched *sched, struct run_entry *entry, const struct sched_loaded_run *loaded);
/* Is this row of a load one that the history asks for? */
bool orphans_explain_row(const struct run_entry *entry, const struct sched_work_row *row);
enum err_code orphans_apply(struct sched *sched, struct work *work, struct input *input, struct err *err) MUST_CHECK;
void orphans_committed(struct sched *sched, struct work *work);
void orphan_count(struct sched *sched, struct run_entry *entry, enum sched_orphan reason, size_t count);
bool repair_is_closed(const struct work *work, uint32_t seq);
void repair_free(struct repair *repair); /* accepts NULL */

/* push.c */
void push_watch(struct sched *sched, struct run_id run, struct str reply_to, int64_t after_seq, int64_t keep_us);
void push_committed(struct sched *sched, struct work *work);
void push_greet(struct sched *sched, struct run_entry *entry);
void push_verdict(struct sched *sched, struct run_entry *entry, const struct command *command, bool applied,
                  const char *code, struct str reason);
void push_tick(struct sched *sched);
void push_free(struct sched *sched);
