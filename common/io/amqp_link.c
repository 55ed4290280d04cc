/* The loop's half of a broker link: public functions become commands, events become callbacks; and the session, while
 * the loop has it, is driven from here. See amqp_internal.h. */
#include "common/base/ensure.h"
#include "common/io/amqp_internal.h"
#include <time.h>

#include "common/base/banned.h"

/* A message that AMQP's short strings cannot carry is refused here, because the library would write a broken frame. */
#define SHORT_STRING_MAX 255
#define STOP_WAIT_MS 1000

/* The session's socket under libuv; lives until libuv has let go of it. */
struct watch {
    uv_poll_t poll;
    struct amqp_link *link;
    int events;
};

struct amqp_link {
    struct amqp_options options;
    struct amqp_shared *shared;
    struct session *lent; /* the session; the thread's while `watch` is NULL */
    struct watch *watch;  /* the loop has the session */
    uv_async_t async;
    uv_prepare_t prepare;
    uv_timer_t tick;
    unsigned open_handles;
    bool up, freed, dispatching;
    struct amqp_cmds staged;     /* not handed over yet */
    struct amqp_events dispatch; /* to be called back */
    struct amqp_consumer *consumers;
};

static void attach(struct amqp_link *link);

/* --- events to callbacks --------------------------------------------------------------------------------------------
 */

static void dispatch_confirms(struct amqp_event *event)
{
    for (size_t i = 0; i < event->count; i++)
        event->confirmed[i].fn(event->confirmed[i].ctx, event->confirmed[i].outcome);
}

static void dispatch(struct amqp_link *link, struct amqp_event *event)
{
    struct amqp_consumer *consumer = event->consumer;

    switch (event->kind) {
    case EV_ATTACH:
        attach(link);
        break;
    case EV_UP:
        link->up = true;
        if (link->options.on_up != NULL)
            link->options.on_up(link->options.ctx);
        break;
    case EV_DOWN:
        link->up = false;
        if (link->options.on_down != NULL)
            link->options.on_down(link->options.ctx, event->err);
        break;
    case EV_BLOCKED:
        if (link->options.on_blocked != NULL)
            link->options.on_blocked(link->options.ctx, event->flag);
        break;
    case EV_DELIVERIES:
        if (!consumer->closed)
            consumer->options.on_deliveries(consumer->options.ctx, take_ptr(event->first));
        break;
    case EV_LOST:
        if (!consumer->closed && consumer->options.on_lost != NULL)
            consumer->options.on_lost(consumer->options.ctx);
        break;
    case EV_CONFIRMS:
        dispatch_confirms(event);
        break;
    case EV_DEPTH:
        event->depth(event->ctx, event->flag, event->ready, event->consumers);
        break;
    }
}

static void take_events(struct amqp_link *link)
{
    pthread_mutex_lock(&link->shared->lock);
    amqp_events_append(&link->dispatch, &link->shared->outbox);
    pthread_mutex_unlock(&link->shared->lock);
}

/* Callbacks may publish, flush and so add events: those come in the same turn, but never inside another callback. */
static void dispatch_all(struct amqp_link *link)
{
    struct amqp_event *event;

    if (link->dispatching)
        return;
    link->dispatching = true;
    while (!link->freed && (event = amqp_events_pop(&link->dispatch)) != NULL) {
        dispatch(link, event);
        amqp_event_free(event);
    }
    link->dispatching = false;
}

/* --- the session on the loop --- */

static void on_watch_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void unwatch(struct amqp_link *link)
{
    struct watch *watch = link->watch;

    link->watch = NULL;
    watch->link = NULL;
    uv_poll_stop(&watch->poll);
    uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
    uv_timer_stop(&link->tick);
}

/* The connection is over: everything is answered, and the session goes back to the thread, which makes the next one. */
static void detach(struct amqp_link *link, const struct err *err)
{
    struct session *s = link->lent;

    unwatch(link); /* before the socket is closed */
    amqp_session_drop(s, err == NULL);
    if (err != NULL)
        amqp_session_down(s, err);
    amqp_events_append(&link->dispatch, &s->events);
    uv_async_send(&link->async);
    pthread_mutex_lock(&link->shared->lock);
    link->shared->returned = true;
    pthread_mutex_unlock(&link->shared->lock);
    amqp_shared_wake(link->shared);
}

static void on_socket(uv_poll_t *poll, int status, int events);

/* After anything was done with the session: sends what can be sent and sees to what remains. */
static void settle(struct amqp_link *link, enum err_code rc, struct err *err)
{
    struct session *s = link->lent;
    int events;

    if (rc == ERR_OK)
        rc = amqp_session_push(s, err);
    if (rc != ERR_OK) {
        detach(link, err);
        return;
    }
    events = UV_READABLE | (wire_pending(s->wire) > 0 ? UV_WRITABLE : 0);
    if (events != link->watch->events) {
        link->watch->events = events;
        uv_poll_start(&link->watch->poll, events, on_socket);
    }
    amqp_events_append(&link->dispatch, &s->events);
    if (amqp_session_has_more(s) || (link->dispatch.head != NULL && !link->dispatching))
        uv_async_send(&link->async);
}

static void read_session(struct amqp_link *link)
{
    struct err err = {0};
    enum err_code rc;

    wire_heard(link->lent->wire);
    rc = amqp_session_read(link->lent, &err);
    amqp_events_append(&link->dispatch, &link->lent->events);
    if (rc != ERR_OK)
        detach(link, &err);
    dispatch_all(link);
    if (link->freed)
        return;
    amqp_flush(link); /* what the callbacks have published and acknowledged leaves in one go */
    if (link->watch != NULL)
        settle(link, ERR_OK, &err);
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
    struct amqp_link *link = ((struct watch *)poll->data)->link;
    struct err err = {0};

    if (link == NULL)
        return;
    if (status < 0 || (events & UV_READABLE) != 0)
        read_session(link);
    else
        settle(link, ERR_OK, &err);
}

static void on_tick(uv_timer_t *timer)
{
    struct amqp_link *link = timer->data;
    struct err err = {0};

    if (link->watch != NULL)
        settle(link, amqp_session_tick(link->lent, &err), &err);
}

static void attach(struct amqp_link *link)
{
    struct amqp_shared *shared = link->shared;
    struct session *s = link->lent;
    struct watch *watch = mem_alloc(sizeof(*watch));
    struct amqp_cmds cmds = {0};
    struct err err = {0};

    pthread_mutex_lock(&shared->lock);
    shared->attached = true;
    amqp_cmds_append(&cmds, &shared->inbox);
    pthread_mutex_unlock(&shared->lock);
    watch->link = link;
    ENSURE(uv_poll_init(link->options.loop, &watch->poll, wire_fd(s->wire)) == 0);
    watch->poll.data = watch;
    link->watch = watch;
    uv_timer_start(&link->tick, on_tick, AMQP_TICK_MS, AMQP_TICK_MS);
    amqp_session_begin(s);
    amqp_session_commands(s, &cmds);
    settle(link, ERR_OK, &err);
}

static void on_async(uv_async_t *async)
{
    struct amqp_link *link = async->data;
    struct err err = {0};

    take_events(link);
    dispatch_all(link);
    if (link->freed)
        return;
    amqp_flush(link);
    if (link->watch != NULL && link->lent->more_to_read)
        read_session(link);
    else if (link->watch != NULL && amqp_session_has_more(link->lent))
        settle(link, ERR_OK, &err);
}

/* Whoever forgets amqp_flush only loses the rest of this turn. */
static void on_prepare(uv_prepare_t *prepare)
{
    amqp_flush(prepare->data);
}

/* --- life -----------------------------------------------------------------------------------------------------------
 */

struct amqp_link *amqp_link_new(const struct amqp_options *options)
{
    struct amqp_link *link = mem_alloc(sizeof(*link));
    pthread_attr_t attr;
    pthread_t thread;

    link->options = *options;
    ENSURE(uv_async_init(options->loop, &link->async, on_async) == 0);
    ENSURE(uv_prepare_init(options->loop, &link->prepare) == 0);
    ENSURE(uv_timer_init(options->loop, &link->tick) == 0);
    link->async.data = link->prepare.data = link->tick.data = link;
    link->open_handles = 3;
    uv_prepare_start(&link->prepare, on_prepare);
    uv_unref((uv_handle_t *)&link->prepare);
    link->shared = amqp_shared_new(options, &link->async);
    link->lent = amqp_session_new(link->shared);

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    ENSURE(pthread_create(&thread, &attr, amqp_thread_main, link->lent) == 0);
    pthread_attr_destroy(&attr);
    return link;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct amqp_link *link = handle->data;

    if (--link->open_handles != 0)
        return;
    while (link->consumers != NULL) {
        struct amqp_consumer *consumer = link->consumers;

        link->consumers = consumer->next;
        ack_window_deinit(&consumer->acks);
        mem_free(consumer->queue);
        mem_free(consumer);
    }
    mem_free(link);
}

/* What the thread did not get to. */
static void refuse_rest(struct amqp_cmds *cmds)
{
    struct amqp_cmd *cmd;

    while ((cmd = amqp_cmds_pop(cmds)) != NULL) {
        if (cmd->kind == CMD_PUBLISH && cmd->message.on_confirm != NULL)
            cmd->message.on_confirm(cmd->message.ctx, AMQP_UNKNOWN);
        if (cmd->kind == CMD_DEPTH)
            cmd->depth(cmd->ctx, false, 0, 0);
        amqp_cmd_free(cmd);
    }
}

static bool wait_for_thread(struct amqp_shared *shared)
{
    struct timespec until;
    bool done;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_WAIT_MS / 1000;
    pthread_mutex_lock(&shared->lock);
    while (!shared->thread_done && pthread_cond_timedwait(&shared->ended, &shared->lock, &until) == 0)
        continue;
    done = shared->thread_done;
    shared->async = NULL;
    pthread_mutex_unlock(&shared->lock);
    return done;
}

void amqp_link_free(struct amqp_link *link)
{
    struct amqp_shared *shared;
    struct amqp_cmds rest = {0};
    struct amqp_event *event;
    bool done;

    if (link == NULL || link->freed)
        return;
    shared = link->shared;
    link->freed = true;
    link->up = false;
    amqp_flush(link);
    pthread_mutex_lock(&shared->lock);
    shared->stopping = true;
    pthread_mutex_unlock(&shared->lock);
    if (link->watch != NULL) {
        amqp_session_last_words(link->lent);
        detach(link, NULL);
    }
    amqp_shared_wake(shared);
    done = wait_for_thread(shared);

    take_events(link);
    while ((event = amqp_events_pop(&link->dispatch)) != NULL) {
        if (event->kind == EV_CONFIRMS || event->kind == EV_DEPTH)
            dispatch(link, event);
        amqp_event_free(event);
    }
    pthread_mutex_lock(&shared->lock);
    amqp_cmds_append(&rest, &shared->inbox);
    pthread_mutex_unlock(&shared->lock);
    refuse_rest(&rest);
    if (!done) /* it hangs in a resolver or a handshake and may still look at its consumers: leave them to it */
        link->consumers = NULL;
    amqp_shared_unref(shared);
    uv_close((uv_handle_t *)&link->async, on_handle_closed);
    uv_close((uv_handle_t *)&link->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&link->tick, on_handle_closed);
}

bool amqp_link_is_up(const struct amqp_link *link)
{
    return link->up;
}

void amqp_flush(struct amqp_link *link)
{
    struct amqp_shared *shared = link->shared;
    struct err err = {0};
    bool wake;

    if (link->staged.head == NULL)
        return;
    if (link->watch != NULL) {
        amqp_session_commands(link->lent, &link->staged);
        settle(link, ERR_OK, &err);
        return;
    }
    pthread_mutex_lock(&shared->lock);
    amqp_cmds_append(&shared->inbox, &link->staged);
    wake = shared->sleeping;
    shared->sleeping = false;
    pthread_mutex_unlock(&shared->lock);
    if (wake)
        amqp_shared_wake(shared);
}

/* --- public functions to commands
 * ------------------------------------------------------------------------------------- */

/* Room for strings behind a command. */
static const char *tail_copy(char **tail, const char *s)
{
    char *at = *tail;
    size_t size;

    if (s == NULL)
        return NULL;
    size = strlen(s) + 1;
    memcpy(at, s, size);
    *tail += size;
    return at;
}

static size_t tail_size(const char *s)
{
    return s == NULL ? 0 : strlen(s) + 1;
}

static struct amqp_cmd *cmd_new(enum amqp_cmd_kind kind, size_t extra, char **ret_tail)
{
    struct amqp_cmd *cmd = mem_alloc(sizeof(*cmd) + extra);

    cmd->kind = kind;
    if (ret_tail != NULL)
        *ret_tail = (char *)(cmd + 1);
    return cmd;
}

void amqp_declare_queue(struct amqp_link *link, const struct amqp_queue *queue)
{
    char *tail;
    struct amqp_cmd *cmd =
        cmd_new(CMD_DECLARE, tail_size(queue->name) + tail_size(queue->type) + tail_size(queue->bind_exchange), &tail);

    cmd->queue = *queue;
    cmd->queue.name = tail_copy(&tail, queue->name);
    cmd->queue.type = tail_copy(&tail, queue->type);
    cmd->queue.bind_exchange = tail_copy(&tail, queue->bind_exchange);
    amqp_cmds_push(&link->staged, cmd);
}

static void declare_exchange(struct amqp_link *link, const char *exchange, const char *type)
{
    char *tail;
    struct amqp_cmd *cmd = cmd_new(CMD_EXCHANGE, tail_size(exchange) + tail_size(type), &tail);

    cmd->queue.name = tail_copy(&tail, exchange);
    cmd->queue.type = tail_copy(&tail, type);
    amqp_cmds_push(&link->staged, cmd);
}

void amqp_declare_fanout(struct amqp_link *link, const char *exchange)
{
    declare_exchange(link, exchange, "fanout");
}

void amqp_declare_topic(struct amqp_link *link, const char *exchange)
{
    declare_exchange(link, exchange, "topic");
}

struct amqp_consumer *amqp_consume(struct amqp_link *link, const struct amqp_consume *options)
{
    struct amqp_consumer *consumer = mem_alloc(sizeof(*consumer));
    struct amqp_cmd *cmd = cmd_new(CMD_CONSUME, 0, NULL);

    consumer->link = link;
    consumer->options = *options;
    consumer->queue = mem_strdup(options->queue);
    consumer->options.queue = consumer->queue;
    ack_window_init(&consumer->acks);
    consumer->next = link->consumers;
    link->consumers = consumer;
    cmd->consumer = consumer;
    amqp_cmds_push(&link->staged, cmd);
    return consumer;
}

static void consumer_cmd(struct amqp_consumer *consumer, enum amqp_cmd_kind kind, uint64_t generation, uint64_t tag)
{
    struct amqp_cmd *cmd = cmd_new(kind, 0, NULL);

    cmd->consumer = consumer;
    cmd->generation = generation;
    cmd->tag = tag;
    amqp_cmds_push(&consumer->link->staged, cmd);
}

void amqp_consumer_close(struct amqp_consumer *consumer)
{
    if (consumer->closed)
        return;
    consumer->closed = true;
    consumer_cmd(consumer, CMD_CLOSE, 0, 0);
}

void amqp_consumer_cancel(struct amqp_consumer *consumer)
{
    if (!consumer->closed)
        consumer_cmd(consumer, CMD_CANCEL, 0, 0);
}

void amqp_ack(struct amqp_consumer *consumer, uint64_t generation, uint64_t tag)
{
    if (!consumer->closed)
        consumer_cmd(consumer, CMD_ACK, generation, tag);
}

void amqp_nack(struct amqp_consumer *consumer, uint64_t generation, uint64_t tag, bool requeue)
{
    if (!consumer->closed)
        consumer_cmd(consumer, requeue ? CMD_NACK_REQUEUE : CMD_NACK, generation, tag);
}

void amqp_publish(struct amqp_link *link, const struct amqp_message *message)
{
    size_t strings = tail_size(message->exchange) + tail_size(message->routing_key) + tail_size(message->type) +
                     tail_size(message->message_id) + tail_size(message->reply_to);
    char *tail;
    struct amqp_cmd *cmd;

    ENSURE(message->exchange != NULL && message->routing_key != NULL && message->type != NULL);
    ENSURE(tail_size(message->exchange) <= SHORT_STRING_MAX + 1);
    ENSURE(tail_size(message->routing_key) <= SHORT_STRING_MAX + 1);
    ENSURE(tail_size(message->type) <= SHORT_STRING_MAX + 1);
    cmd = cmd_new(CMD_PUBLISH, strings + message->body.len, &tail);
    cmd->message = *message;
    cmd->message.exchange = tail_copy(&tail, message->exchange);
    cmd->message.routing_key = tail_copy(&tail, message->routing_key);
    cmd->message.type = tail_copy(&tail, message->type);
    cmd->message.message_id = tail_copy(&tail, message->message_id);
    cmd->message.reply_to = tail_copy(&tail, message->reply_to);
    if (tail_size(message->message_id) > SHORT_STRING_MAX + 1) /* the body names the thing as well */
        cmd->message.message_id = NULL;
    if (tail_size(message->reply_to) > SHORT_STRING_MAX + 1)
        cmd->message.reply_to = NULL;
    if (message->body.len > 0)
        memcpy(tail, message->body.ptr, message->body.len);
    cmd->message.body = (struct str){tail, message->body.len};
    amqp_cmds_push(&link->staged, cmd);
}

void amqp_queue_depth(struct amqp_link *link, const char *queue, amqp_depth_fn done, void *ctx)
{
    char *tail;
    struct amqp_cmd *cmd = cmd_new(CMD_DEPTH, tail_size(queue), &tail);

    cmd->queue.name = tail_copy(&tail, queue);
    cmd->depth = done;
    cmd->ctx = ctx;
    amqp_cmds_push(&link->staged, cmd);
}
