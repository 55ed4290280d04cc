/* POST /v1/events: CloudEvents over HTTP (HTTP protocol binding 1.0.2), structured, batched or binary. */
#include "gateway/incoming/publish.h"
#include "gateway/document.h"
#include "gateway/incoming/incoming.h"
#include "gateway/json_more.h"
#include "gateway/route.h"

#include "common/base/banned.h"

#define BATCH_MAX 100
#define JSON_MAX ((size_t)64 << 20)
#define FAULTS_MAX ((size_t)1 << 20)
#define PREFIX "ce-"

struct publishing {
    struct call *call;
    void (*taken)(void *ctx); /* all of it is */
    void *ctx;
    size_t count, waiting;
    bool batch;
    struct incoming *events;
    /* of the first that was not taken */
    const struct incoming *refused;
    struct err err;
    /* while it is read */
    struct buf faults;
    struct jw w;
    size_t fault_count;
    bool not_json;
};

/* --- reading */

struct at_event {
    struct publishing *p;
    size_t index;
};

static void on_fault(void *ctx, const char *code, const char *pointer, const char *message)
{
    const struct at_event *at = ctx;
    struct publishing *p = at->p;
    struct arena *arena = p->call->arena;

    p->fault_count++;
    p->not_json |= strcmp(code, "not_json") == 0;
    jw_obj(&p->w);
    jw_kcstr(&p->w, "code", code);
    jw_kcstr(&p->w, "pointer", p->batch ? arena_printf(arena, "/%zu%s", at->index, pointer) : pointer);
    jw_kcstr(&p->w, "message", message);
    jw_kcstr(&p->w, "hint", NULL);
    jw_end_obj(&p->w);
}

static bool read_json(struct publishing *p, struct str body)
{
    struct call *call = p->call;

    p->count = p->batch ? jt_count(body) : 1;
    if (p->batch && jt_type(body) != JT_ARRAY) {
        call_fault(call, "wrong_type", "", "a batch is a list of events");
        return false;
    }
    if (p->count > BATCH_MAX) {
        call_problemf(call, 413, "too_large", "the batch has %zu events; at most %d are allowed: send several",
                      p->count, BATCH_MAX);
        return false;
    }
    p->events = arena_array(call->arena, p->count + 1, sizeof(*p->events));
    for (size_t i = 0; i < p->count; i++)
        (void)cloudevent_read(p->batch ? jt_at(body, i) : body, call->arena, on_fault, &(struct at_event){p, i},
                              &p->events[i].event);
    return true;
}

static bool read_body(struct publishing *p)
{
    struct str body;

    return call_body_or(p->call, STR("null"), &body) && read_json(p, body);
}

/* Values of headers are percent-encoded where they are not printable ASCII. */
static bool read_binary(struct publishing *p)
{
    struct call *call = p->call;
    struct jt_limits limits = JT_LIMITS_API;
    struct cloudevent_attribute *attributes;
    const struct http_header *headers;
    size_t count, n = 0;

    headers = http_headers(call->http, &count);
    attributes = arena_array(call->arena, count + 1, sizeof(*attributes));
    for (size_t i = 0; i < count; i++) {
        struct cloudevent_attribute *a = &attributes[n];

        if (!str_starts(headers[i].name, PREFIX))
            continue;
        a->name = (struct str){headers[i].name.ptr + strlen(PREFIX), headers[i].name.len - strlen(PREFIX)};
        if (!http_decode(call->arena, headers[i].value, false, &a->value)) {
            call_problemf(call, 400, "bad_header", "the header " STR_FMT " is not percent-encoded UTF-8",
                          STR_ARG(headers[i].name));
            return false;
        }
        n++;
    }
    limits.max_bytes = (size_t)call->caller.limits.of[LIMIT_BODY_BYTES];
    limits.max_depth = (unsigned)call->caller.limits.of[LIMIT_JSON_DEPTH];
    if (http_body(call->http).len > limits.max_bytes) {
        call_problemf(call, 413, "too_large", "the body has more than %zu bytes (limit body_bytes)", limits.max_bytes);
        return false;
    }
    p->count = 1;
    p->events = arena_array(call->arena, 1, sizeof(*p->events));
    (void)cloudevent_assemble(attributes, n, http_header_get(call->http, "content-type"), http_body(call->http),
                              &limits, call->arena, on_fault, &(struct at_event){p, 0}, &p->events[0].event);
    return true;
}

/* False: answered. */
static bool read_events(struct publishing *p)
{
    struct call *call = p->call;
    struct str type = http_header_get(call->http, "content-type");

    if (http_header_get(call->http, "idempotency-key").ptr != NULL) {
        call_problem(call, 400, "bad_idempotency_key", "an event is known by its source and id: leave the header out");
        return false;
    }
    p->batch = media_type_is(type, "application/cloudevents-batch+json");
    if (p->batch || media_type_is(type, "application/cloudevents+json"))
        return read_body(p);
    if (http_header_get(call->http, "ce-specversion").ptr != NULL || http_header_get(call->http, "ce-id").ptr != NULL)
        return read_binary(p);
    if (type.ptr == NULL || media_type_is(type, "application/json"))
        return read_body(p); /* there is nothing else that it could be */
    call_problem(call, 415, "unsupported_media_type",
                 "an event is application/cloudevents+json, several are application/cloudevents-batch+json; or its "
                 "attributes are headers (ce-id, ce-source, ce-type, ce-specversion) and the body is its data");
    return false;
}

/* --- answering */

static void put_event(struct jw *w, const struct incoming *in)
{
    jw_obj(w);
    jw_kstr(w, "id", in->event.id);
    jw_kstr(w, "source", in->event.source);
    jw_kstr(w, "type", in->event.type);
    jw_ktime(w, "received_at", in->at);
    jw_kraw(w, "starts", in->starts);
    jw_end_obj(w);
}

static void answer(void *ctx)
{
    struct publishing *p = ctx;
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w = jw_to(&out);

    buf_init(&out, JSON_MAX);
    if (p->batch) {
        jw_obj(&w);
        jw_key(&w, "items");
        jw_arr(&w);
    }
    for (size_t i = 0; i < p->count; i++)
        put_event(&w, &p->events[i]);
    if (p->batch) {
        jw_end_arr(&w);
        jw_end_obj(&w);
    }
    call_json(p->call, 202, buf_str(&out));
}

static void finish(struct publishing *p)
{
    if (p->err.code != ERR_OK)
        call_error(p->call, &p->err);
    else if (p->refused != NULL)
        call_problem_later(
            p->call, p->refused->status, p->refused->code, p->refused->after_s,
            arena_printf(p->call->arena, "%s; send it again: what was taken of it is taken once", p->refused->why));
    else
        p->taken(p->ctx);
}

static void on_done(struct incoming *in, enum incoming_verdict verdict, const struct err *err)
{
    struct publishing *p = in->ctx;

    if (verdict == INCOMING_FAILED)
        p->err = *err;
    else if (verdict == INCOMING_LATER)
        p->refused = in;
    if (--p->waiting == 0)
        finish(p);
}

static void refuse_faults(struct publishing *p)
{
    struct str errors;

    jw_end_arr(&p->w);
    errors = str_arena(p->call->arena, buf_str(&p->faults));
    call_problem_errors(p->call, p->not_json ? 400 : 422, p->not_json ? "not_json" : "invalid_event",
                        "what was sent is no CloudEvent 1.0; nothing was taken", errors);
}

static struct publishing *publishing_new(struct call *call)
{
    struct publishing *p = arena_alloc(call->arena, sizeof(*p));

    *p = (struct publishing){.call = call};
    buf_init(&p->faults, FAULTS_MAX);
    arena_defer(call->arena, (void (*)(void *))buf_deinit, &p->faults);
    p->w = jw_to(&p->faults);
    jw_arr(&p->w);
    return p;
}

static void take_all(struct publishing *p)
{
    if (p->fault_count > 0) {
        refuse_faults(p);
        return;
    }
    p->waiting = p->count + 1;
    for (size_t i = 0; i < p->count; i++) {
        struct incoming *in = &p->events[i];

        in->gw = p->call->gw;
        in->arena = p->call->arena;
        in->organisation = p->call->caller.organisation;
        in->limits = &p->call->caller.limits;
        in->done = on_done;
        in->ctx = p;
        incoming_take(in);
    }
    if (--p->waiting == 0)
        finish(p); /* an empty batch */
}

void events_take_json(struct call *call, struct str json, void (*taken)(void *ctx), void *ctx)
{
    struct publishing *p = publishing_new(call);

    p->taken = taken;
    p->ctx = ctx;
    p->batch = jt_type(json) == JT_ARRAY;
    if (read_json(p, json))
        take_all(p);
}

void route_event_publish(struct call *call)
{
    struct publishing *p = publishing_new(call);

    p->taken = answer;
    p->ctx = p;
    if (read_events(p))
        take_all(p);
}
