/* The lists of a broker link, and the place where thread and loop meet; see amqp_internal.h. */
#include "common/base/ensure.h"
#include "common/io/amqp_internal.h"
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/banned.h"

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

void amqp_events_append(struct amqp_events *list, struct amqp_events *more)
{
    if (more->head == NULL)
        return;
    if (list->tail == NULL)
        list->head = more->head;
    else
        list->tail->next = more->head;
    list->tail = more->tail;
    *more = (struct amqp_events){0};
}

struct amqp_event *amqp_events_pop(struct amqp_events *list)
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

void amqp_event_free(struct amqp_event *event)
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
    while ((event = amqp_events_pop(&shared->outbox)) != NULL)
        amqp_event_free(event);
    close(shared->wake_fd);
    pthread_mutex_destroy(&shared->lock);
    pthread_cond_destroy(&shared->ended);
    mem_free(shared->url);
    mem_free(shared->name);
    mem_free(shared);
}

struct amqp_shared *amqp_shared_new(const struct amqp_options *options, uv_async_t *async)
{
    struct amqp_shared *shared = mem_alloc(sizeof(*shared));
    pthread_condattr_t attr;

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
    shared->async = async;
    shared->refs = 2;
    return shared;
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
    amqp_events_append(&shared->outbox, events);
    if (shared->async != NULL)
        uv_async_send(shared->async);
    pthread_mutex_unlock(&shared->lock);
}

void amqp_shared_wake(struct amqp_shared *shared)
{
    uint64_t one = 1;

    while (write(shared->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}
