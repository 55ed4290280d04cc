/* POST /v1/deliveries/{id}:redeliver: a delivery of the log goes its way once more, behind the stages that judge a
 * sender: who asks has a key of the API. One that started no run starts one at most, however often and by whomever it
 * is asked for: it keeps what makes it unique. One that did starts another, unless it had an Idempotency-Key: then it
 * is answered as before. */
#include "gateway/document.h"
#include "gateway/hooks/hook.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

/* Of the log, until the workflow is known. */
struct asking {
    struct hook hook; /* first */
    struct hook_again again;
    struct str stage, run_body;
    bool genuine;
};

static void not_found(struct call *call)
{
    call_problem(call, 404, "not_found", "there is no such delivery");
}

static struct str header_of(struct hook *hook, const char *name)
{
    struct str text;

    return jt_string(jt_get(jt_get(hook->request, "headers"), name), hook->call->arena, &text) ? text : STR_NONE;
}

/* The key it came with; else that of who asks. */
static bool read_key(struct asking *asking, struct str known_hash)
{
    struct hook *hook = &asking->hook;
    struct hook_again *again = &asking->again;
    struct str text;

    again->key = header_of(hook, "idempotency-key");
    if (again->key.ptr != NULL) {
        sha256(hook->raw, again->body_hash);
        if (known_hash.len == sizeof(again->body_hash))
            memcpy(again->body_hash, known_hash.ptr, sizeof(again->body_hash));
        return true;
    }
    again->key = http_header_get(hook->call->http, "idempotency-key");
    if (again->key.ptr != NULL && !idempotency_key_is_valid(again->key)) {
        call_problem(hook->call, 400, "bad_idempotency_key",
                     "an Idempotency-Key has 1 to 255 bytes of printable ASCII");
        return false;
    }
    text = str_of(arena_printf(hook->call->arena, "redeliver " STR_FMT, STR_ARG(hook->call->params[0])));
    sha256(text, again->body_hash);
    return true;
}

static struct str copy(struct hook *hook, struct str s)
{
    return s.ptr == NULL ? s : str_arena(hook->call->arena, s);
}

/* Columns: sql/delivery_again.sql. */
static void take_row(struct asking *asking, const struct pg_result *rows)
{
    struct hook *hook = &asking->hook;
    struct hook_again *again = &asking->again;
    struct str address = pg_get_str(rows, 0, 4), nonce = pg_get_str(rows, 0, 8);

    hook->received_at = pg_get_time(rows, 0, 0);
    hook->start.workflow = copy(hook, pg_get_str(rows, 0, 1));
    hook->trigger_name = copy(hook, pg_get_str(rows, 0, 2));
    asking->stage = copy(hook, pg_get_str(rows, 0, 3));
    if (address.ptr == NULL || !address_parse(address, hook->address))
        memset(hook->address, 0, sizeof(hook->address));
    hook->request = copy(hook, pg_get_str(rows, 0, 5));
    hook->raw = copy(hook, pg_is_null(rows, 0, 6) ? STR("") : pg_get_str(rows, 0, 6));
    hook->has_body = true;
    hook->genuine = asking->genuine = pg_get_bool(rows, 0, 7);
    again->taken = !pg_is_null(rows, 0, 9);
    again->nonce = nonce.ptr != NULL
                       ? copy(hook, nonce)
                       : str_of(arena_printf(hook->call->arena, "redelivery " STR_FMT, STR_ARG(hook->call->params[0])));
    if (!again->taken)
        return;
    again->nonce = STR_NONE;
    asking->run_body = copy(hook, jt_get(pg_get_str(rows, 0, 10), "body"));
    hook->raw = hook->body = asking->run_body;
    hook->raw_is_lost = true;
}

/* False: answered. */
static bool can_go_again(struct asking *asking)
{
    struct call *call = asking->hook.call;

    if (str_is(asking->stage, "hold"))
        call_problem(call, 409, "held",
                     "it was taken: the trigger's debounce, throttle or batch says what comes of it");
    else if (asking->again.taken && asking->run_body.ptr == NULL)
        call_problem(call, 409, "not_kept",
                     "its body is not kept: the run that it started is gone, or was one of a batch");
    else if (!asking->again.taken && str_is(asking->stage, "replay"))
        call_problem(call, 409, "replayed", "it came a second time: redeliver the first one");
    else if (!asking->again.taken && !asking->genuine)
        call_problem(call, 409, "not_genuine",
                     "it was refused before its signature was found good: nobody vouches for it");
    else
        return true;
    return false;
}

static void on_row(void *ctx, const struct pg_outcome *outcome)
{
    struct asking *asking = ctx;
    const struct pg_result *rows;

    if (!call_committed(asking->hook.call, outcome))
        return;
    rows = outcome->results[0];
    if (pg_rows(rows) == 0) {
        not_found(asking->hook.call);
        return;
    }
    take_row(asking, rows);
    if (can_go_again(asking) && read_key(asking, pg_get_str(rows, 0, 11)))
        hook_look_up(&asking->hook, false);
}

void hook_take_again(struct hook *hook)
{
    if (hook->again->taken || hook_read_body(hook, header_of(hook, "content-type")))
        hook_go_on(hook);
}

void route_redeliver(struct call *call)
{
    struct asking *asking = arena_alloc(call->arena, sizeof(*asking));
    struct pg_batch *batch;
    struct str body;

    if (!run_id_parse(call->params[0], &asking->again.of)) {
        not_found(call);
        return;
    }
    if (!call_body_object(call, "", &body))
        return;
    hook_init(&asking->hook, call);
    asking->hook.again = &asking->again;
    asking->hook.start.organisation = call->caller.organisation;
    batch = call_batch(call, false);
    pg_add(batch, SQL_DELIVERY_AGAIN, pg_uuid(asking->again.of));
    pg_submit(gateway_read(call->gw), batch, on_row, asking);
}
