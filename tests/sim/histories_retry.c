/* Directed histories of runs that an operator opens again. */
#include "tests/sim/script.h"

#include "common/base/banned.h"

#define RETRY_AFTER(wait)                                                                                              \
    {                                                                                                                  \
        .what = DECIDE_REQUEST, .after = (wait), .kind = "retry", .text = "{}"                                         \
    }
#define PAIR DOCUMENT("w0", STEP("s0", CALL) "," STEP("s1", CALL NEEDS("s0")))
#define PAIR_FAILED                                                                                                    \
    "run.started, step.dispatched s0/1, step.succeeded s0/1, step.dispatched s1/1, step.failed s1/1 http_422, "        \
    "run.failed s1 http_422, "
#define PAIR_RETRIED                                                                                                   \
    "command.applied retry, run.reopened retry, step.reopened s1, step.dispatched s1/2, step.succeeded s1/2, "         \
    "run.succeeded"

#define PAIR_OF(name) DOCUMENT(name, STEP("s0", CALL) "," STEP("s1", CALL NEEDS("s0")))
#define PARENT(more)                                                                                                   \
    "{\"name\":\"w0\"," more "\"steps\":{" STEP("sub", "\"call\":\"workflow\",\"with\":{\"name\":\"c0\"}") "}}"
#define CONFIRMED_AFTER(wait)                                                                                          \
    {                                                                                                                  \
        .what = DECIDE_REQUEST, .after = (wait), .kind = "retry", .text = "{\"confirm\":true}"                         \
    }
#define PARENT_FAILED "run.started, step.waiting sub, step.failed sub http_422, run.failed sub http_422, "
#define PARENT_RETRIED                                                                                                 \
    "command.applied retry, run.reopened retry, step.reopened sub, step.continued sub, step.succeeded sub, "           \
    "run.succeeded"
#define LOOP                                                                                                           \
    DOCUMENT("w0", STEP("each", "\"call\":\"foreach\",\"with\":{\"items\":[1,2,3],\"concurrency\":1,\"steps\":{" STEP( \
                                    "go", CALL) "}}"))
#define LOOP_FAILED                                                                                                    \
    "run.started, step.waiting each, step.dispatched each[0].go/1, step.succeeded each[0].go/1, step.succeeded "       \
    "each[0], step.dispatched each[1].go/1, step.failed each[1].go/1 http_422, step.failed each[1] http_422, "         \
    "step.failed each item_failed, run.failed each item_failed, "
#define LOOP_RETRIED                                                                                                   \
    "command.applied retry, run.reopened retry, step.reopened each, step.continued each, step.continued each[1], "     \
    "step.reopened each[1].go, step.dispatched each[1].go/2, step.succeeded each[1].go/2, step.succeeded each[1], "    \
    "step.dispatched each[2].go/1, step.succeeded each[2].go/1, step.succeeded each[2], step.succeeded each, "         \
    "run.succeeded"

const struct script histories_retry[] = {
    {.name = "retry_of_what_failed",
     .of = "R1",
     .documents = {PAIR},
     .answers = {{"0:s1", .code = "http_422", .status = 422}},
     .rules = {RETRY_AFTER(5 * SEC)},
     .sent = "0:s0 1, 0:s1 2",
     .lasts = 5 * SEC,
     .histories = {PAIR_FAILED PAIR_RETRIED}},
    {.name = "retry_is_committed_and_its_scheduler_dies",
     .of = "R1",
     .documents = {PAIR},
     .answers = {{"0:s1", .code = "http_422", .status = 422}},
     .rules = {RETRY_AFTER(5 * SEC), {"committed 0:run.reopened", .what = DECIDE_CRASH, .us = SEC}},
     .sent = "0:s0 1, 0:s1 2",
     .lasts = 5 * SEC,
     .histories = {PAIR_FAILED PAIR_RETRIED}},
    {.name = "retry_is_not_committed_and_its_scheduler_dies",
     .of = "R1",
     .documents = {PAIR},
     .answers = {{"0:s1", .code = "http_422", .status = 422}},
     .rules = {RETRY_AFTER(5 * SEC),
               {"committing 0:run.reopened", .what = DECIDE_CONFLICT},
               {"committing 0:run.reopened", .nth = 1, .what = DECIDE_UNKNOWN, .text = "not done"}},
     .sent = "0:s0 1, 0:s1 2",
     .lasts = 5 * SEC,
     .histories = {PAIR_FAILED PAIR_RETRIED}},
    {.name = "retried_twice_at_once",
     .of = "R2",
     .documents = {PAIR},
     .answers = {{"0:s1", .code = "http_422", .status = 422}},
     .rules = {RETRY_AFTER(5 * SEC), RETRY_AFTER(5 * SEC)},
     .sent = "0:s0 1, 0:s1 2",
     .lasts = 5 * SEC,
     .histories = {PAIR_FAILED "command.applied retry, run.reopened retry, step.reopened s1, step.dispatched s1/2, "
                               "command.applied retry, step.succeeded s1/2, run.succeeded"}},
    {.name = "retry_of_what_nobody_knows",
     .of = "R3",
     .documents = {DOCUMENT("w0", STEP("s0", ONCE) "," STEP("s1", CALL NEEDS("s0")))},
     .answers = {{"0:s0", .code = "connection_lost", .unanswered = true}},
     .rules = {RETRY_AFTER(5 * SEC),
               {.what = DECIDE_REQUEST, .after = 10 * SEC, .kind = "retry", .text = "{\"confirm\":[\"s0\"]}"}},
     .sent = "0:s0 2, 0:s1 1",
     .lasts = 10 * SEC,
     .histories = {"run.started, step.dispatched s0/1, step.started s0/1, step.outcome_unknown s0/1 connection_lost, "
                   "step.cancelled s1, run.failed s0 connection_lost, command.refused confirmation_needed, "
                   "command.applied retry, run.reopened retry, step.reopened s0, step.reopened s1, step.dispatched "
                   "s0/2, step.started s0/2, step.succeeded s0/2, step.dispatched s1/1, step.succeeded s1/1, "
                   "run.succeeded"}},
    {.name = "retry_after_a_stop_with_cancelled_siblings",
     .of = "R4",
     .documents = {DOCUMENT(
         "w0", STEP("s0", CALL) "," STEP("s1", "\"call\":\"delay\",\"with\":{\"duration\":\"20s\"}") "," STEP(
                   "s2", CALL NEEDS("s1")))},
     .answers = {{"0:s0", .takes = SEC, .code = "http_422", .status = 422}},
     .rules = {RETRY_AFTER(5 * SEC), {"committed 0:step.waiting s1", .nth = 1, .what = DECIDE_HANDOVER}},
     .sent = "0:s0 2, 0:s2 1",
     .lasts = 25 * SEC,
     .histories =
         {"run.started, step.dispatched s0/1, step.waiting s1, step.failed s0/1 http_422, step.cancelled s1, "
          "step.cancelled s2, run.failed s0 http_422, command.applied retry, run.reopened retry, step.reopened "
          "s0, step.reopened s1, step.reopened s2, step.dispatched s0/2, step.waiting s1, step.succeeded s0/2, "
          "step.succeeded s1, step.dispatched s2/1, step.succeeded s2/1, run.succeeded"}},
    {.name = "retry_of_a_cancelled_run_whose_worker_tells_late",
     .of = "R5",
     .documents = {DOCUMENT("w0", STEP("s0", CALL) "," STEP("s1", CALL NEEDS("s0")))},
     .answers = {{"0:s0", .takes = 500 * MS}},
     .rules = {{"called 0:s0/1/1", .what = DECIDE_REQUEST, .kind = "cancel", .text = "{}"}, RETRY_AFTER(10 * SEC)},
     .sent = "0:s0 2, 0:s1 1",
     .lasts = 10 * SEC,
     .histories = {"run.started, step.dispatched s0/1, command.applied cancel, run.cancelling, step.cancelled s0/1, "
                   "step.cancelled s1, run.cancelled, step.late_result s0/1 succeeded, command.applied retry, "
                   "run.reopened retry, step.reopened s0, step.reopened s1, step.dispatched s0/2, step.succeeded s0/2, "
                   "step.dispatched s1/1, step.succeeded s1/1, run.succeeded"}},
    /* both workers have asked something, and so know the time: they begin what comes this soon, unless they are told */
    {.name = "retried_and_the_former_attempt_succeeds_before_the_next_has_come",
     .of = "R5",
     .documents = {DOCUMENT("w0",
                            STEP("s0", "\"call\":\"foreach\",\"with\":{\"items\":[1,2,3,4,5,6,7,8],\"concurrency\":8,"
                                       "\"steps\":{" STEP("x", CALL) "}}") "," STEP("s1", CALL NEEDS("s0")))},
     .answers = {{"0:s1", .takes = 500 * MS}},
     .rules = {{"called 0:s1/1/1", .what = DECIDE_REQUEST, .kind = "cancel", .text = "{}"},
               {"called 0:s1/1/1", .what = DECIDE_REQUEST, .after = 100 * MS, .kind = "retry", .text = "{}"},
               {"published task 0:s1/2/1", .what = DECIDE_LATE, .us = 700 * MS}},
     .sent = "0:s0[0].x 1, 0:s0[1].x 1, 0:s0[2].x 1, 0:s0[3].x 1, 0:s0[4].x 1, 0:s0[5].x 1, 0:s0[6].x 1, "
             "0:s0[7].x 1, 0:s1 1",
     .lasts = 3 * SEC,
     .within = 10 * SEC},
    {.name = "retry_of_a_loop_that_failed",
     .of = "R6",
     .documents = {LOOP},
     .answers = {{"0:each[1].go", .code = "http_422", .status = 422}},
     .rules = {RETRY_AFTER(5 * SEC)},
     .sent = "0:each[0].go 1, 0:each[1].go 2, 0:each[2].go 1",
     .lasts = 5 * SEC,
     .histories = {LOOP_FAILED LOOP_RETRIED}},
    {.name = "retry_of_a_loop_is_committed_and_its_scheduler_dies",
     .of = "R6",
     .documents = {LOOP},
     .answers = {{"0:each[1].go", .code = "http_422", .status = 422}},
     .rules = {RETRY_AFTER(5 * SEC), {"committed 0:step.continued each", .what = DECIDE_CRASH, .us = SEC}},
     .sent = "0:each[0].go 1, 0:each[1].go 2, 0:each[2].go 1",
     .lasts = 5 * SEC,
     .histories = {LOOP_FAILED LOOP_RETRIED}},
    {.name = "retry_of_a_loop_that_was_cancelled_twice",
     .of = "R6",
     .documents = {LOOP},
     .answers = {{"0:each[1].go", .takes = 500 * MS}},
     .rules = {{"called 0:each[1].go/1/1", .what = DECIDE_REQUEST, .kind = "cancel", .text = "{}"},
               RETRY_AFTER(5 * SEC),
               {"called 0:each[1].go/2/1", .what = DECIDE_REQUEST, .kind = "cancel", .text = "{}"},
               RETRY_AFTER(10 * SEC)},
     .sent = "0:each[0].go 1, 0:each[1].go 3, 0:each[2].go 1",
     .lasts = 10 * SEC},
    {.name = "retry_of_a_parent_is_one_of_its_child",
     .of = "R9",
     .documents = {PARENT(""), PAIR_OF("c0")},
     .answers = {{"1:s1", .code = "http_422", .status = 422}},
     .rules = {CONFIRMED_AFTER(5 * SEC)},
     .sent = "1:s0 1, 1:s1 2",
     .lasts = 5 * SEC,
     .histories = {PARENT_FAILED PARENT_RETRIED, PAIR_FAILED PAIR_RETRIED}},
    {.name = "retry_of_a_parent_is_committed_and_its_scheduler_dies",
     .of = "R9",
     .documents = {PARENT(""), PAIR_OF("c0")},
     .answers = {{"1:s1", .code = "http_422", .status = 422}},
     .rules = {CONFIRMED_AFTER(5 * SEC),
               {"committed 0:step.continued sub", .what = DECIDE_CRASH, .us = SEC},
               {"committing 1:run.reopened", .what = DECIDE_UNKNOWN, .text = "not done"}},
     .sent = "1:s0 1, 1:s1 2",
     .lasts = 5 * SEC,
     .histories = {PARENT_FAILED PARENT_RETRIED, PAIR_FAILED PAIR_RETRIED}},
    {.name = "retry_of_a_parent_whose_child_is_still_being_stopped",
     .of = "R9",
     .documents = {PARENT("\"timeout\":\"3s\","), PAIR_OF("c0")},
     .answers = {{"1:s0", .takes = 5 * SEC}},
     .rules = {CONFIRMED_AFTER(4 * SEC)},
     .sent = "1:s0 1, 1:s1 1",
     .lasts = 4 * SEC,
     .histories =
         {"run.started, step.waiting sub, run.timing_out, step.cancelled sub, run.timed_out timeout, " PARENT_RETRIED}},
    {0},
};
