/* Directed histories of pauses and cancellations: over takeovers and losses, while something is evaluated, waited for
 * or tried again. */
#include "tests/sim/script.h"

#include "common/base/banned.h"

#define PAUSE(point, ...)                                                                                              \
    {                                                                                                                  \
        point, .what = DECIDE_REQUEST, .kind = "pause", __VA_ARGS__                                                    \
    }
#define RESUME(when)                                                                                                   \
    {                                                                                                                  \
        .what = DECIDE_REQUEST, .after = when, .kind = "resume"                                                        \
    }
#define PAUSED "command.applied pause, run.paused"
#define RESUMED "command.applied resume, run.resumed"
#define RETRIED DOCUMENT("w0", STEP("s0", CALL RETRY(3, "2s")) "," STEP("s1", CALL NEEDS("s0")))
#define PAIR DOCUMENT("w0", STEP("s0", CALL) "," STEP("s1", CALL NEEDS("s0")))

const struct script histories_pause[] = {
    {.name = "paused_while_backing_off",
     .of = "pauses",
     .documents = {RETRIED},
     .answers = {{"0:s0", .code = "http_503", .status = 503}},
     .rules = {PAUSE("committed 0:attempt.failed s0"), RESUME(20 * SEC)},
     .lasts = 20 * SEC,
     .sent = "0:s0 2, 0:s1 1",
     .histories = {"run.started, step.dispatched s0/1, attempt.failed s0/1 http_503, " PAUSED ", " RESUMED
                   ", step.dispatched s0/2, step.succeeded s0/2, step.dispatched s1/1, step.succeeded s1/1, "
                   "run.succeeded"}},
    {.name = "pause_kept_by_a_new_owner",
     .of = "pauses",
     .documents = {RETRIED},
     .answers = {{"0:s0", .code = "http_503", .status = 503}},
     .rules = {PAUSE("committed 0:attempt.failed s0"),
               {"committed 0:run.paused", .what = DECIDE_CRASH, .us = 60 * SEC},
               RESUME(30 * SEC)},
     .lasts = 30 * SEC,
     .sent = "0:s0 2, 0:s1 1",
     .histories = {"run.started, step.dispatched s0/1, attempt.failed s0/1 http_503, " PAUSED ", " RESUMED
                   ", step.dispatched s0/2, step.succeeded s0/2, step.dispatched s1/1, step.succeeded s1/1, "
                   "run.succeeded"}},
    /* its task is lost on the way: whoever takes the run over would send it again */
    {.name = "task_of_a_paused_run_lost_and_its_owner_dead",
     .of = "pauses",
     .documents = {PAIR},
     .rules = {{"published task 0:s0/1/1", .what = DECIDE_LOSS},
               PAUSE("published task 0:s0/1/1", .after = SEC),
               {"committed 0:run.paused", .what = DECIDE_CRASH, .after = SEC, .us = 60 * SEC},
               RESUME(40 * SEC)},
     .lasts = 40 * SEC,
     .sent = "0:s0 1, 0:s1 1",
     .histories = {"run.started, step.dispatched s0/1, " PAUSED ", " RESUMED
                   ", step.succeeded s0/1, step.dispatched s1/1, step.succeeded s1/1, run.succeeded"}},
    {.name = "paused_while_a_value_is_awaited",
     .of = "pauses",
     .documents = {DOCUMENT("w0", STEP("s0", CALL) "," STEP("s1", CALL NEEDS("s0") ",\"when\":\"${ .input.x > 0 }\""))},
     .input = "{\"x\":1}",
     .rules = {{"evaluating .input.x > 0", .what = DECIDE_LATE, .us = 2 * SEC},
               PAUSE("evaluating .input.x > 0", .after = 500 * MS),
               RESUME(20 * SEC)},
     .lasts = 20 * SEC,
     .sent = "0:s0 1, 0:s1 1",
     .histories = {"run.started, step.dispatched s0/1, step.succeeded s0/1, step.dispatched s1/1, " PAUSED
                   ", step.succeeded s1/1, " RESUMED ", run.succeeded"}},
    {.name = "paused_while_its_worker_dies",
     .of = "pauses",
     .documents = {PAIR},
     .answers = {{"0:s0", .takes = 5 * SEC}},
     .rules = {PAUSE("committed 0:step.started s0"),
               {"committed 0:run.paused", .what = DECIDE_CRASH, .who = W0},
               {"committed 0:run.paused", .what = DECIDE_CRASH, .who = W1, .us = 3 * SEC},
               RESUME(40 * SEC)},
     .lasts = 40 * SEC,
     .sent = "0:s0 2, 0:s1 1",
     .histories = {"run.started, step.dispatched s0/1, step.started s0/1, " PAUSED
                   ", attempt.failed s0/1 worker_lost, " RESUMED
                   ", step.dispatched s0/2, step.succeeded s0/2, step.dispatched s1/1, step.succeeded s1/1, "
                   "run.succeeded"}},
    {.name = "paused_and_cancelled",
     .of = "pauses",
     .documents = {PAIR},
     .answers = {{"0:s0", .takes = SEC}},
     .rules = {PAUSE("called 0:s0/1/1"), {.what = DECIDE_REQUEST, .after = 15 * SEC, .kind = "cancel"}},
     .lasts = 15 * SEC,
     .sent = "0:s0 1",
     .histories = {"run.started, step.dispatched s0/1, " PAUSED
                   ", step.succeeded s0/1, command.applied cancel, run.cancelling, step.cancelled s1, run.cancelled"}},
    {.name = "paused_until_it_times_out",
     .of = "pauses",
     .documents = {"{\"name\":\"w0\",\"timeout\":\"20s\",\"steps\":{" STEP("s0", CALL) "," STEP("s1",
                                                                                                CALL NEEDS("s0")) "}}"},
     .answers = {{"0:s0", .takes = 500 * MS}},
     .rules = {PAUSE("called 0:s0/1/1")},
     .sent = "0:s0 1",
     .histories = {"run.started, step.dispatched s0/1, " PAUSED
                   ", step.succeeded s0/1, run.timing_out, step.cancelled s1, run.timed_out timeout"}},
    {.name = "paused_in_the_middle_of_a_loop",
     .of = "pauses",
     .documents = {DOCUMENT("w0", STEP("s0", "\"call\":\"foreach\",\"with\":{\"items\":[1,2],\"concurrency\":1,"
                                             "\"steps\":{" STEP("x", CALL) "," STEP("y", CALL NEEDS("x")) "}}"))},
     .answers = {{"0:s0[0].x", .takes = 500 * MS}},
     .rules = {PAUSE("called 0:s0[0].x/1/1"),
               {"committed 0:step.succeeded s0[0].x", .what = DECIDE_CRASH, .us = SEC},
               RESUME(25 * SEC)},
     .lasts = 25 * SEC,
     .sent = "0:s0[0].x 1, 0:s0[0].y 1, 0:s0[1].x 1, 0:s0[1].y 1",
     .histories = {"run.started, step.waiting s0, step.dispatched s0[0].x/1, " PAUSED
                   ", step.succeeded s0[0].x/1, " RESUMED
                   ", step.dispatched s0[0].y/1, step.succeeded s0[0].y/1, step.succeeded s0[0], "
                   "step.dispatched s0[1].x/1, step.succeeded s0[1].x/1, step.dispatched s0[1].y/1, "
                   "step.succeeded s0[1].y/1, step.succeeded s0[1], step.succeeded s0, run.succeeded"}},
    {.name = "paused_with_its_child",
     .of = "pauses",
     .documents = {DOCUMENT("w0", STEP("s0", "\"call\":\"workflow\",\"with\":{\"name\":\"c0\"}")),
                   DOCUMENT("c0", STEP("s0", CALL) "," STEP("s1", CALL NEEDS("s0")))},
     .answers = {{"1:s0", .takes = 12 * SEC}},
     .rules = {PAUSE("committed 1:step.started s0"),
               {"committed 0:run.paused", .what = DECIDE_CRASH, .us = 3 * SEC},
               RESUME(35 * SEC)},
     .lasts = 35 * SEC,
     .sent = "1:s0 1, 1:s1 1",
     .histories = {"run.started, step.waiting s0, " PAUSED ", " RESUMED ", step.succeeded s0, run.succeeded",
                   "run.started, step.dispatched s0/1, step.started s0/1, " PAUSED
                   " parent, step.succeeded s0/1, " RESUMED
                   " parent, step.dispatched s1/1, step.succeeded s1/1, run.succeeded"}},
    {.name = "cancelled_while_its_task_is_on_its_way",
     .of = "cancels",
     .documents = {PAIR},
     .rules = {{"published task 0:s0/1/1", .what = DECIDE_LATE, .us = 5 * SEC},
               {"published task 0:s0/1/1", .what = DECIDE_REQUEST, .after = SEC, .kind = "cancel"}},
     .lasts = 15 * SEC,
     .histories = {"run.started, step.dispatched s0/1, command.applied cancel, run.cancelling, step.cancelled s0/1, "
                   "step.cancelled s1, run.cancelled"}},
    /* both workers have asked something, and so know the time: they begin what comes this soon, unless they are told */
    {.name = "cancelled_and_told_before_its_task_comes",
     .of = "cancels",
     .documents = {DOCUMENT("w0",
                            STEP("s0", "\"call\":\"foreach\",\"with\":{\"items\":[1,2,3,4,5,6,7,8],\"concurrency\":8,"
                                       "\"steps\":{" STEP("x", CALL) "}}") "," STEP("s1", CALL NEEDS("s0")))},
     .rules = {{"published task 0:s1/1/1", .what = DECIDE_LATE, .us = 500 * MS},
               {"published task 0:s1/1/1", .what = DECIDE_REQUEST, .after = 100 * MS, .kind = "cancel"}},
     .lasts = 15 * SEC,
     .sent = "0:s0[0].x 1, 0:s0[1].x 1, 0:s0[2].x 1, 0:s0[3].x 1, 0:s0[4].x 1, 0:s0[5].x 1, 0:s0[6].x 1, 0:s0[7].x 1"},
    {.name = "queued_when_its_scheduler_cancels_and_dies_before_it_tells",
     .of = "cancels",
     .documents = {PAIR},
     .rules = {{"published task 0:s0/1/1", .what = DECIDE_LATE, .us = 5 * SEC},
               {"published task 0:s0/1/1", .what = DECIDE_REQUEST, .after = SEC, .kind = "cancel"},
               {"committed 0:run.cancelling", .what = DECIDE_CRASH, .us = 120 * SEC}},
     .lasts = 15 * SEC,
     .histories = {"run.started, step.dispatched s0/1, command.applied cancel, run.cancelling, step.cancelled s0/1, "
                   "step.cancelled s1, run.cancelled"}},
    {.name = "cancelled_and_cut_after_the_grace",
     .of = "cancels",
     .documents = {PAIR},
     .answers = {{"0:s0", .takes = 60 * SEC}},
     .rules = {{"committed 0:step.started s0", .what = DECIDE_REQUEST, .kind = "cancel"}},
     .sent = "0:s0 1",
     .within = 12 * SEC,
     .histories = {"run.started, step.dispatched s0/1, step.started s0/1, command.applied cancel, run.cancelling, "
                   "step.cancelled s1, step.cancelled s0/1 cancelled, run.cancelled"}},
    {.name = "cancelled_and_finished_within_the_grace",
     .of = "cancels",
     .documents = {PAIR},
     .answers = {{"0:s0", .takes = 3 * SEC}},
     .rules = {{"committed 0:step.started s0", .what = DECIDE_REQUEST, .kind = "cancel"}},
     .sent = "0:s0 1",
     .histories = {"run.started, step.dispatched s0/1, step.started s0/1, command.applied cancel, run.cancelling, "
                   "step.cancelled s1, step.succeeded s0/1, run.cancelled"}},
    {.name = "cancelled_by_a_scheduler_that_dies_before_it_tells",
     .of = "cancels",
     .documents = {PAIR},
     .answers = {{"0:s0", .takes = 90 * SEC}},
     .rules = {{"committed 0:step.started s0", .what = DECIDE_REQUEST, .kind = "cancel"},
               {"committed 0:run.cancelling", .what = DECIDE_CRASH, .us = 120 * SEC}},
     .sent = "0:s0 1",
     .within = 40 * SEC,
     .histories = {"run.started, step.dispatched s0/1, step.started s0/1, command.applied cancel, run.cancelling, "
                   "step.cancelled s1, step.cancelled s0/1 cancelled, run.cancelled"}},
    {0},
};
