/* POST /v1/workflows/{name}/runs: what is asked for is checked here, made durable in start.c, and perhaps waited for.
 */
#include "common/base/ensure.h"
#include "gateway/backlog.h"
#include "gateway/document.h"
#include "gateway/flows.h"
#include "gateway/history.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "gateway/starting.h"
#include "gateway/wait.h"

#include "common/base/banned.h"

#define WAIT_MAX_US (60 * US_PER_S)
#define KEY_WAIT_US (5 * US_PER_S)
#define LABELS_MAX 32
#define LABEL_KEY_MAX 63
#define LABEL_VALUE_MAX 255
#define MOVES_MAX 5
#define FAULTS_MAX ((size_t)1 << 20)

static void look_up(struct starting *s, bool fresh);

static bool parse_priority(struct str name, uint8_t *ret)
{
    static const char *const names[] = {"critical", "high", "normal", "low"};

    for (uint8_t i = 0; i < 4; i++)
        if (str_is(name, names[i])) {
            *ret = i;
            return true;
        }
    return false;
}

/* Labels: a flat object of short strings. False: answered. */
static bool check_labels(struct call *call, struct str labels)
{
    struct jt_iter it;
    size_t count = 0;

    if (jt_type(labels) != JT_OBJECT) {
        call_fault(call, "wrong_type", "/labels", "labels must be an object of strings");
        return false;
    }
    jt_iter_init(&it, labels);
    while (jt_next(&it)) {
        struct str key = jt_key(&it, call->arena), value;

        if (!jt_string(it.value, call->arena, &value)) {
            call_fault(call, "wrong_type", "/labels", "each label must be a string");
            return false;
        }
        if (key.len == 0 || key.len > LABEL_KEY_MAX || value.len > LABEL_VALUE_MAX || ++count > LABELS_MAX) {
            call_fault(call, "out_of_range", "/labels",
                       "at most 32 labels, with keys of 1 to 63 bytes and values of up to 255 bytes");
            return false;
        }
    }
    return true;
}

static bool read_body(struct starting *s, struct str body)
{
    struct call *call = s->call;
    struct str priority = jt_get(body, "priority"), labels = jt_get(body, "labels"), input = jt_get(body, "input"),
               start_at = jt_get(body, "start_at_step");
    uint8_t ignored;

    s->start.input = input.ptr == NULL ? STR("{}") : input;
    s->start.labels = labels.ptr == NULL ? STR("{}") : labels;
    s->given_priority = STR_NONE;
    if (labels.ptr != NULL && !check_labels(call, labels))
        return false;
    if (priority.ptr != NULL &&
        (!jt_string(priority, call->arena, &s->given_priority) || !parse_priority(s->given_priority, &ignored))) {
        call_fault(call, jt_type(priority) == JT_STRING ? "out_of_range" : "wrong_type", "/priority",
                   "priority must be one of critical, high, normal, low");
        return false;
    }
    s->start.start_at = STR_NONE;
    if (start_at.ptr != NULL && !jt_string(start_at, call->arena, &s->start.start_at)) {
        call_fault(call, "wrong_type", "/start_at_step", "start_at_step must be the name of a step");
        return false;
    }
    return true;
}

static bool read_wait(struct starting *s)
{
    struct str wait = call_query(s->call, "wait");

    if (wait.ptr == NULL)
        return true;
    if (!duration_parse(wait, &s->wait_us) || s->wait_us < 0 || s->wait_us > WAIT_MAX_US) {
        call_problem(s->call, 400, "bad_query", "wait must be a duration of at most 60s, such as 30s");
        return false;
    }
    return true;
}

bool starting_read_key(struct starting *s, const char *asked, struct str body)
{
    CLEANUP(buf_deinit) struct buf canonical = {0};

    if (!call_idempotency_key(s->call, &s->start.key))
        return false;
    if (s->start.key.ptr == NULL)
        return true;
    buf_init(&canonical, body.len + 1024);
    buf_append_str(&canonical, str_of(asked));
    jt_canonical(body, &canonical);
    ENSURE(!canonical.overflow);
    sha256(buf_str(&canonical), s->start.body_hash);
    return true;
}

void starting_answer_accepted(struct call *call, struct run_id run)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    char id[UUID_TEXT_SIZE], location[64];
    struct jw w;

    run_id_format(run, id);
    snprintf(location, sizeof(location), "/v1/runs/%s", id);
    buf_init(&body, 1024);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kcstr(&w, "run_id", id);
    jw_kcstr(&w, "id", id);
    jw_kcstr(&w, "status", "pending");
    jw_end_obj(&w);
    call_json_at(call, 202, location, buf_str(&body));
}

void starting_answer_held(struct call *call, struct str held)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    buf_init(&body, 1024);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kcstr(&w, "run_id", NULL);
    jw_kcstr(&w, "id", NULL);
    jw_kstr(&w, "status", held);
    jw_end_obj(&w);
    call_json(call, 202, buf_str(&body));
}

static void answer_ended(struct call *call, const struct history *history)
{
    CLEANUP(buf_deinit) struct buf body = {0};

    run_json(history, &body);
    call_json(call, 200, buf_str(&body));
}

/* Of a run that begins like others all is known but its history. */
static bool is_plain(const struct start *start)
{
    return start->rerun_of == NULL && start->delivery == NULL && start->start_at.ptr == NULL;
}

static void on_waited(struct call *call, struct run_id run, bool ended)
{
    const struct start *start = call->ctx;

    if (ended && start != NULL && is_plain(start))
        history_load_ended(call, start, answer_ended);
    else if (ended)
        history_load(call, run, answer_ended);
    else
        starting_answer_accepted(call, run);
}

static void refuse(const struct starting *s)
{
    if (s->admission == ADMISSION_SHARE)
        call_problem_later(
            s->call, 429, "organisation_busy", s->after_s,
            "so much of this organisation's work waits for its turn that another run would wait too long; "
            "runs that were started go on");
    else
        call_problem_later(s->call, 503, "overloaded", s->after_s,
                           "so many starts wait that another one would wait too long; runs that were started go on");
}

void starting_done(struct start *start, enum start_verdict verdict, const struct err *err)
{
    struct starting *s = (struct starting *)start;
    struct call *call = s->call;

    switch (verdict) {
    case START_MADE:
    case START_KNOWN:
        if (start->held.ptr != NULL) { /* under this key, by a webhook */
            starting_answer_held(call, start->held);
        } else if (s->wait_us > 0) {
            call->ctx = verdict == START_MADE ? start : NULL;
            wait_for_end(call, start->run_id, s->wait_us, verdict == START_MADE, on_waited);
        } else {
            starting_answer_accepted(call, start->run_id);
        }
        break;
    case START_KEY_DIFFERS:
        call_problem(call, 422, "idempotency_key_reused", "this Idempotency-Key was used for another body");
        break;
    case START_ABSENT:
        call_problem(call, 404, "not_found", "there is no such workflow");
        break;
    case START_DISABLED:
        call_problem(call, 409, "workflow_disabled", "the workflow is disabled: nothing starts it until it is enabled");
        break;
    case START_MOVED:
        if (++s->moves > MOVES_MAX)
            call_problem(call, 503, "busy", "the workflow is being saved again and again; try again in a moment");
        else
            look_up(s, true);
        break;
    case START_IN_PROGRESS:
        call_problem(call, 409, "idempotency_in_progress",
                     "another request with this Idempotency-Key has been in flight for 5 s; try again");
        break;
    case START_REPLAYED: /* these three: of webhooks only */
    case START_HELD:
    case START_FULL:
    case START_UNCLEAR:
        call_problem(call, 503, "outcome_unclear",
                     "the connection to the database broke: the run may or may not have been started; with an "
                     "Idempotency-Key the request can simply be sent again");
        break;
    case START_REFUSED:
        refuse(s);
        break;
    case START_FAILED:
        call_error(call, err);
        break;
    }
}

struct input_faults {
    struct jw w;
    struct buf *out;
    struct arena *arena;
};

static void on_input_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    struct input_faults *faults = ctx;

    if (faults->out->len > FAULTS_MAX / 2)
        return;
    jw_obj(&faults->w);
    jw_kcstr(&faults->w, "code", code);
    jw_kcstr(&faults->w, "pointer", arena_printf(faults->arena, "/input" STR_FMT, STR_ARG(pointer)));
    jw_kcstr(&faults->w, "message", message);
    jw_kstr(&faults->w, "hint", hint[0] == '\0' ? STR_NONE : str_of(hint));
    jw_end_obj(&faults->w);
}

bool starting_check_input(struct call *call, const struct flow *flow, struct str input)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct input_faults faults = {.out = &out, .arena = call->arena};
    struct err err = {0};

    if (flow->input_schema == NULL)
        return true;
    buf_init(&out, FAULTS_MAX);
    faults.w = jw_to(&out);
    jw_arr(&faults.w);
    enum err_code rc = schema_check(flow->input_schema, input, on_input_fault, &faults, &err);

    jw_end_arr(&faults.w);
    if (rc == ERR_OK)
        return true;
    call_problem_errors(call, 422, "invalid_input", "the input does not keep the workflow's input_schema",
                        buf_str(&out));
    return false;
}

static void ignore_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    (void)ctx, (void)code, (void)pointer, (void)message, (void)hint;
}

bool starting_input_fits(const struct flow *flow, struct str input)
{
    struct err err = {0};

    return flow->input_schema == NULL || schema_check(flow->input_schema, input, ignore_fault, NULL, &err) == ERR_OK;
}

bool starting_trigger_input_fits(const struct flow *flow, const struct plan_trigger *trigger, struct str input,
                                 struct arena *arena)
{
    if (flow->input_schema != NULL && trigger->hold.how == HOLD_BATCH)
        input = str_of(arena_printf(arena, "[" STR_FMT "]", STR_ARG(input)));
    return starting_input_fits(flow, input);
}

bool starting_admit(struct starting *s)
{
    struct call *call = s->call;

    s->admission = backlog_ask(call->gw->backlog, call->caller.organisation, s->start.priority, &s->after_s);
    s->start.only_known = s->admission != ADMISSION_TAKEN;
    if (s->start.only_known) {
        if (s->start.key.ptr == NULL)
            refuse(s);
        else
            starts_submit(call->gw->starts, &s->start);
    }
    return !s->start.only_known;
}

/* Is there the step that the run is to begin at? False: answered. */
static bool check_step(const struct starting *s, const struct flow *flow)
{
    if (s->start.start_at.ptr == NULL || plan_find(flow->plan, s->start.start_at) != NO_NODE)
        return true;
    call_fault(s->call, "unknown_step", "/start_at_step", "the workflow has no such step of its own");
    return false;
}

static void on_flow(void *ctx, struct flow *flow, enum err_code rc, const struct err *err)
{
    struct starting *s = ctx;
    struct call *call = s->call;

    if (rc != ERR_OK) {
        call_error(call, err);
        return;
    }
    s->start.priority = flow == NULL || flow->plan == NULL ? 2 : flow->plan->priority;
    if (s->given_priority.ptr != NULL)
        ENSURE(parse_priority(s->given_priority, &s->start.priority));
    if (!starting_admit(s))
        return;
    if (flow != NULL && flow->plan == NULL) {
        call_problemf(call, 409, "not_available", "this release cannot run version %d: %s", (int)flow->version,
                      flow->fault);
        return;
    }
    if (flow != NULL && !check_step(s, flow))
        return;
    if (flow != NULL && !starting_check_input(call, flow, s->start.input))
        return;
    if (flow == NULL && s->start.key.ptr == NULL) {
        call_problem(call, 404, "not_found", "there is no such workflow");
        return;
    }
    /* An absent one is asked for all the same when there is a key: the key may be of a run that was started. */
    s->start.version = flow == NULL ? 0 : flow->version;
    s->start.run_id =
        start_run_id(call->gw, call->caller.organisation, s->start.workflow, s->start.key, &s->start.created_at);
    starts_submit(call->gw->starts, &s->start);
}

static void look_up(struct starting *s, bool fresh)
{
    flows_newest(s->call->gw->flows, s->call->caller.organisation, s->start.workflow, fresh, on_flow, s);
}

void starting_go(struct starting *s)
{
    s->start.organisation = s->call->caller.organisation;
    s->start.wants_reply = s->wait_us > 0;
    s->start.give_up.us = clock_mono().us + KEY_WAIT_US;
    s->start.done = starting_done;
    look_up(s, false);
}

void route_run_start(struct call *call)
{
    struct starting *s = arena_alloc(call->arena, sizeof(*s));
    struct str body;

    s->call = call;
    if (!call_body_object(call, "input labels priority start_at_step", &body))
        return;
    if (!read_body(s, body) || !read_wait(s) || !starting_read_key(s, "", body))
        return;
    s->start.workflow = call->params[0];
    starting_go(s);
}
