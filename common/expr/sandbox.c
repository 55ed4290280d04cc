/* Who is served by which child. Slots 0 .. shared-1 are everybody's: an organisation has its home there and goes to
 * the next when a program of another holds its home up. The slots behind are started when they are needed: for
 * organisations that held others up again and again, and when all shared ones are held up. */
#include "common/expr/sandbox.h"
#include "common/base/ensure.h"
#include "common/base/metrics.h"
#include "common/expr/sandbox_internal.h"
#include <signal.h>

#include "common/base/banned.h"

#define SHARED_MAX 64
#define EXTRA_IDLE_MS 300000U /* then an extra child goes */
#define SWEEP_MS 10000U
#define START_FAILURES_MAX 3

const struct sandbox_limits SANDBOX_LIMITS_DEFAULT = {.wall_ms = 2000,
                                                      .document_bytes = (size_t)40 << 20,
                                                      .output_bytes = (size_t)1 << 20,
                                                      .memory_bytes = (size_t)256 << 20};

struct slot {
    struct sandbox *sandbox;
    struct sandbox_child *child; /* NULL: not started */
    struct sandbox_queue queue;
    uint32_t struck_id;   /* the request that has had its strike */
    unsigned failures;    /* starts in a row that failed */
    uint64_t retry_at_ms; /* not to be started before */
    uint64_t used_at_ms;
};

struct sandbox {
    uv_loop_t *loop;
    struct sandbox_limits limits;
    unsigned shared;
    uint32_t last_id;
    size_t waiting;
    struct sandbox_queue refused; /* answered on the next turn: too large */
    struct slot slots[SHARED_MAX + SANDBOX_EXTRA_SLOTS];
    struct sandbox_orgs orgs;
    uv_idle_t flush; /* active while there may be something to send */
    uv_timer_t sweep;
    unsigned handles;
    bool closing;
};

static size_t slot_count(const struct sandbox *s)
{
    return s->shared + SANDBOX_EXTRA_SLOTS;
}

static void flush_soon(struct sandbox *s);
static void on_sweep(uv_timer_t *timer);

/* --- routing --- */

static bool is_held_up(const struct slot *slot, int32_t organisation)
{
    return slot->child != NULL && sandbox_child_holds_up(slot->child, organisation);
}

static bool is_startable(const struct slot *slot)
{
    return slot->child != NULL || slot->failures == 0;
}

static struct slot *pick(struct sandbox *s, int32_t organisation)
{
    int own = sandbox_orgs_own(&s->orgs, organisation);
    unsigned home = (uint32_t)organisation % s->shared;

    if (own >= 0)
        return &s->slots[s->shared + (unsigned)own];
    for (unsigned i = 0; i < s->shared; i++) {
        struct slot *slot = &s->slots[(home + i) % s->shared];

        if (!is_held_up(slot, organisation) && is_startable(slot))
            return slot;
    }
    for (size_t i = 0; i < SANDBOX_EXTRA_SLOTS; i++) {
        struct slot *slot = &s->slots[s->shared + i];

        if (s->orgs.owners[i] == 0 && !is_held_up(slot, organisation) && is_startable(slot))
            return slot;
    }
    return &s->slots[home];
}

static void finish(struct sandbox *s, struct sandbox_request *request, enum sandbox_status status, struct str value,
                   const char *message)
{
    s->waiting--;
    request->done(request->ctx, status, value, message);
    mem_free(request);
}

static void route(struct sandbox *s, struct sandbox_request *request)
{
    if (s->closing) {
        finish(s, request, SANDBOX_UNAVAILABLE, STR_NONE, "the process is ending");
        return;
    }
    sandbox_queue_add(&pick(s, request->organisation)->queue, request);
    flush_soon(s);
}

static void route_all(struct sandbox *s, struct sandbox_queue *queue)
{
    struct sandbox_request *request;

    while ((request = sandbox_queue_take(queue)) != NULL)
        route(s, request);
}

/* --- what the children tell --- */

static void on_ready(void *owner)
{
    struct slot *slot = owner;

    slot->failures = 0;
    flush_soon(slot->sandbox);
}

/* One strike per program, whether it held others up or brought its child down. */
static void strike(struct slot *slot, const struct sandbox_request *running)
{
    struct sandbox *s = slot->sandbox;

    if (running == NULL || running->id == slot->struck_id)
        return;
    slot->struck_id = running->id;
    sandbox_orgs_strike(&s->orgs, running->organisation, uv_now(s->loop));
}

/* Others need not wait for the end of it. */
static void on_stalled(void *owner)
{
    struct slot *slot = owner;
    struct sandbox *s = slot->sandbox;
    struct sandbox_queue moved;
    struct sandbox_request *request;
    size_t queued = slot->queue.len;

    strike(slot, sandbox_child_running(slot->child));
    sandbox_queue_init(&moved);
    sandbox_child_take_back(slot->child, false, &moved);
    for (; queued > 0; queued--) {
        request = sandbox_queue_take(&slot->queue);
        sandbox_queue_add(is_held_up(slot, request->organisation) ? &moved : &slot->queue, request);
    }
    route_all(s, &moved);
}

static void on_answered(void *owner, struct sandbox_request *request, enum sandbox_status status, struct str text)
{
    struct slot *slot = owner;
    struct sandbox *s = slot->sandbox;
    char message[SANDBOX_MESSAGE_MAX + 1] = "";

    metric_add(METRIC_EXPRESSIONS, 1);
    if (status != SANDBOX_OK) {
        text = utf8_prefix(text, sizeof(message) - 1);
        memcpy(message, text.ptr, text.len);
        text = STR_NONE;
    }
    flush_soon(s); /* before `done`, which may free the sandbox */
    finish(s, request, status, text, message);
}

static void give_up_starting(struct slot *slot)
{
    struct sandbox *s = slot->sandbox;
    struct sandbox_queue queue = slot->queue;
    struct sandbox_request *request;

    sandbox_queue_init(&slot->queue);
    while ((request = sandbox_queue_take(&queue)) != NULL) {
        if (pick(s, request->organisation) != slot)
            route(s, request);
        else
            finish(s, request, SANDBOX_UNAVAILABLE, STR_NONE, "no process for expressions could be started");
    }
}

static void note_start_failed(struct slot *slot)
{
    unsigned shift = slot->failures < 6 ? slot->failures : 6;

    slot->failures++;
    slot->retry_at_ms = uv_now(slot->sandbox->loop) + (UINT64_C(50) << shift);
    (void)uv_timer_start(&slot->sandbox->sweep, on_sweep, UINT64_C(50) << shift, SWEEP_MS);
    if (slot->failures >= START_FAILURES_MAX)
        give_up_starting(slot);
}

static void answer_overstep(struct sandbox *s, struct sandbox_request *running, enum sandbox_end how, int term_signal)
{
    char message[160];

    if (how == SANDBOX_END_TIME)
        snprintf(message, sizeof(message), "the expression took longer than %u ms", s->limits.wall_ms);
    else
        snprintf(message, sizeof(message), "the expression used too much memory or met a fault in jq (signal %d)",
                 term_signal);
    finish(s, running, SANDBOX_FAILED, STR_NONE, message);
}

static void on_ended(void *owner, enum sandbox_end how, struct sandbox_request *running, int term_signal,
                     int64_t exit_code)
{
    struct slot *slot = owner;
    struct sandbox *s = slot->sandbox;
    struct sandbox_queue behind;

    (void)exit_code;
    sandbox_queue_init(&behind);
    sandbox_child_take_back(slot->child, true, &behind);
    if (how == SANDBOX_END_TIME || how == SANDBOX_END_FAULT)
        strike(slot, running);
    slot->child = NULL;
    slot->used_at_ms = uv_now(s->loop);
    if (how == SANDBOX_END_START)
        note_start_failed(slot);
    else if (how != SANDBOX_END_RECYCLE)
        metric_add(METRIC_SANDBOX_KILLED, 1);
    route_all(s, &behind);
    flush_soon(s);
    if (running == NULL)
        return;
    if (how == SANDBOX_END_RECYCLE || (how == SANDBOX_END_OUTSIDE && !running->ran_before)) {
        running->ran_before = how == SANDBOX_END_OUTSIDE;
        route(s, running);
    } else {
        answer_overstep(s, running, how, term_signal);
    }
}

static const struct sandbox_child_events child_events = {on_ready, on_stalled, on_answered, on_ended};

/* --- the turn of the loop --- */

/* Shared children are always there, extra ones while they have something to do. */
static void start_or_send(struct slot *slot, bool shared)
{
    struct sandbox *s = slot->sandbox;
    uint64_t now = uv_now(s->loop);

    if (slot->child == NULL && (shared || slot->queue.len > 0) && now >= slot->retry_at_ms) {
        slot->child = sandbox_child_start(s->loop, &s->limits, &child_events, slot);
        if (slot->child == NULL)
            note_start_failed(slot);
    }
    if (slot->child != NULL && slot->queue.len > 0) {
        slot->used_at_ms = now;
        sandbox_child_send(slot->child, &slot->queue);
    }
}

static void on_flush(uv_idle_t *idle)
{
    struct sandbox *s = idle->data;
    struct sandbox_request *request;

    (void)uv_idle_stop(idle);
    for (size_t i = 0; i < slot_count(s); i++)
        start_or_send(&s->slots[i], i < s->shared);
    while ((request = sandbox_queue_take(&s->refused)) != NULL)
        finish(s, request, SANDBOX_FAILED, STR_NONE, "what the expression reads is too large");
}

/* An idle handle runs before the loop waits, whoever asked: what one turn brings goes out in one write per child. */
static void flush_soon(struct sandbox *s)
{
    if (!s->closing)
        (void)uv_idle_start(&s->flush, on_flush);
}

static bool is_idle_extra(const struct sandbox *s, size_t i)
{
    const struct slot *slot = &s->slots[i];

    return i >= s->shared && slot->child != NULL && s->orgs.owners[i - s->shared] == 0 && slot->queue.len == 0 &&
           sandbox_child_running(slot->child) == NULL && uv_now(s->loop) - slot->used_at_ms > EXTRA_IDLE_MS;
}

static void on_sweep(uv_timer_t *timer)
{
    struct sandbox *s = timer->data;
    struct sandbox_request *none;

    sandbox_orgs_sweep(&s->orgs, uv_now(s->loop));
    for (size_t i = s->shared; i < slot_count(s); i++) {
        if (is_idle_extra(s, i)) {
            sandbox_child_abandon(s->slots[i].child, &none);
            s->slots[i].child = NULL;
        }
    }
    flush_soon(s); /* a child that could not be started is tried again */
}

/* --- life --- */

struct sandbox *sandbox_new(uv_loop_t *loop, unsigned children, const struct sandbox_limits *limits)
{
    struct sandbox *s = mem_alloc(sizeof(*s));

    ENSURE(children >= 1 && children <= SHARED_MAX);
    (void)signal(SIGPIPE, SIG_IGN); /* writing to a child that has just died is an error like any other */
    s->loop = loop;
    s->limits = limits == NULL ? SANDBOX_LIMITS_DEFAULT : *limits;
    s->shared = children;
    sandbox_queue_init(&s->refused);
    for (size_t i = 0; i < slot_count(s); i++) {
        s->slots[i].sandbox = s;
        sandbox_queue_init(&s->slots[i].queue);
    }
    ENSURE(uv_idle_init(loop, &s->flush) == 0 && uv_timer_init(loop, &s->sweep) == 0);
    s->flush.data = s->sweep.data = s;
    s->handles = 2;
    (void)uv_timer_start(&s->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    flush_soon(s);
    return s;
}

static void on_closed(uv_handle_t *handle)
{
    struct sandbox *s = handle->data;

    if (--s->handles == 0)
        mem_free(s);
}

static void collect(struct slot *slot, struct sandbox_queue *all)
{
    struct sandbox_request *request;

    if (slot->child != NULL) {
        sandbox_child_take_back(slot->child, true, all);
        sandbox_child_abandon(slot->child, &request);
        slot->child = NULL;
        if (request != NULL)
            sandbox_queue_add(all, request);
    }
    while ((request = sandbox_queue_take(&slot->queue)) != NULL)
        sandbox_queue_add(all, request);
}

void sandbox_free(struct sandbox *s)
{
    struct sandbox_queue all;
    struct sandbox_request *request;

    if (s == NULL)
        return;
    s->closing = true;
    sandbox_queue_init(&all);
    while ((request = sandbox_queue_take(&s->refused)) != NULL)
        sandbox_queue_add(&all, request);
    for (size_t i = 0; i < slot_count(s); i++)
        collect(&s->slots[i], &all);
    uv_close((uv_handle_t *)&s->flush, on_closed);
    uv_close((uv_handle_t *)&s->sweep, on_closed);
    while ((request = sandbox_queue_take(&all)) != NULL)
        finish(s, request, SANDBOX_UNAVAILABLE, STR_NONE, "the process is ending");
}

/* --- requests --- */

static void ask(struct sandbox *s, enum sandbox_kind kind, int32_t organisation, struct str source, struct str document,
                sandbox_fn done, void *ctx)
{
    size_t frame_len = sizeof(struct sandbox_request_head) + source.len + document.len;
    bool fits = document.len <= s->limits.document_bytes && frame_len <= SANDBOX_FRAME_MAX;
    struct sandbox_request *request = mem_alloc(sizeof(*request) + (fits ? frame_len : 0));
    struct sandbox_request_head head = {.frame_bytes = (uint32_t)frame_len,
                                        .source_bytes = (uint32_t)source.len,
                                        .output_max = (uint32_t)s->limits.output_bytes,
                                        .organisation = organisation,
                                        .kind = (uint32_t)kind};

    s->last_id += s->last_id == UINT32_MAX ? 2 : 1; /* never SANDBOX_ID_READY */
    *request = (struct sandbox_request){
        .done = done, .ctx = ctx, .organisation = organisation, .id = s->last_id, .frame_len = fits ? frame_len : 0};
    s->waiting++;
    if (!fits) {
        sandbox_queue_add(&s->refused, request);
        flush_soon(s);
        return;
    }
    head.id = request->id;
    memcpy(request->frame, &head, sizeof(head));
    memcpy(request->frame + sizeof(head), source.ptr, source.len);
    if (document.len > 0)
        memcpy(request->frame + sizeof(head) + source.len, document.ptr, document.len);
    route(s, request);
}

void sandbox_eval(struct sandbox *s, int32_t organisation, struct str source, struct str document, sandbox_fn done,
                  void *ctx)
{
    ask(s, SANDBOX_EVAL, organisation, source, document, done, ctx);
}

void sandbox_check(struct sandbox *s, int32_t organisation, struct str source, sandbox_fn done, void *ctx)
{
    ask(s, SANDBOX_CHECK, organisation, source, STR_NONE, done, ctx);
}

struct sandbox_stats sandbox_stats(const struct sandbox *s)
{
    struct sandbox_stats stats = {.waiting = s->waiting, .own = sandbox_orgs_with_own(&s->orgs)};

    for (size_t i = 0; i < slot_count(s); i++)
        stats.processes += s->slots[i].child != NULL ? 1 : 0;
    return stats;
}
