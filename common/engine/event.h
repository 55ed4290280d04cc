/* Events: the history of a run. The struct is what the engine folds; the JSON of its small fields is the column `data`,
 * the body is the column `output`. event_decode(event_encode(e)) == e, tested for every type. */
#pragma once
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/json_text.h"

enum event_type {
    EVENT_NONE = 0,
#define EVENT(number, id, name, format) EVENT_##id = number,
#include "common/engine/event.def"
#undef EVENT
};

#define NO_NODE UINT32_MAX

struct event {
    uint32_t seq;
    enum event_type type;
    struct wall_us at;
    struct str step;  /* path ("charge", "each[3].go", "each[3]" for the iteration itself, "charge:compensate",
                         ":notify"); STR_NONE for events of the run */
    uint16_t attempt; /* 0: none */
    /* data */
    struct str branch;                     /* step.succeeded of a branching step */
    struct str code, error_class, message; /* failures: "http_503", "transient" | "permanent", text; why skipped: code
                                              "edge"|"when"|"start_at_step" */
    int32_t http_status;                   /* 0: none */
    struct str detail;     /* JSON: error detail (headers, body excerpt), the edge or expression that skipped */
    struct wall_us due_at; /* when the next attempt begins, a delay ends, the run times out */
    struct str worker;
    uint16_t generation;                 /* step.dispatched: of the idempotency key, from 1 */
    uint32_t dispatch;                   /* step.started: which dispatch of the attempt began, when not the first;
                                            attempt.failed of a poll: which try, when earlier ones were answered */
    struct wall_us started_at, ended_at; /* of the attempt, by the worker's clock */
    int64_t command;                     /* command.applied|refused: its number; run.cancelling, .paused, .resumed */
    struct str by;    /* run.paused, run.resumed: who asked for it; with code "parent" the run that it belongs to did */
    struct str waits; /* step.waiting: "signal", "child", "items"; absent: a delay, or with a code an unknown outcome;
                         step.listening: "event"; run.queued: "workflow", "organisation" */
    struct str name;  /* of the signal: step.waiting, signal.received, the step.succeeded that takes it; run.queued: the
                         key as people know it; step.listening: the type of events */
    struct str source; /* step.listening: of events, absent: any */
    struct str child;  /* step.waiting, step.continued: id of the child run */
    struct str as;     /* step.settled: "succeeded" or "failed"; run.queued: "queue", "skip", "cancel_oldest" or "take";
                          step.given: the outcome */
    struct str key;    /* run.queued: id of the concurrency key */
    uint32_t count;    /* step.waiting for items: how many; run.queued: the limit; of organisations the
                            installation's, absent: none; step.continued with a child: the how many-th time that it is
                            retried; run.reopened: for the parent, the same */
    uint32_t ref;      /* step.succeeded: event that holds the output, when it is not this one; run.admitted: the
                          run.queued that it answers */
    int64_t interval_us; /* step.dispatched of a poll: between tries */
    bool once;           /* step.waiting for a signal that may come only once */
    bool sent;           /* of a failed attempt: the request, or a part of it, may have left without being answered */
    bool compensate;     /* run.cancelling: what was done is to be undone */
    /* output */
    struct str output;     /* rendered `with` of step.dispatched, output of step.succeeded and run.*; may be absent */
    uint32_t output_bytes; /* also known when output itself was not loaded */
};

const char *event_type_name(enum event_type type); /* NULL for an unknown number */
/* event_format.c: the format that a type came with, INT_MAX for an unknown number; the newest, which this release
 * writes when nobody holds it back. */
int event_format(enum event_type type);
int event_format_newest(void);
void event_encode_data(const struct event *event,
                       struct buf *out); /* appends {...}; appends nothing when all is default */
/* Fills the data fields from `data` (checked JSON or STR_NONE). Unknown fields are ignored (newer minor formats). */
enum err_code event_decode_data(struct str data, struct arena *arena, struct event *event, struct err *err) MUST_CHECK;
