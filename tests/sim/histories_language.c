/* Directed histories of what the language promises: failures, compensation, settlements, signals. */
#include "tests/sim/script.h"

#include "common/base/banned.h"

#define ALERT                                                                                                          \
    DOCUMENT("w0", STEP("charge", CALL) "," STEP("ship", CALL NEEDS("charge")) "," STEP(                               \
                       "alert", CALL ",\"needs\":{\"charge\":[\"failed\"],\"ship\":[\"succeeded\"]}"))
#define UNDONE DOCUMENT("w0", STEP("charge", ONCE ",\"compensate\":{" CALL "}"))
#define APPROVAL                                                                                                       \
    DOCUMENT("w0", STEP("s0", "\"call\":\"wait_signal\",\"with\":{\"signal\":\"go\",\"once\":true}") "," STEP(         \
                       "s1", CALL NEEDS("s0")))

#define PAID "\"call\":\"wait_event\",\"with\":{\"type\":\"paid\",\"filter\":\"${ .event.data.n == .input.x }\"}"
#define PAYMENT DOCUMENT("w0", STEP("s0", CALL) "," STEP("s1", PAID NEEDS("s0")))
#define EVENT_OF(n) "{\"type\":\"paid\",\"source\":\"/s\",\"data\":{\"n\":" n "}}"
#define PAYMENT_HISTORY                                                                                                \
    "run.started, step.dispatched s0/1, step.succeeded s0/1, step.listening s1, step.succeeded s1, run.succeeded"

const struct script histories_language[] = {
    {.name = "failure_that_nobody_handled",
     .of = "B15a",
     .documents = {ALERT},
     .answers = {{"0:charge", .code = "http_422", .status = 422}},
     .sent = "0:charge 1",
     .histories = {"run.started, step.dispatched charge/1, step.failed charge/1 http_422, step.skipped ship edge, "
                   "step.skipped alert edge, run.failed charge http_422"}},
    {.name = "charge_that_may_have_happened",
     .of = "B15b",
     .documents = {UNDONE},
     .answers = {{"0:charge", .code = "connection_lost", .unanswered = true}},
     .sent = "0:charge 1",
     .histories = {"run.started, step.dispatched charge/1, step.started charge/1, step.outcome_unknown charge/1 "
                   "connection_lost, run.compensating failed, run.compensation_failed charge connection_lost"}},
    {.name = "unknown_outcome_held_until_it_is_settled",
     .of = "H16",
     .documents = {DOCUMENT("w0", STEP("s0", ONCE ",\"on_unknown\":\"wait\"") "," STEP("s1", CALL NEEDS("s0")))},
     .rules = {{"called 0:s0/1/1", .what = DECIDE_CRASH, .us = SEC},
               {.what = DECIDE_REQUEST,
                .after = 25 * SEC,
                .kind = "settle",
                .text = "{\"step\":\"s0\",\"as\":\"succeeded\",\"output\":1}"}},
     .sent = "0:s0 1, 0:s1 1",
     .histories =
         {"run.started, step.dispatched s0/1, step.started s0/1, step.waiting s0/1 unknown_outcome, command.applied "
          "settle, step.settled s0, step.dispatched s1/1, step.succeeded s1/1, run.succeeded"}},
    {.name = "two_approvals_at_once",
     .of = "B13, H21",
     .documents = {APPROVAL},
     .rules = {{.what = DECIDE_REQUEST, .after = 3 * SEC, .kind = "signal", .text = "{\"name\":\"go\",\"payload\":1}"},
               {.what = DECIDE_REQUEST, .after = 3 * SEC, .kind = "signal", .text = "{\"name\":\"go\",\"payload\":2}"}},
     .sent = "0:s1 1",
     .histories = {"run.started, step.waiting s0, command.applied signal, signal.received, step.succeeded s0, "
                   "step.dispatched s1/1, command.refused already_signalled, step.succeeded s1/1, run.succeeded"}},
    {.name = "signal_comes_before_its_step",
     .of = "H21",
     .documents = {DOCUMENT(
         "w0", STEP("s0", CALL) "," STEP("s1", "\"call\":\"wait_signal\",\"with\":{\"signal\":\"go\"}" NEEDS("s0")))},
     .answers = {{"0:s0", .takes = 500 * MS}},
     .rules = {{"called 0:s0/1/1", .what = DECIDE_REQUEST, .kind = "signal",
                .text = "{\"name\":\"go\",\"payload\":1}"}},
     .sent = "0:s0 1",
     .within = 3 * SEC,
     .histories = {"run.started, step.dispatched s0/1, command.applied signal, signal.received, step.succeeded s0/1, "
                   "step.succeeded s1, run.succeeded"}},
    {.name = "ended_run_is_signalled",
     .of = "H21",
     .documents = {DOCUMENT("w0", STEP("s0", CALL))},
     .lasts = 5 * SEC,
     .rules = {{.what = DECIDE_REQUEST, .after = 4 * SEC, .kind = "signal", .text = "{\"name\":\"go\",\"payload\":1}"}},
     .sent = "0:s0 1",
     .histories = {"run.started, step.dispatched s0/1, step.succeeded s0/1, run.succeeded, command.refused run_ended"}},
    {.name = "event_comes_before_its_step",
     .of = "H21",
     .documents = {PAYMENT},
     .input = "{\"x\":3}",
     .answers = {{"0:s0", .takes = 500 * MS}},
     .rules = {{"called 0:s0/1/1", .what = DECIDE_REQUEST, .kind = "publish", .text = EVENT_OF("2")},
               {"called 0:s0/1/1", .what = DECIDE_REQUEST, .kind = "publish", .text = EVENT_OF("3")}},
     .sent = "0:s0 1",
     .within = 3 * SEC,
     .histories = {PAYMENT_HISTORY}},
    {.name = "event_comes_as_its_step_begins_to_wait",
     .of = "H21",
     .documents = {PAYMENT},
     .input = "{\"x\":3}",
     .rules = {{"committing 0:step.listening s1", .what = DECIDE_REQUEST, .kind = "publish", .text = EVENT_OF("3")}},
     .sent = "0:s0 1",
     .within = 3 * SEC,
     .histories = {PAYMENT_HISTORY}},
    {.name = "scheduler_dies_before_a_wait_looks_back",
     .of = "H21",
     .documents = {PAYMENT},
     .input = "{\"x\":3}",
     .answers = {{"0:s0", .takes = 500 * MS}},
     .rules = {{"called 0:s0/1/1", .what = DECIDE_REQUEST, .kind = "publish", .text = EVENT_OF("3")},
               {"committed 0:step.listening s1", .what = DECIDE_CRASH, .us = SEC}},
     .sent = "0:s0 1",
     .within = 30 * SEC,
     .histories = {PAYMENT_HISTORY}},
    {.name = "wait_of_unknown_outcome_is_woken_once",
     .of = "H21",
     .documents = {PAYMENT},
     .input = "{\"x\":3}",
     .rules = {{"committing 0:step.listening s1", .what = DECIDE_UNKNOWN},
               {.what = DECIDE_REQUEST, .after = 5 * SEC, .kind = "publish", .text = EVENT_OF("2")},
               {.what = DECIDE_REQUEST, .after = 6 * SEC, .kind = "publish", .text = EVENT_OF("3")},
               {.what = DECIDE_REQUEST, .after = 6 * SEC, .kind = "publish", .text = EVENT_OF("3")}},
     .sent = "0:s0 1",
     .histories = {PAYMENT_HISTORY}},
    {0},
};
