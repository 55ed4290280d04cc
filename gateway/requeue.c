/* A dead letter is sent again: read, checked as its message would be, and handed to the schedulers as commands, one for
 * each run that it is about, in the transaction that notes who did it. They look at it as at a fresh one, token first.
 * What came over the exchange of events is taken here, as any event is, and then it is noted: asked once more after a
 * crash between the two, the event is known and only the note is made. */
#include "common/base/ensure.h"
#include "common/engine/engine.h"
#include "gateway/dead_letters.h"
#include "gateway/document.h"
#include "gateway/incoming/publish.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "proto/results.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define RESULTS_MAX 10000 /* of one message: its schema refuses more */
#define OVERHEAD_BYTES 512

struct sent {
    struct run_id run;
    struct str body; /* of the command, JSON */
};

struct requeue {
    struct call *call;
    struct run_id id;
    struct str given; /* the corrected body, STR_NONE: as it was */
    size_t count;
    struct sent *sent;
};

/* ---- what is wrong with a message ---- */

struct first_fault {
    struct call *call;
    struct str before; /* pointer of what is checked, within the message */
    bool told;
};

static void on_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    struct first_fault *f = ctx;

    (void)hint;
    if (f->told)
        return;
    f->told = true;
    call_fault(f->call, code,
               arena_printf(f->call->arena, STR_FMT STR_FMT, STR_ARG(f->before),
                            STR_ARG(pointer.ptr == NULL ? STR("") : pointer)),
               arena_dup(f->call->arena, message, strlen(message)));
}

/* Tells what the schema says against it; false: answered. */
static bool keeps(struct call *call, const struct schema *schema, struct str json, struct str before)
{
    struct first_fault f = {.call = call, .before = before};
    struct err err;

    if (schema_check(schema, json, on_fault, &f, &err) == ERR_OK)
        return true;
    if (!f.told)
        call_fault(call, "wrong_type", "", err.message);
    return false;
}

/* The run that a task id names; false: answered. */
static bool run_of_task(struct call *call, struct str task_id, struct str before, struct run_id *ret)
{
    struct str text, step;
    uint32_t attempt, dispatch;
    struct err err;

    if (jt_string(task_id, call->arena, &text) &&
        engine_parse_task_id(text, ret, &step, &attempt, &dispatch, &err) == ERR_OK)
        return true;
    call_fault(call, "out_of_range", arena_printf(call->arena, STR_FMT "/task_id", STR_ARG(before)),
               "the task id names no attempt: it is run/step/attempt/dispatch");
    return false;
}

/* ---- the commands ---- */

static void add(struct requeue *q, struct run_id run, const char *as, struct str type, struct str message)
{
    struct buf body;
    struct jw w;

    buf_init(&body, message.len + type.len * 6 + OVERHEAD_BYTES);
    w = jw_to(&body);
    jw_obj(&w);
    jw_krun(&w, "letter", q->id);
    jw_kcstr(&w, "as", as);
    if (type.ptr != NULL)
        jw_kstr(&w, "type", type);
    jw_kraw(&w, "message", message);
    jw_end_obj(&w);
    q->sent[q->count++] = (struct sent){run, str_arena(q->call->arena, buf_str(&body))};
    buf_deinit(&body);
}

static bool take_results(struct requeue *q, struct str message)
{
    struct str fields[RESULT_ITEM_FIELDS];
    struct results results;
    struct err err;
    enum err_code rc;

    if (!keeps(q->call, &SCHEMA_RESULT_ENVELOPE, message, STR("")))
        return false;
    rc = results_open(&results, message, &err);
    q->sent = arena_array(q->call->arena, RESULTS_MAX, sizeof(*q->sent));
    for (size_t i = 0; rc == ERR_OK && results_next(&results, fields, &rc, &err); i++) {
        struct str at = results.many ? str_of(arena_printf(q->call->arena, "/results/%zu", i)) : STR("");
        struct run_id run;

        ENSURE(i < RESULTS_MAX);
        if (!keeps(q->call, &SCHEMA_RESULT_ITEM, results.item, at) ||
            !run_of_task(q->call, fields[RESULT_ITEM_TASK_ID], at, &run))
            return false;
        add(q, run, "result", STR_NONE, results.item);
    }
    if (q->count > 0)
        return true;
    call_fault(q->call, "missing_field", "/results", "there is no result in it");
    return false;
}

static bool take_started(struct requeue *q, struct str message)
{
    struct run_id run;

    if (!keeps(q->call, &SCHEMA_STARTED, message, STR("")) ||
        !run_of_task(q->call, jt_get(message, "task_id"), STR(""), &run))
        return false;
    q->sent = arena_array(q->call->arena, 1, sizeof(*q->sent));
    add(q, run, "started", STR_NONE, message);
    return true;
}

/* What a message is says its type, or, when that is what was wrong, its shape. */
static bool is_result(const struct letter *letter, struct str message)
{
    if (str_is(letter->type, "result") || str_is(letter->type, "started"))
        return str_is(letter->type, "result");
    return jt_get(message, "results").ptr != NULL || jt_get(message, "status").ptr != NULL;
}

static bool take_message(struct requeue *q, const struct letter *letter)
{
    struct str message = q->given;
    struct err err;

    if (message.ptr == NULL &&
        jt_check_repair(q->call->arena, letter->body, &JT_LIMITS_MESSAGE, &message, &err) != ERR_OK) {
        call_fault(q->call, "not_json", "",
                   arena_printf(q->call->arena, "%s; send a corrected body with the request", err.message));
        return false;
    }
    return is_result(letter, message) ? take_results(q, message) : take_started(q, message);
}

/* A command goes to the run that it was for, as it is: what it may say is the API's business. */
static bool take_command(struct requeue *q, const struct letter *letter)
{
    if (q->given.ptr != NULL) {
        call_fault(q->call, "unknown_field", "",
                   "a command is sent again as it was; ask for something else by its own call");
        return false;
    }
    q->sent = arena_array(q->call->arena, 1, sizeof(*q->sent));
    add(q, letter->run, "command", letter->type, letter->body.len == 0 ? STR_NONE : letter->body);
    return true;
}

static void hand_on(void *ctx);

/* They are noted when they are committed. */
static void take_events(struct requeue *q, const struct letter *letter)
{
    const struct limits *most = &q->call->caller.limits;
    struct jt_limits limits = JT_LIMITS_API;
    struct str message = q->given;
    struct err err;

    limits.max_bytes = (size_t)most->of[LIMIT_BODY_BYTES];
    limits.max_depth = (unsigned)most->of[LIMIT_JSON_DEPTH];
    if (message.ptr == NULL)
        message = str_arena(q->call->arena, letter->body);
    if (q->given.ptr == NULL && jt_check(message, &limits, &err) != ERR_OK)
        call_fault(q->call, err.code == ERR_TOO_LARGE ? "too_large" : "not_json", "",
                   arena_printf(q->call->arena, "%s; send a corrected body with the request", err.message));
    else
        events_take_json(q->call, message, hand_on, q);
}

static void take(struct requeue *q, const struct letter *letter)
{
    bool command = str_is(letter->kind, "command") && letter->has_run && letter->type.ptr != NULL;

    if (!command && (!str_is(letter->kind, "message") || str_is(letter->type, "task"))) {
        call_problem(
            q->call, 409, "not_requeueable",
            str_is(letter->reason, "poison")
                ? "the step has ended as failed, because three workers in a row were lost with it; start the run "
                  "again when the reason is mended"
                : "nothing waits for it: the scheduler itself sends a task again; it can only be discarded");
        return;
    }
    if (q->given.ptr == NULL && (size_t)letter->bytes > letter->body.len) {
        call_problemf(q->call, 409, "truncated",
                      "only the first %zu of its %lld bytes were kept; send a corrected body with the request",
                      letter->body.len, (long long)letter->bytes);
        return;
    }
    if (str_is(letter->type, "event"))
        take_events(q, letter);
    else if (command ? take_command(q, letter) : take_message(q, letter))
        hand_on(q);
}

/* ---- the request ---- */

/* Was this what has been asked for before? */
static bool same_ask(const struct requeue *q, const struct letter *letter)
{
    if (!str_is(letter->status, "requeued") || (q->given.ptr == NULL) != (letter->corrected.ptr == NULL))
        return false;
    return q->given.ptr == NULL || str_eq(q->given, letter->corrected);
}

static void answer_decided(const struct requeue *q, const struct letter *letter)
{
    if (same_ask(q, letter))
        letter_answer(q->call, letter);
    else
        letter_decided(q->call, letter);
}

static void on_sent(void *ctx, const struct pg_outcome *outcome)
{
    struct requeue *q = ctx;
    const struct pg_result *rows;
    struct letter letter;

    if (!call_committed(q->call, outcome))
        return;
    rows = outcome->results[0];
    if (!pg_get_bool(rows, 0, 0)) {
        call_problem(q->call, 422, "unknown_run", "it names a run that the organisation does not have");
        return;
    }
    if (pg_rows(outcome->results[1]) == 0) {
        call_problem(q->call, 404, "not_found", "there is no such dead letter");
        return;
    }
    letter = letter_of(outcome->results[1], 0, true);
    if (!pg_get_bool(rows, 0, 1)) {
        answer_decided(q, &letter);
        return;
    }
    for (size_t i = 0; i < pg_rows(rows) && q->count > 0; i++)
        gateway_nudge(q->call->gw, (int)pg_get_int(rows, i, 2));
    amqp_flush(q->call->gw->publish);
    letter_answer(q->call, &letter);
}

static void hand_on(void *ctx)
{
    struct requeue *q = ctx;
    struct pg_batch *batch = call_batch(q->call, true);
    struct pg_array *runs = pg_array_new(batch, PG_E_UUID);
    struct pg_array *slots = pg_array_new(batch, PG_E_I16);
    struct pg_array *bodies = pg_array_new(batch, PG_E_JSON);
    bool unnamed = letter_may_unnamed(q->call);

    for (size_t i = 0; i < q->count; i++) {
        pg_array_add(runs, pg_uuid(q->sent[i].run));
        pg_array_add(slots, pg_i16((int16_t)run_id_slot(q->sent[i].run)));
        pg_array_add(bodies, pg_json(q->sent[i].body));
    }
    pg_add(batch, SQL_DEAD_LETTER_REQUEUE, pg_uuid(q->id), pg_bool(unnamed), pg_text(str_of(q->call->caller.prefix)),
           q->given.ptr == NULL ? pg_null() : pg_bytea(q->given), pg_array_param(runs), pg_array_param(slots),
           pg_array_param(bodies));
    pg_add(batch, SQL_DEAD_LETTER_GET, pg_uuid(q->id), pg_bool(unnamed));
    pg_submit(q->call->gw->writes, batch, on_sent, q);
}

static void on_read(void *ctx, const struct pg_outcome *outcome)
{
    struct requeue *q = ctx;
    struct letter letter;

    if (!call_committed(q->call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0) {
        call_problem(q->call, 404, "not_found", "there is no such dead letter");
        return;
    }
    letter = letter_of(outcome->results[0], 0, true);
    if (!str_is(letter.status, "open"))
        answer_decided(q, &letter);
    else
        take(q, &letter);
}

void route_dead_letter_requeue(struct call *call)
{
    struct requeue *q = arena_alloc(call->arena, sizeof(*q));
    struct pg_batch *batch;

    *q = (struct requeue){.call = call};
    if (!letter_id(call, &q->id))
        return;
    if (str_trim(http_body(call->http)).len > 0 && !call_body(call, &q->given))
        return;
    batch = call_batch(call, false);
    pg_add(batch, SQL_DEAD_LETTER_GET, pg_uuid(q->id), pg_bool(letter_may_unnamed(call)));
    pg_submit(gateway_read(call->gw), batch, on_read, q);
}
