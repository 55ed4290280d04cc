/* What is asked of a schedule: pause, resume, override. */
#include "common/base/ensure.h"
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "gateway/schedules.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define FAULTS_MAX 65536

static void on_changed(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;

    if (call_committed(call, outcome))
        schedule_answer(call, outcome, 1);
}

static void answer_after(struct call *call, struct pg_batch *batch, struct run_id id)
{
    pg_add(batch, SQL_SCHEDULE_GET, pg_uuid(id));
    pg_submit(call->gw->writes, batch, on_changed, call);
}

void route_schedule_pause(struct call *call)
{
    struct pg_batch *batch;
    struct run_id id;
    struct str body;

    if (!schedule_id(call, &id) || !call_body_object(call, "", &body))
        return;
    batch = call_batch(call, true);
    pg_add(batch, SQL_SCHEDULE_PAUSE, pg_uuid(id), pg_bool(strstr(call->route->pattern, ":pause") != NULL));
    answer_after(call, batch, id);
}

/* ---- override ---- */

struct faults {
    struct arena *arena;
    struct buf *out;
    struct jw w;
};

static void on_fault(void *ctx, const char *code, const char *pointer, const char *message, const char *hint)
{
    struct faults *faults = ctx;

    if (faults->out->len > FAULTS_MAX / 2)
        return;
    jw_obj(&faults->w);
    jw_kcstr(&faults->w, "code", code);
    jw_kcstr(&faults->w, "pointer", arena_printf(faults->arena, "/override%s", pointer));
    jw_kcstr(&faults->w, "message", message);
    jw_kcstr(&faults->w, "hint", hint);
    jw_end_obj(&faults->w);
}

static bool check_override(struct call *call, struct str override)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct schedule_definition definition;
    struct faults faults = {.arena = call->arena, .out = &out};
    struct zones *zones = zones_new(ZONEINFO_FOLDER);
    bool good;

    buf_init(&out, FAULTS_MAX);
    faults.w = jw_to(&out);
    jw_arr(&faults.w);
    good = schedule_definition_read(override, zones, (struct wall_us){0}, on_fault, &faults, &definition);
    jw_end_arr(&faults.w);
    zones_free(zones);
    if (!good)
        call_problem_errors(call, 422, "invalid_override", "the override has faults", buf_str(&out));
    return good;
}

void route_schedule_override(struct call *call)
{
    struct pg_batch *batch;
    struct str body, override;
    struct run_id id;

    if (!schedule_id(call, &id) || !call_body_object(call, "override", &body))
        return;
    override = jt_get(body, "override");
    if (jt_type(override) != JT_NULL && (jt_type(override) != JT_OBJECT || jt_count(override) != 1)) {
        call_fault(call, override.ptr == NULL ? "missing_field" : "wrong_type", "/override",
                   "override must be {\"cron\": ...}, {\"every\": ...} or {\"at\": ...}; null removes it");
        return;
    }
    if (jt_type(override) == JT_OBJECT && !check_override(call, override))
        return;
    batch = call_batch(call, true);
    pg_add(batch, SQL_SCHEDULE_OVERRIDE, pg_uuid(id), jt_type(override) == JT_NULL ? pg_null() : pg_json(override));
    answer_after(call, batch, id);
}
