/* `respond`: a sender that waits for what its run gives. Waiting holds a watcher and a timer, no connection of
 * PostgreSQL and no thread. */
#include "gateway/hooks/hook.h"
#include "gateway/json_more.h"
#include "gateway/wait.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define RUN_JSON_MAX 4096

static bool has_header(const struct plan_respond *respond, const char *name)
{
    for (size_t i = 0; i < respond->header_count; i++)
        if (str_is(respond->headers[i].name, name))
            return true;
    return false;
}

/* A text goes as it is, anything else as JSON. */
static void answer(struct hook *hook, struct str json)
{
    const struct plan_respond *respond = &hook->trigger->webhook.respond;
    struct http_header *headers = arena_array(hook->call->arena, respond->header_count + 1, sizeof(*headers));
    struct str text = json;
    bool is_text = jt_string(json, hook->call->arena, &text);
    const char *type = is_text ? "text/plain; charset=utf-8" : "application/json";

    for (size_t i = 0; i < respond->header_count; i++)
        headers[i] = (struct http_header){respond->headers[i].name, respond->headers[i].value};
    http_respond(hook->call->http, (int)respond->status, has_header(respond, "content-type") ? NULL : type, headers,
                 respond->header_count, text);
}

static void on_filled(void *ctx, enum fill_status status, struct str value, const char *message)
{
    struct hook *hook = ctx;

    if (status == FILL_OK)
        answer(hook, value);
    else
        call_problemf(hook->call, 500, "expression_failed", "the run has succeeded, its answer cannot be made: %s",
                      message);
}

static struct str run_json(struct hook *hook, const struct pg_result *rows)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w;

    buf_init(&out, RUN_JSON_MAX);
    w = jw_to(&out);
    jw_obj(&w);
    jw_krun(&w, "id", hook->start.run_id);
    jw_kstr(&w, "workflow", hook->start.workflow);
    jw_ki64(&w, "version", pg_get_int(rows, 0, 1));
    jw_ktime(&w, "created_at", pg_get_time(rows, 0, 2));
    jw_kstr(&w, "status", pg_get_str(rows, 0, 0));
    jw_end_obj(&w);
    return str_arena(hook->call->arena, buf_str(&out));
}

static void on_read(void *ctx, const struct pg_outcome *outcome)
{
    struct hook *hook = ctx;
    const struct plan_respond *respond = &hook->trigger->webhook.respond;
    const struct pg_result *rows;
    struct str output;

    if (!call_committed(hook->call, outcome))
        return;
    rows = outcome->results[0];
    if (pg_rows(rows) == 0 || !str_is(pg_get_str(rows, 0, 0), "succeeded")) {
        char id[UUID_TEXT_SIZE];

        run_id_format(hook->start.run_id, id);
        call_problemf(hook->call, 500, "run_not_succeeded", "run %s has ended " STR_FMT, id,
                      STR_ARG(pg_rows(rows) == 0 ? STR("and is gone") : pg_get_str(rows, 0, 0)));
        return;
    }
    output = pg_is_null(rows, 0, 3) ? STR("null") : str_arena(hook->call->arena, pg_get_str(rows, 0, 3));
    if (!respond->has_body) {
        answer(hook, output);
        return;
    }
    struct expr_doc doc = {.trigger = hook->delivery.trigger,
                           .input = hook->start.input,
                           .run = run_json(hook, rows),
                           .output = output,
                           .index = -1};

    hook_fill(hook, &respond->body, &doc, on_filled);
}

static void on_end(struct call *call, struct run_id run, bool ended)
{
    struct hook *hook = call->ctx;
    struct pg_batch *batch;

    if (!ended) {
        starting_answer_accepted(call, run);
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_RUN_ANSWER, pg_uuid(run));
    pg_submit(gateway_read(call->gw), batch, on_read, hook);
}

bool hook_waits(const struct hook *hook)
{
    return hook->again == NULL && hook->trigger->webhook.respond.wait_us > 0;
}

void hook_answer_run(struct hook *hook, bool announced)
{
    if (!hook_waits(hook)) {
        starting_answer_accepted(hook->call, hook->start.run_id);
        return;
    }
    hook->call->ctx = hook;
    wait_for_end(hook->call, hook->start.run_id, hook->trigger->webhook.respond.wait_us, announced, on_end);
}
