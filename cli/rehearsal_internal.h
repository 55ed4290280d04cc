/* What the files of a rehearsal share; see rehearsal.h. */
#pragma once
#include "cli/rehearsal.h"

struct rehearsed_row {
    uint32_t seq, dispatch;
    enum work_kind kind;
    struct wall_us due_at;
    int64_t heard_us; /* the due time that was heard already */
};

/* What will come at a known time and is no timer. */
struct coming {
    struct coming *next;
    struct wall_us at;
    uint64_t order;
    struct rehearsed *run; /* NULL: the run that was started */
    struct engine_input input;
    bool wanted;     /* by the caller, who is told what became of it */
    struct str what; /* of such */
};

/* An event, for whichever step of whichever run waits for it. */
struct heard_event {
    struct heard_event *next;
    struct wall_us at;
    struct str type, source, json;
};

struct rehearsal {
    struct arena *arena;
    struct rehearsal_port port;
    struct rehearsal_engine engine;
    struct str seed;
    struct wall_us now, began;
    struct rehearsed *root, *runs;
    struct coming *coming;
    struct heard_event *events; /* that have come, the oldest first */
    struct heard_event **last_event;
    uint64_t orders;
    size_t inputs;
    bool may_wait;             /* the run is left as it waits, before its timeout ends it */
    bool over;                 /* the caller has had enough */
    const struct coming *said; /* that is being applied */
};

struct coming *rehearsal_add_coming(struct rehearsal *world, struct rehearsed *run, struct wall_us at,
                                    const struct engine_input *input);
struct rehearsed *rehearsal_add_run(struct rehearsal *world, const struct document *document, struct run_id id,
                                    struct str input);
/* rehearsal_events.c: one comes; a step of this run has begun to wait. */
void rehearsal_event_comes(struct rehearsal *world, struct str json);
void rehearsal_look_back(struct rehearsed *run, uint32_t seq);
/* rehearsal_effects.c: after the engine was asked, what a commit and what follows it would do. */
void rehearsal_commit(struct rehearsed *run);
