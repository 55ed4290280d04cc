/* Server-sent events: `id` is the seq, `event` the type, `data` the event as JSON; a comment every 15 s of silence. */
#include "gateway/stream.h"
#include "gateway/live.h"

#include "common/base/banned.h"

#define HEARTBEAT_MS 15000
#define PENDING_MAX ((size_t)4 << 20) /* a client this far behind shall come again */

struct stream {
    struct stream *next, *prev;
    struct gateway *gw;
    struct http_request *http;
    struct live_watcher *watcher;
    uv_timer_t heartbeat;
};

static struct stream *all;
static size_t count;

static void on_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void finish(struct stream *s)
{
    live_unwatch(s->watcher);
    http_on_gone(s->http, NULL, NULL);
    http_stream_end(s->http);
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        all = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    count--;
    uv_close((uv_handle_t *)&s->heartbeat, on_closed);
}

static void on_heartbeat(uv_timer_t *timer)
{
    struct stream *s = timer->data;

    http_stream_write(s->http, STR(":\n\n"));
}

static void on_event(void *ctx, const struct live_event *event)
{
    struct stream *s = ctx;
    CLEANUP(buf_deinit) struct buf out = {0};

    if (http_stream_pending(s->http) > PENDING_MAX) {
        finish(s);
        return;
    }
    buf_init(&out, event->json.len + 512);
    buf_printf(&out, "id: %u\nevent: " STR_FMT "\ndata: ", event->seq, STR_ARG(event->type));
    for (size_t i = 0; i < event->json.len; i++) /* a line feed in JSON is white space only */
        buf_append_char(&out, event->json.ptr[i] == '\n' || event->json.ptr[i] == '\r' ? ' ' : event->json.ptr[i]);
    buf_append_str(&out, STR("\n\n"));
    http_stream_write(s->http, buf_str(&out));
    uv_timer_again(&s->heartbeat);
}

static void on_end(void *ctx, struct str status)
{
    struct stream *s = ctx;
    char text[128];

    snprintf(text, sizeof(text), "event: end\ndata: {\"status\":\"" STR_FMT "\"}\n\n", STR_ARG(status));
    http_stream_write(s->http, str_of(text));
    finish(s);
}

static void on_gone(void *ctx)
{
    finish(ctx);
}

void stream_begin(struct call *call, struct run_id run, uint32_t after_seq, struct str end)
{
    static const struct live_calls calls = {.on_event = on_event, .on_end = on_end};
    struct stream *s;

    if (count >= (size_t)call->gw->config.max_streams || call->gw->stopping) {
        call_problem(call, 503, "busy", "too many live streams here; try again in a moment, or another gateway");
        return;
    }
    s = mem_alloc(sizeof(*s));
    s->gw = call->gw;
    s->http = call->http;
    s->next = all;
    if (all != NULL)
        all->prev = s;
    all = s;
    count++;
    s->heartbeat.data = s;
    uv_timer_init(call->gw->loop, &s->heartbeat);
    uv_timer_start(&s->heartbeat, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
    http_stream_begin(s->http, 200, "text/event-stream");
    s->watcher = live_watch(call->gw->live, call->caller.organisation, run, after_seq, false, end, &calls, s);
    http_on_gone(s->http, on_gone, s);
}

void streams_stop(struct gateway *gw)
{
    (void)gw;
    while (all != NULL)
        finish(all);
}
