/* The loop's half of a broker link: public functions become commands, events become callbacks. No library here. */
#include "common/base/ensure.h"
#include "common/io/amqp_internal.h"
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/banned.h"

/* A message that AMQP's short strings cannot carry is refused here, because the library would write a broken frame. */
#define SHORT_STRING_MAX 255
#define STOP_WAIT_MS 1000

struct amqp_link {
    struct amqp_options options;
    struct amqp_shared *shared;
    uv_async_t async;
    uv_prepare_t prepare;
    unsigned open_handles;
    bool up, freed;
    struct amqp_cmds staged;     /* not handed over yet */
    struct amqp_events dispatch; /* being called back */
    struct amqp_consumer *consumers;
};

/* --- lists ---------------------------------------------------------------------------------------------------------
 */

void amqp_cmds_push(struct amqp_cmds *list, struct amqp_cmd *cmd)
{
    cmd->next = NULL;
    if (list->tail == NULL)
        list->head = cmd;
    else
        list->tail->next = cmd;
    list->tail = cmd;
}

void amqp_cmds_append(struct amqp_cmds *list, struct amqp_cmds *more)
{
    if (more->head == NULL)
        return;
    if (list->tail == NULL)
        list->head = more->head;
    else
        list->tail->next = more->head;
    list->tail = more->tail;
    *more = (struct amqp_cmds){0};
}

struct amqp_cmd *amqp_cmds_pop(struct amqp_cmds *list)
{
    struct amqp_cmd *cmd = list->head;

    if (cmd == NULL)
        return NULL;
    list->head = cmd->next;
    if (list->head == NULL)
        list->tail = NULL;
    return cmd;
}

void amqp_cmd_free(struct amqp_cmd *cmd)
{
    mem_free(cmd);
}

void amqp_events_push(struct amqp_events *list, struct amqp_event *event)
{
    event->next = NULL;
    if (list->tail == NULL)
        list->head = event;
    else
        list->tail->next = event;
    list->tail = event;
}

void amqp_event_confirm(struct amqp_events *list, void (*fn)(void *, enum amqp_confirm), void *ctx,
                        enum amqp_confirm outcome)
{
    struct amqp_event *event = list->tail;

    if (fn == NULL)
        return;
    if (event == NULL || event->kind != EV_CONFIRMS || event->count == CONFIRMS_PER_EVENT) {
        event = mem_alloc(sizeof(*event));
        event->kind = EV_CONFIRMS;
        event->confirmed = mem_array(CONFIRMS_PER_EVENT, sizeof(*event->confirmed));
        amqp_events_push(list, event);
    }
    event->confirmed[event->count++] = (struct amqp_confirmed){.fn = fn, .ctx = ctx, .outcome = outcome};
}

static struct amqp_event *events_pop(struct amqp_events *list)
{
    struct amqp_event *event = list->head;

    if (event == NULL)
        return NULL;
    list->head = event->next;
    if (list->head == NULL)
        list->tail = NULL;
    return event;
}

void amqp_delivery_free(struct amqp_delivery *delivery)
{
    mem_free(delivery);
}

static void deliveries_free(struct amqp_delivery *first)
{
    while (first != NULL) {
        struct amqp_delivery *next = first->next;

        amqp_delivery_free(first);
        first = next;
    }
}

static void event_free(struct amqp_event *event)
{
    deliveries_free(event->first);
    mem_free(event->confirmed);
    mem_free(event->err);
    mem_free(event);
}

/* --- the shared part ------------------------------------------------------------------------------------------------
 */

static void shared_release(struct amqp_shared *shared)
{
    struct amqp_cmd *cmd;
    struct amqp_event *event;

    while ((cmd = amqp_cmds_pop(&shared->inbox)) != NULL)
        amqp_cmd_free(cmd);
    while ((event = events_pop(&shared->outbox)) != NULL)
        event_free(event);
    close(shared->wake_fd);
    pthread_mutex_destroy(&shared->lock);
    pthread_cond_destroy(&shared->ended);
    mem_free(shared->url);
    mem_free(shared->name);
    mem_free(shared);
}

void amqp_shared_unref(struct amqp_shared *shared)
{
    unsigned refs;

    pthread_mutex_lock(&shared->lock);
    refs = --shared->refs;
    pthread_mutex_unlock(&shared->lock);
    if (refs == 0)
        shared_release(shared);
}

void amqp_shared_post(struct amqp_shared *shared, struct amqp_events *events)
{
    if (events->head == NULL)
        return;
    pthread_mutex_lock(&shared->lock);
    if (shared->outbox.tail == NULL)
        shared->outbox = *events;
    else {
        shared->outbox.tail->next = events->head;
        shared->outbox.tail = events->tail;
    }
    if (shared->async != NULL)
        uv_async_send(shared->async);
    pthread_mutex_unlock(&shared->lock);
    *events = (struct amqp_events){0};
}

static void shared_wake(struct amqp_shared *shared)
{
    uint64_t one = 1;

    while (write(shared->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

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
    struct amqp_shared *shared = link->shared;

    pthread_mutex_lock(&shared->lock);
    if (link->dispatch.tail == NULL)
        link->dispatch = shared->outbox;
    else if (shared->outbox.head != NULL) {
        link->dispatch.tail->next = shared->outbox.head;
        link->dispatch.tail = shared->outbox.tail;
    }
    shared->outbox = (struct amqp_events){0};
    pthread_mutex_unlock(&shared->lock);
}

static void on_async(uv_async_t *async)
{
    struct amqp_link *link = async->data;
    struct amqp_event *event;

    take_events(link);
    while (!link->freed && (event = events_pop(&link->dispatch)) != NULL) {
        dispatch(link, event);
        event_free(event);
    }
    if (!link->freed)
        amqp_flush(link);
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
    struct amqp_shared *shared = mem_alloc(sizeof(*shared));
    pthread_condattr_t attr;
    pthread_attr_t thread_attr;
    pthread_t thread;

    link->options = *options;
    link->shared = shared;
    shared->url = mem_strdup(options->url);
    shared->name = mem_strdup(options->name);
    shared->heartbeat_s = options->heartbeat_s;
    shared->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ENSURE(shared->wake_fd >= 0);
    ENSURE(pthread_mutex_init(&shared->lock, NULL) == 0);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    ENSURE(pthread_cond_init(&shared->ended, &attr) == 0);
    pthread_condattr_destroy(&attr);
    shared->refs = 2;

    ENSURE(uv_async_init(options->loop, &link->async, on_async) == 0);
    link->async.data = link;
    ENSURE(uv_prepare_init(options->loop, &link->prepare) == 0);
    link->prepare.data = link;
    uv_prepare_start(&link->prepare, on_prepare);
    uv_unref((uv_handle_t *)&link->prepare);
    link->open_handles = 2;
    shared->async = &link->async;

    pthread_attr_init(&thread_attr);
    pthread_attr_setdetachstate(&thread_attr, PTHREAD_CREATE_DETACHED);
    ENSURE(pthread_create(&thread, &thread_attr, amqp_thread_main, shared) == 0);
    pthread_attr_destroy(&thread_attr);
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
    shared_wake(shared);
    done = wait_for_thread(shared);

    take_events(link);
    while ((event = events_pop(&link->dispatch)) != NULL) {
        if (event->kind == EV_CONFIRMS || event->kind == EV_DEPTH)
            dispatch(link, event);
        event_free(event);
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
}

bool amqp_link_is_up(const struct amqp_link *link)
{
    return link->up;
}

void amqp_flush(struct amqp_link *link)
{
    struct amqp_shared *shared = link->shared;
    bool wake;

    if (link->staged.head == NULL)
        return;
    pthread_mutex_lock(&shared->lock);
    amqp_cmds_append(&shared->inbox, &link->staged);
    wake = shared->sleeping;
    shared->sleeping = false;
    pthread_mutex_unlock(&shared->lock);
    if (wake)
        shared_wake(shared);
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

void amqp_declare_fanout(struct amqp_link *link, const char *exchange)
{
    char *tail;
    struct amqp_cmd *cmd = cmd_new(CMD_FANOUT, tail_size(exchange), &tail);

    cmd->queue.name = tail_copy(&tail, exchange);
    amqp_cmds_push(&link->staged, cmd);
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
