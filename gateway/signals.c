/* POST /v1/runs/{id}/signals/{name}: a command that carries the body, answered when the run has taken it. With an
 * Idempotency-Key the command is written once, and the same request gets the same answer. */
#include "common/base/fault.h"
#include "gateway/commands.h"
#include "common/base/ensure.h"
#include "common/engine/event.h"
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define NAME_MAX_BYTES 255
#define KEY_WAIT "100ms" /* for an equal key that is being committed, before others of the connection come first */
#define KEY_WAIT_US (5 * US_PER_S)
#define ANSWER_MAX 8192

struct signalling {
    struct call *call;
    struct run_id run;
    struct str body; /* of the command */
    struct str key;  /* STR_NONE: none */
    uint8_t body_hash[32];
    struct mono_us give_up;
    int64_t known_command;
    struct verdict_wait *wait;
};

/* The same whether the verdict is there or not, so that a request that is sent again gets what the first one got. */
static void answer_accepted(struct call *call, struct run_id run, int64_t command)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    buf_init(&body, ANSWER_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_krun(&w, "run_id", run);
    jw_krun(&w, "id", run);
    jw_kstr(&w, "signal", call->params[1]);
    jw_ki64(&w, "command", command);
    jw_kcstr(&w, "status", "accepted");
    jw_end_obj(&w);
    call_json_at(call, 202, command_location(call, run, command), buf_str(&body));
}

static void on_verdict(struct call *call, int64_t command, const struct verdict *verdict)
{
    struct run_id run = {{0}};

    (void)run_id_parse(call->params[0], &run);
    if (verdict->given && !verdict->applied)
        command_refused(call, verdict);
    else
        answer_accepted(call, run, command);
}

static void give_up(struct signalling *s)
{
    verdict_wait_command(s->wait, 0);
}

static void write_plain(struct signalling *s);
static void write_keyed(struct signalling *s);

/* The verdict on the command of an earlier request with this key, if it has been given. */
static void on_earlier(void *ctx, const struct pg_outcome *outcome)
{
    struct signalling *s = ctx;
    struct verdict verdict = {.given = true};
    const struct pg_result *rows;
    struct str data;

    if (outcome->rc != ERR_OK) {
        give_up(s);
        (void)call_committed(s->call, outcome);
        return;
    }
    rows = outcome->results[0];
    if (pg_rows(rows) == 0 || pg_is_null(rows, 0, 2)) {
        verdict_wait_command(s->wait, s->known_command);
        return;
    }
    give_up(s);
    data = pg_get_str(rows, 0, 3);
    verdict.applied = pg_get_int(rows, 0, 2) == EVENT_COMMAND_APPLIED;
    (void)jt_string(jt_get(data, "code"), s->call->arena, &verdict.code);
    (void)jt_string(jt_get(data, "message"), s->call->arena, &verdict.reason);
    on_verdict(s->call, s->known_command, &verdict);
}

static void find_earlier(struct signalling *s, int64_t command)
{
    struct pg_batch *batch = call_batch(s->call, false);

    s->known_command = command;
    pg_add(batch, SQL_COMMAND_GET, pg_uuid(s->run), pg_i64(command));
    pg_submit(gateway_read(s->call->gw), batch, on_earlier, s);
}

static void on_keyed(void *ctx, const struct pg_outcome *outcome)
{
    struct signalling *s = ctx;
    const struct pg_result *rows;

    if (outcome->rc == ERR_CONFLICT || outcome->unknown || strcmp(outcome->err->sqlstate, "55P03") == 0) {
        if (clock_mono().us < s->give_up.us) {
            write_keyed(s); /* finds the key that was in the way, or its own */
            return;
        }
        give_up(s);
        call_problem(s->call, 409, "idempotency_in_progress",
                     "another request with this Idempotency-Key has been in flight for 5 s; try again");
        return;
    }
    if (outcome->rc != ERR_OK) {
        give_up(s);
        (void)call_committed(s->call, outcome);
        return;
    }
    rows = outcome->results[2];
    if (pg_rows(rows) == 0) {
        give_up(s);
        call_problem(s->call, 404, "not_found", "there is no such run");
    } else if (!pg_get_bool(rows, 0, 1) || pg_is_null(rows, 0, 2)) {
        give_up(s);
        call_problem(s->call, 422, "idempotency_key_reused", "this Idempotency-Key was used for another request");
    } else if (pg_get_bool(rows, 0, 0)) {
        find_earlier(s, pg_get_int(rows, 0, 2));
    } else {
        FAULT_POINT(gateway_signal_written);
        gateway_nudge(s->call->gw, (int)pg_get_int(rows, 0, 3));
        amqp_flush(s->call->gw->publish);
        FAULT_POINT(gateway_signal_nudged);
        verdict_wait_command(s->wait, pg_get_int(rows, 0, 2));
    }
}

static void write_keyed(struct signalling *s)
{
    struct gateway *gw = s->call->gw;
    struct pg_batch *batch = call_batch(s->call, true);

    pg_add(batch, SQL_START_LOCK_WAIT, pg_text(STR(KEY_WAIT)));
    pg_add(batch, SQL_SIGNAL_EXPIRE, pg_uuid(s->run), pg_text(s->key));
    pg_add(batch, SQL_SIGNAL_INSERT, pg_uuid(s->run), pg_i16((int16_t)run_id_slot(s->run)), pg_json(s->body),
           pg_text(str_of(gw->queue)), pg_text(s->key), pg_bytea((struct str){(const char *)s->body_hash, 32}));
    pg_submit(gw->keyed_starts, batch, on_keyed, s);
}

static void on_plain(void *ctx, const struct pg_outcome *outcome)
{
    struct signalling *s = ctx;

    if (outcome->rc != ERR_OK || pg_rows(outcome->results[0]) == 0) {
        give_up(s);
        if (call_committed(s->call, outcome))
            call_problem(s->call, 404, "not_found", "there is no such run");
        return;
    }
    FAULT_POINT(gateway_signal_written);
    gateway_nudge(s->call->gw, (int)pg_get_int(outcome->results[0], 0, 1));
    amqp_flush(s->call->gw->publish);
    FAULT_POINT(gateway_signal_nudged);
    verdict_wait_command(s->wait, pg_get_int(outcome->results[0], 0, 0));
}

static void write_plain(struct signalling *s)
{
    struct gateway *gw = s->call->gw;
    struct pg_batch *batch = call_batch(s->call, true);

    pg_add(batch, SQL_COMMAND_INSERT, pg_uuid(s->run), pg_i16((int16_t)run_id_slot(s->run)), pg_text(STR("signal")),
           pg_json(s->body), pg_text(str_of(gw->queue)));
    pg_submit(gw->writes, batch, on_plain, s);
}

/* False: answered. */
static bool check_name(struct call *call)
{
    struct str name = call->params[1];
    bool good = name.len >= 1 && name.len <= NAME_MAX_BYTES;

    for (size_t i = 0; i < name.len && good; i++)
        good = (unsigned char)name.ptr[i] >= 0x20 && name.ptr[i] != 0x7f;
    if (!good)
        call_problem(call, 400, "bad_name", "a signal's name has 1 to 255 bytes and no control characters");
    return good;
}

/* Which request this is: the signal of that run, whatever the order of its payload's keys. */
static void hash_request(struct signalling *s)
{
    CLEANUP(buf_deinit) struct buf text = {0};
    char id[UUID_TEXT_SIZE];

    buf_init(&text, s->body.len + 4096);
    run_id_format(s->run, id);
    buf_printf(&text, "signal %s ", id);
    jt_canonical(s->body, &text);
    ENSURE(!text.overflow);
    sha256(buf_str(&text), s->body_hash);
}

void route_run_signal(struct call *call)
{
    struct signalling *s = arena_alloc(call->arena, sizeof(*s));
    CLEANUP(buf_deinit) struct buf body = {0};
    struct str payload;
    struct jw w;

    s->call = call;
    if (!call_run_id(call, 0, &s->run) || !check_name(call) || !call_body_or(call, STR("null"), &payload) ||
        !call_idempotency_key(call, &s->key))
        return;
    buf_init(&body, payload.len + 4096);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kstr(&w, "name", call->params[1]);
    jw_kraw(&w, "payload", payload);
    jw_end_obj(&w);
    s->body = str_arena(call->arena, buf_str(&body));
    FAULT_POINT(gateway_signal_read);
    s->give_up.us = clock_mono().us + KEY_WAIT_US;
    s->wait = verdict_wait_begin(call, s->run, VERDICT_US, on_verdict);
    if (s->key.ptr == NULL) {
        write_plain(s);
    } else {
        hash_request(s);
        write_keyed(s);
    }
}
