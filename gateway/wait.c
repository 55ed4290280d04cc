/* Waiting with a bound. */
#include "gateway/wait.h"
#include "common/base/ensure.h"

#include "common/base/banned.h"

struct timed {
    struct timed *next, *prev; /* of all waits, for waits_stop */
    uv_timer_t timer;
    void (*over)(void *ctx);
    void *ctx;
};

static struct timed *all;

static void timed_start(struct timed *timed, uv_loop_t *loop, int64_t us, void (*over)(void *ctx), void *ctx);

static void on_timer(uv_timer_t *timer)
{
    struct timed *timed = timer->data;

    timed->over(timed->ctx);
}

static void timed_start(struct timed *timed, uv_loop_t *loop, int64_t us, void (*over)(void *ctx), void *ctx)
{
    timed->over = over;
    timed->ctx = ctx;
    timed->timer.data = timed;
    timed->next = all;
    if (all != NULL)
        all->prev = timed;
    all = timed;
    ENSURE(uv_timer_init(loop, &timed->timer) == 0);
    uv_timer_start(&timed->timer, on_timer, (uint64_t)(us / US_PER_MS), 0);
}

static void timed_end(struct timed *timed, uv_close_cb closed)
{
    if (timed->prev != NULL)
        timed->prev->next = timed->next;
    else
        all = timed->next;
    if (timed->next != NULL)
        timed->next->prev = timed->prev;
    uv_close((uv_handle_t *)&timed->timer, closed);
}

void waits_stop(struct gateway *gw)
{
    (void)gw;
    for (struct timed *timed = all; timed != NULL; timed = timed->next)
        uv_timer_start(&timed->timer, on_timer, 0, 0);
}

/* --- an end */

struct end_wait {
    struct timed timed;
    struct call *call;
    struct run_id run;
    struct live_watcher *watcher;
    void (*done)(struct call *call, struct run_id run, bool ended);
};

static void end_wait_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void end_wait_finish(struct end_wait *wait, bool ended)
{
    struct call *call = wait->call;

    http_on_gone(call->http, NULL, NULL);
    live_unwatch(wait->watcher);
    timed_end(&wait->timed, end_wait_closed);
    wait->done(call, wait->run, ended);
}

static void end_wait_over(void *ctx)
{
    end_wait_finish(ctx, false);
}

static void end_wait_ended(void *ctx, struct str status)
{
    (void)status;
    end_wait_finish(ctx, true);
}

void wait_for_end(struct call *call, struct run_id run, int64_t wait_us, bool announced,
                  void (*done)(struct call *call, struct run_id run, bool ended))
{
    static const struct live_calls calls = {.on_end = end_wait_ended};
    struct end_wait *wait = mem_alloc(sizeof(*wait));

    wait->call = call;
    wait->run = run;
    wait->done = done;
    timed_start(&wait->timed, call->gw->loop, call->gw->stopping ? 0 : wait_us, end_wait_over, wait);
    wait->watcher = live_watch(call->gw->live, call->caller.organisation, run, 0, announced, STR_NONE, &calls, wait);
    http_on_gone(call->http, end_wait_over, wait);
}

/* --- a verdict */

struct verdict_wait {
    struct timed timed;
    struct call *call;
    struct live_watcher *watcher;
    int64_t command; /* 0: not known yet */
    int64_t early;   /* a verdict that came before its command's number was known */
    bool applied, over, finished;
    char *code, *reason;
    void (*done)(struct call *call, int64_t command, const struct verdict *verdict);
};

static void verdict_wait_closed(uv_handle_t *handle)
{
    struct verdict_wait *wait = ((struct timed *)handle->data)->ctx;

    mem_free(wait->code);
    mem_free(wait->reason);
    mem_free(wait);
}

static void verdict_finish(struct verdict_wait *wait, const struct verdict *verdict)
{
    if (wait->finished)
        return;
    wait->finished = true;
    http_on_gone(wait->call->http, NULL, NULL);
    live_unwatch(wait->watcher);
    wait->done(wait->call, wait->command, verdict);
    timed_end(&wait->timed, verdict_wait_closed);
}

static void verdict_over(void *ctx)
{
    struct verdict_wait *wait = ctx;
    static const struct verdict none = {0};

    wait->over = true;
    if (wait->command != 0)
        verdict_finish(wait, &none);
}

static void on_verdict(void *ctx, int64_t command, bool applied, struct str code, struct str reason)
{
    struct verdict_wait *wait = ctx;
    struct verdict verdict = {true, applied, code, reason};

    if (wait->command == command) {
        verdict_finish(wait, &verdict);
    } else if (wait->command == 0 && command > wait->early) {
        mem_free(wait->code);
        mem_free(wait->reason);
        wait->early = command;
        wait->applied = applied;
        wait->code = code.ptr == NULL ? NULL : mem_dup(code.ptr, code.len);
        wait->reason = reason.ptr == NULL ? NULL : mem_dup(reason.ptr, reason.len);
    }
}

static void on_end_ignored(void *ctx, struct str status)
{
    (void)ctx;
    (void)status;
}

struct verdict_wait *verdict_wait_begin(struct call *call, struct run_id run, int64_t wait_us,
                                        void (*done)(struct call *call, int64_t command, const struct verdict *verdict))
{
    static const struct live_calls calls = {.on_end = on_end_ignored, .on_verdict = on_verdict};
    struct verdict_wait *wait = mem_alloc(sizeof(*wait));

    wait->call = call;
    wait->done = done;
    timed_start(&wait->timed, call->gw->loop, call->gw->stopping ? 0 : wait_us, verdict_over, wait);
    wait->watcher = live_watch(call->gw->live, call->caller.organisation, run, 0, true, STR_NONE, &calls, wait);
    return wait;
}

void verdict_wait_command(struct verdict_wait *wait, int64_t command)
{
    struct verdict verdict = {0};

    wait->command = command;
    if (command == 0) {
        wait->finished = true;
        live_unwatch(wait->watcher);
        timed_end(&wait->timed, verdict_wait_closed);
        return;
    }
    if (wait->early == command) {
        verdict = (struct verdict){true, wait->applied, str_of(wait->code), str_of(wait->reason)};
        verdict_finish(wait, &verdict);
    } else if (wait->over) {
        verdict_finish(wait, &verdict);
    }
}
