/* Schedules as rows: kept in line with the document that is saved, listed, told in JSON. */
#pragma once
#include "common/schedule/definition.h"
#include "gateway/call.h"

/* Adds to a batch that saves the document what brings its schedules in line with it, behind the save itself. */
void schedules_save(struct call *call, struct pg_batch *batch, struct str workflow, struct str document,
                    const uint8_t hash[32]);

/* A row of schedule_list.sql or schedule_get.sql. */
struct schedule_row {
    struct run_id id, last_run;
    struct str workflow, trigger, definition, override, fault, last_error;
    bool paused, enabled, has_run;
    int64_t waiting;
    struct wall_us created, anchor, after, next, due, last, last_fired, now;
};
struct schedule_row schedule_row_of(const struct pg_result *rows, size_t i);
/* What holds of it, read. False when this machine cannot read it (a zone that it does not have). */
bool schedule_row_read(const struct schedule_row *row, struct zones *zones, struct schedule_definition *ret);
void schedule_row_json(const struct schedule_row *row, struct zones *zones, struct jw *w);
bool schedule_id(struct call *call, struct run_id *ret); /* of the path; false: answered 404 */
void schedule_unknown(struct call *call);
/* Answers with the schedule that result `index` of the outcome tells of. */
void schedule_answer(struct call *call, const struct pg_outcome *outcome, size_t index);
