/* Directed histories of runs that are given outcomes and wait for a slot. */
#include "tests/sim/script.h"

#include "common/base/banned.h"

#define STEPS STEP("s0", CALL) "," STEP("s1", CALL NEEDS("s0"))
#define LIMITED "{\"name\":\"w0\",\"concurrency\":{\"limit\":1},\"steps\":{" STEPS "}}"
#define FIRST                                                                                                          \
    "run.queued, run.admitted, run.started, step.dispatched s0/1, step.started s0/1, step.succeeded s0/1, "            \
    "step.dispatched s1/1, step.succeeded s1/1, run.succeeded"
#define GIVEN(step) "{\"step\":\"" step "\",\"as\":\"succeeded\",\"output\":1}"

#define LIMITED_FAILED                                                                                                 \
    "run.queued, run.admitted, run.started, step.dispatched s0/1, step.failed s0/1 http_422, step.cancelled s1, "      \
    "run.failed s0 http_422, "
#define RETRIED_IN_THE_QUEUE                                                                                           \
    "command.applied retry, run.reopened retry, step.reopened s0, step.reopened s1, run.queued, run.admitted, "        \
    "step.dispatched s0/2, step.succeeded s0/2, step.dispatched s1/1, step.succeeded s1/1, run.succeeded"

const struct script histories_admission[] = {
    {.name = "given_outcomes_wait_for_a_slot_and_their_scheduler_dies",
     .of = "R7",
     .documents = {LIMITED},
     .runs = 2,
     .begin = "{\"given\":[" GIVEN("s0") "]}",
     .answers = {{"0:s0", .takes = 3 * SEC}},
     .rules = {{"committed 1:run.queued", .what = DECIDE_CRASH, .us = SEC}},
     .sent = "0:s0 1, 0:s1 1, 1:s1 1",
     .ends_first = 1,
     .histories = {FIRST, "step.given s0, run.queued, run.admitted, run.started, step.dispatched s1/1, "
                          "step.succeeded s1/1, run.succeeded"}},
    {.name = "given_outcomes_are_not_committed",
     .of = "R7",
     .documents = {LIMITED},
     .runs = 2,
     .begin = "{\"start_at_step\":\"s1\"}",
     .answers = {{"0:s0", .takes = 3 * SEC}},
     .rules = {{"committing 1:run.queued", .what = DECIDE_CONFLICT},
               {"committing 1:run.queued", .nth = 1, .what = DECIDE_UNKNOWN, .text = "not done"}},
     .sent = "0:s0 1, 0:s1 1, 1:s1 1",
     .ends_first = 1,
     .histories = {FIRST, "step.given s0 start_at_step, run.queued, run.admitted, run.started, step.dispatched s1/1, "
                          "step.succeeded s1/1, run.succeeded"}},
    {.name = "all_is_given_and_it_is_cancelled_in_the_queue",
     .of = "R7",
     .documents = {LIMITED},
     .runs = 2,
     .begin = "{\"given\":[" GIVEN("s0") "," GIVEN("s1") "]}",
     .answers = {{"0:s0", .takes = 5 * SEC}},
     .rules = {{"committed 1:run.queued", .what = DECIDE_REQUEST, .after = SEC, .kind = "cancel", .run = 1}},
     .sent = "0:s0 1, 0:s1 1",
     .ends_first = 2,
     .histories = {FIRST, "step.given s0, step.given s1, run.queued, command.applied cancel, run.cancelling, "
                          "run.cancelled"}},
    {.name = "retried_while_another_has_the_slot",
     .of = "R8",
     .documents = {LIMITED},
     .runs = 2,
     .answers = {{"0:s0", .code = "http_422", .status = 422}, {"1:s0", .takes = 10 * SEC}},
     .rules = {{.what = DECIDE_REQUEST, .after = 5 * SEC, .kind = "retry", .text = "{}"}},
     .sent = "0:s0 2, 0:s1 1, 1:s0 1, 1:s1 1",
     .ends_first = 2,
     .lasts = 10 * SEC,
     .histories = {LIMITED_FAILED RETRIED_IN_THE_QUEUE, FIRST}},
    {.name = "retried_and_in_the_queue_when_its_scheduler_dies",
     .of = "R8",
     .documents = {LIMITED},
     .runs = 2,
     .answers = {{"0:s0", .code = "http_422", .status = 422}, {"1:s0", .takes = 10 * SEC}},
     .rules = {{.what = DECIDE_REQUEST, .after = 5 * SEC, .kind = "retry", .text = "{}"},
               {"committed 0:run.reopened", .what = DECIDE_CRASH, .us = SEC},
               {"committing 0:run.admitted", .nth = 1, .what = DECIDE_UNKNOWN, .text = "not done"}},
     .sent = "0:s0 2, 0:s1 1, 1:s0 1, 1:s1 1",
     .ends_first = 2,
     .lasts = 10 * SEC,
     .histories = {LIMITED_FAILED RETRIED_IN_THE_QUEUE, FIRST}},
    {0},
};
