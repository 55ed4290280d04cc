/* /hooks/{organisation}/{workflow}/{trigger}: the stages in their order. */
#include "gateway/hooks/hook.h"
#include "gateway/backlog.h"
#include "gateway/document.h"
#include "gateway/route.h"

#include "common/base/banned.h"

#define KEY_WAIT_US (5 * US_PER_S)
#define LOG_KEPT_S (7 * 24 * 3600)

static void not_found(struct hook *hook)
{
    metric_add(METRIC_HOOKS_UNKNOWN, 1);
    call_problem(hook->call, 404, "not_found", "there is no such webhook");
}

struct str hook_nonce(const struct hook *hook)
{
    if (hook->again != NULL)
        return hook->again->nonce;
    if (hook->genuine && hook->verdict.nonce[0] != '\0' && hook->trigger->webhook.modes[HOOK_REPLAY] != HOOK_OFF &&
        !hook->replay_passed)
        return str_of(hook->verdict.nonce);
    return STR_NONE;
}

struct str hook_scope(const struct hook *hook)
{
    return str_of(arena_printf(hook->call->arena, STR_FMT "/" STR_FMT, STR_ARG(hook->start.workflow),
                               STR_ARG(hook->trigger->name)));
}

static void write_delivery(struct hook *hook)
{
    struct start_delivery *delivery = &hook->delivery;

    delivery->scope = hook_scope(hook);
    delivery->nonce = hook_nonce(hook);
    delivery->kept_s = (int32_t)(2 * hook->trigger->webhook.window_us / US_PER_S) + 1;
    if (hook->again != NULL && delivery->kept_s < LOG_KEPT_S)
        delivery->kept_s = LOG_KEPT_S; /* as long as it can be asked for once more */
    hook->start.delivery = delivery;
}

void hook_submit(struct hook *hook)
{
    struct gateway *gw = hook->call->gw;
    struct start *start = &hook->start;

    write_delivery(hook);
    start->wants_reply = hook_waits(hook);
    start->run_id = start_run_id(gw, start->organisation, start->workflow, start->key, &start->created_at);
    hook->delivery.trigger = hook_trigger_json(hook);
    hook->delivery.log = hook_log_json(hook);
    hook->delivery.id = hook->id;
    starts_submit(gw->starts, start);
}

static void on_key(void *ctx, enum fill_status status, const char *message)
{
    struct hook *hook = ctx;

    if (status == FILL_OK)
        hook_submit(hook);
    else if (status == FILL_FAILED)
        hook_refuse(hook, "start", "expression_failed", 422, "expression_failed", message);
    else
        hook_refuse(hook, "start", "unavailable", 503, "unavailable", message);
}

/* The group that it belongs to, where the trigger has debounce, throttle or batch. */
static void with_fitting_input(struct hook *hook)
{
    struct call *call = hook->call;

    hook->delivery.held.rule = STR_NONE;
    if (hook->trigger->hold.how == HOLD_NONE) {
        hook_submit(hook);
        return;
    }
    hook->holding = (struct holding){.gw = call->gw,
                                     .organisation = hook->start.organisation,
                                     .limits = &call->caller.limits,
                                     .arena = call->arena,
                                     .workflow = hook->start.workflow,
                                     .trigger = hook->trigger,
                                     .doc = {.trigger = hook_trigger_json(hook), .index = -1},
                                     .to = &hook->delivery.held,
                                     .done = on_key,
                                     .ctx = hook};
    holding_make(&hook->holding);
}

static void on_flow_again(void *ctx, struct flow *flow, enum err_code rc, const struct err *err)
{
    struct hook *hook = ctx;
    if (rc != ERR_OK)
        hook_refuse(hook, "start", "unavailable", 503, "unavailable", err->message);
    else if (flow == NULL)
        not_found(hook);
    else if (!starting_trigger_input_fits(flow, hook->trigger, hook->start.input, hook->call->arena))
        hook_refuse(hook, "start", "invalid_input", 422, "invalid_input",
                    "the input does not keep the workflow's input_schema");
    else
        with_fitting_input(hook);
}

static void with_input(struct hook *hook)
{
    flows_version(hook->call->gw->flows, hook->start.organisation, hook->start.workflow, hook->version, on_flow_again,
                  hook);
}

static bool admit(struct hook *hook)
{
    enum admission_verdict verdict =
        backlog_ask(hook->call->gw->backlog, hook->start.organisation, hook->start.priority, &hook->after_s);

    if (verdict == ADMISSION_TAKEN)
        return true;
    if (verdict == ADMISSION_SHARE)
        hook_refuse(hook, "start", "organisation_busy", 429, "organisation_busy", "too much work waits; send it again");
    else
        hook_refuse(hook, "start", "overloaded", 503, "overloaded", "too many starts wait; send it again");
    return false;
}

static bool read_key(struct hook *hook)
{
    struct start *start = &hook->start;

    start->key = STR_NONE;
    if (hook->again != NULL) {
        start->key = hook->again->key;
        memcpy(start->body_hash, hook->again->body_hash, sizeof(start->body_hash));
        return true;
    }
    if (hook->trigger->webhook.modes[HOOK_IDEMPOTENCY] == HOOK_OFF)
        return true;
    start->key = http_header_get(hook->call->http, "idempotency-key");
    if (start->key.ptr != NULL && !idempotency_key_is_valid(start->key)) {
        hook_refuse(hook, "idempotency", "bad_idempotency_key", 400, "bad_idempotency_key",
                    "an Idempotency-Key has 1 to 255 bytes of printable ASCII");
        return false;
    }
    sha256(hook->raw, start->body_hash);
    return true;
}

void hook_go_on(struct hook *hook)
{
    if (!hook->trigger->enabled) {
        hook_refuse(hook, "start", "trigger_disabled", 409, "trigger_disabled", "this trigger is switched off");
        return;
    }
    if (!read_key(hook) || !admit(hook))
        return;
    hook_make_input(hook, with_input);
}

static void unseen(struct hook *hook)
{
    hook_check_rate(hook, hook_go_on);
}

static void with_secrets(struct hook *hook)
{
    if (hook_check_signature(hook) && hook_read_body(hook, http_header_get(hook->call->http, "content-type")) &&
        !hook_is_challenge(hook))
        hook_check_replay(hook, unseen);
}

static void with_body(struct hook *hook)
{
    hook_open_secrets(hook, with_secrets);
}

static void go_in(struct hook *hook)
{
    if (hook_check_address(hook))
        hook_check_size(hook, with_body);
}

static void hold_plan(struct hook *hook, struct flow *flow)
{
    hook->plan = plan_ref(flow->plan);
    arena_defer(hook->call->arena, (void (*)(void *))plan_unref, hook->plan);
    hook->trigger = plan_find_trigger(hook->plan, hook->trigger_name);
    hook->version = hook->start.version = flow->version;
    hook->start.priority = flow->plan->priority;
}

static void on_flow(void *ctx, struct flow *flow, enum err_code rc, const struct err *err)
{
    struct hook *hook = ctx;

    if (rc != ERR_OK) {
        call_error(hook->call, err);
        return;
    }
    if (flow != NULL && flow->plan != NULL)
        hold_plan(hook, flow);
    if (hook->trigger == NULL || hook->trigger->kind != TRIGGER_WEBHOOK) {
        not_found(hook);
        return;
    }
    hook->start.start_at = hook->trigger->start_at;
    if (hook->again != NULL) {
        hook_take_again(hook);
        return;
    }
    hook_write_request(hook);
    if (hook->asks)
        hook_get_challenge(hook);
    else
        go_in(hook);
}

void hook_look_up(struct hook *hook, bool fresh)
{
    hook->trigger = NULL;
    hook->secret_fault = NULL;
    buf_reset(&hook->audit);
    flows_newest(hook->call->gw->flows, hook->start.organisation, hook->start.workflow, fresh, on_flow, hook);
}

static void with_organisation(struct hook *hook)
{
    if (hook->call->caller.organisation == 0) {
        not_found(hook);
        return;
    }
    hook->start.organisation = hook->call->caller.organisation;
    hook_look_up(hook, false);
}

void hook_init(struct hook *hook, struct call *call)
{
    hook->call = call;
    hook->at = hook->received_at = db_clock_now(&call->gw->clock);
    hook->id = run_id_make(hook->at, (unsigned)(random_u64() % SLOT_COUNT));
    buf_init(&hook->audit, 1024);
    arena_defer(call->arena, (void (*)(void *))buf_deinit, &hook->audit);
    hook->start.labels = STR("{}");
    hook->start.give_up.us = clock_mono().us + KEY_WAIT_US;
    hook->start.done = hook_started;
}

static void receive(struct call *call, bool asks)
{
    struct hook *hook = arena_alloc(call->arena, sizeof(*hook));

    hook_init(hook, call);
    hook->asks = asks;
    hook->start.workflow = call->params[1];
    hook->trigger_name = call->params[2];
    if (!name_is_valid(call->params[0]) || !name_is_valid(call->params[1]) || !name_is_valid(call->params[2]))
        not_found(hook);
    else
        hook_find_organisation(hook, call->params[0], with_organisation);
}

void route_hook(struct call *call)
{
    receive(call, false);
}

void route_hook_challenge(struct call *call)
{
    receive(call, true);
}
