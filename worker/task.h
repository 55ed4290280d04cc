/* A task as it came in a message: one attempt of one step (proto/task.v1.json). Pure. */
#pragma once
#include "common/base/clock.h"
#include "common/base/json_text.h"

enum task_delivery { TASK_AT_LEAST_ONCE, TASK_AT_MOST_ONCE };

/* Strings are views into the arena that the decoder was given. */
struct task {
    struct str task_id, token, run_id, step, workflow, organisation, call, reply_to;
    struct str idempotency_key, traceparent; /* may be absent */
    struct str with;                         /* JSON text of an object; STR_NONE when absent or null */
    struct str secrets;                      /* JSON text of an array; STR_NONE when absent or null */
    int64_t publication, attempt;
    int64_t timeout_us;       /* 0: no bound */
    int64_t max_output;       /* bytes; 0: the worker's own setting */
    struct wall_us deadline;  /* 0: none */
    struct wall_us ask_after; /* of the schedulers' clock; 0: nothing is asked */
    enum task_delivery delivery;
};

/* What is JSON is copied to the arena; what is not costs no more than reading it. On ERR_INVALID, ERR_SYNTAX or
 * ERR_TOO_LARGE *ret holds what could be read all the same: with task_id, token and reply_to in it, the scheduler can
 * still be told. Unknown fields are counted (METRIC_MESSAGES_UNKNOWN_FIELDS) and ignored. */
enum err_code task_decode(struct str text, struct arena *arena, struct task *ret, struct err *err) MUST_CHECK;

/* What comes to a worker's control queue: proto/grant, cancel, drain. */
enum control_kind { CONTROL_GRANT, CONTROL_CANCEL, CONTROL_DRAIN };
enum cancel_running { CANCEL_STOP, CANCEL_NOW, CANCEL_FINISH };
struct control {
    enum control_kind kind;
    struct str task_id;             /* GRANT, CANCEL */
    bool go;                        /* GRANT */
    struct wall_us at;              /* GRANT: when it was given, by the schedulers' clock; 0: not said */
    int64_t ask;                    /* GRANT: number of the question; 0: it was no such */
    enum cancel_running if_running; /* CANCEL: after the grace, at once, or not at all */
};
/* `type` is the message's AMQP type. */
enum err_code control_decode(struct str type, struct str text, struct arena *arena, struct control *ret,
                             struct err *err) MUST_CHECK;
