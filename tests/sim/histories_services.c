/* Directed histories of clocks and of services that are away. */
#include "tests/sim/script.h"

#include "common/base/banned.h"

#define HOUR (3600 * SEC)
#define ONE DOCUMENT("w0", STEP("s0", CALL RETRY(3, "100ms")))
#define PATIENT DOCUMENT("w0", STEP("s0", CALL ",\"deadline\":\"60s\""))
#define DELAY DOCUMENT("w0", STEP("s0", "\"call\":\"delay\",\"with\":{\"duration\":\"2s\"}"))
#define DONE "run.started, step.dispatched s0/1, step.succeeded s0/1, run.succeeded"
#define DONE_STARTED "run.started, step.dispatched s0/1, step.started s0/1, step.succeeded s0/1, run.succeeded"

const struct script histories_services[] = {
    {.name = "clock_of_postgresql_jumps_an_hour_ahead",
     .of = "H13",
     .documents = {ONE},
     .answers = {{"0:s0", .takes = 5 * SEC}},
     .rules = {{"called 0:s0/1/1", .what = DECIDE_JUMP, .after = 2 * SEC, .us = HOUR}},
     .sent = "0:s0 1",
     .within = 8 * SEC,
     .histories = {DONE_STARTED}},
    {.name = "clock_of_postgresql_jumps_an_hour_back",
     .of = "H13",
     .documents = {ONE},
     .answers = {{"0:s0", .takes = 5 * SEC}},
     .rules = {{"called 0:s0/1/1", .what = DECIDE_JUMP, .after = 2 * SEC, .us = -HOUR}},
     .sent = "0:s0 1",
     .within = 8 * SEC,
     .histories = {DONE_STARTED}},
    {.name = "clock_jumps_back_during_a_delay",
     .of = "H13",
     .documents = {DELAY},
     .rules = {{.what = DECIDE_JUMP, .after = 2 * SEC, .us = -60 * SEC}},
     .lasts = 60 * SEC,
     .within = 65 * SEC,
     .histories = {"run.started, step.waiting s0, step.succeeded s0, run.succeeded"}},
    {.name = "machines_disagree_about_the_time",
     .of = "H13",
     .documents = {PATIENT},
     .rules = {{.what = DECIDE_CLOCK, .who = S0, .after = 100 * MS, .us = 2 * HOUR},
               {.what = DECIDE_CLOCK, .who = S1, .after = 100 * MS, .us = 2 * HOUR},
               {.what = DECIDE_CLOCK, .who = W0, .after = 100 * MS, .us = -3 * HOUR},
               {.what = DECIDE_CLOCK, .who = W1, .after = 100 * MS, .us = HOUR}},
     .sent = "0:s0 1",
     .histories = {DONE}},
    {.name = "broker_comes_back_empty",
     .of = "B4c",
     .documents = {CHAIN},
     .rules = {{"published task 0:s1/1/1", .what = DECIDE_BROKER, .us = 2 * SEC},
               {"published task 0:s1/1/1", .what = DECIDE_PURGE, .after = SEC}},
     .sent = "0:s0 1, 0:s1 1, 0:s2 1",
     .within = 40 * SEC,
     .histories = {CHAIN_HISTORY}},
    {.name = "publishers_are_blocked",
     .of = "",
     .documents = {ONE},
     .rules = {{"called 0:s0/1/1", .what = DECIDE_ALARM, .us = 10 * SEC}},
     .sent = "0:s0 1",
     .within = 13 * SEC,
     .histories = {DONE}},
    {.name = "postgresql_away_when_the_result_comes",
     .of = "",
     .documents = {ONE},
     .rules = {{"called 0:s0/1/1", .what = DECIDE_DATABASE, .us = 5 * SEC}},
     .sent = "0:s0 1",
     .within = 9 * SEC,
     .histories = {DONE}},
    {0},
};
