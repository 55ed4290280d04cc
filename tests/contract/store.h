/* The store as the scheduler's core is given it, and a hand on what lies behind it. One driver has the simulator's
 * model of PostgreSQL, the other scheduler/store.c and a server. Neither decides anything. */
#pragma once
#include "scheduler/core/sched_core.h"
#include "tests/contract/contract.h"

int store_world_begin(void **state); /* workflow "w", version 1; no runs; nobody has a shard */
int store_world_end(void **state);
int store_group_begin(void **state);
int store_group_end(void **state);

/* fetch_commands, load_*, commit: of one process. What they bring goes to `heard`. */
extern struct sched_ports ports;
/* That process dies, whatever it has asked for, and another takes its place. */
void hand_crash(void);

/* What gateways and people write. */
void hand_workflow(const char *name, int32_t versions, bool enabled); /* documents {"name": NAME} */
void hand_run(struct run_id id, struct str input);                    /* of workflow "w", without a command */
int64_t hand_command(struct run_id run, const char *kind, struct str body, struct str reply_to);
enum owner { NOBODY, ME, ANOTHER };
void hand_shard(int16_t shard, enum owner owner, int64_t epoch); /* waits for batches of the one before */
/* A gateway takes an event of source "/s" whose data is {"n": N}. */
void hand_event(const char *type, int n);
/* PostgreSQL stores no third event of this run. */
void hand_poison(struct run_id run);
/* Reads cannot be made. */
void hand_break_reads(bool broken);

/* What happens to batches. */
void hand_hold(bool hold); /* the server goes no further than to the first row of a batch, or on */
bool hand_is_held(void);   /* one has come so far */
void hand_mute(bool mute); /* the server does all, and its answers do not come */
bool hand_is_done(struct run_id run, uint32_t seq); /* the event is there, for who looks past the process */
void hand_kill(void);                               /* ends the server process of the batch under way */
void hand_cut(void);                                /* cuts the connections of the process */

/* What no port reads. */
const char *hand_status(struct run_id run);
int hand_dead_letters(void);

/* ---- what the core would have heard, in the memory of the scenario ---- */
struct heard {
    struct arena *arena;
    int committed, commands, bodies, plans;
    struct sched_commit_outcome outcome;
    struct sched_loaded_run *runs;
    size_t run_count;
    struct sched_work_row *work;
    size_t work_count, pages;
    struct run_id *quarantined;
    size_t quarantined_count;
    bool last, failed, complete;
    int looks;
    bool look_told, look_remaining;
    struct sched_command *command_rows;
    size_t command_count;
    struct sched_body *body_rows;
    size_t body_count;
    struct sched_plan_loaded *plan_rows;
    size_t plan_count;
};
extern struct heard heard;
void heard_begin(void);
void heard_end(void);
