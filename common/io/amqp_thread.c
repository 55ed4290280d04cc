/* The thread of a broker link: everything that may block. It connects and logs in, lends the session to the loop, and
 * waits for it to come back; over TLS it runs the session itself. See amqp_internal.h. */
#include "common/base/id.h"
#include "common/io/amqp_internal.h"
#include <poll.h>
#include <unistd.h>

#include "common/base/banned.h"

#define BACKOFF_MAX_US (2 * US_PER_S)

/* Takes what the loop has handed over. True when the link is being freed. */
static bool take_commands(struct session *s)
{
    struct amqp_cmds cmds = {0};
    bool stopping;

    pthread_mutex_lock(&s->shared->lock);
    amqp_cmds_append(&cmds, &s->shared->inbox);
    s->shared->sleeping = false;
    stopping = s->shared->stopping;
    pthread_mutex_unlock(&s->shared->lock);
    amqp_session_commands(s, &cmds);
    return stopping;
}

static bool wait_turn(struct session *s, int timeout_ms)
{
    pthread_mutex_lock(&s->shared->lock);
    s->shared->sleeping = s->shared->inbox.head == NULL;
    if (!s->shared->sleeping)
        timeout_ms = 0;
    pthread_mutex_unlock(&s->shared->lock);
    return amqp_session_wait(s, timeout_ms);
}

/* Until the connection is lost (an error) or the link is freed (ERR_OK). */
static enum err_code run_session(struct session *s, struct err *err)
{
    enum err_code rc = ERR_OK;

    amqp_session_begin(s);
    while (rc == ERR_OK) {
        bool stopping = take_commands(s);

        rc = amqp_session_push(s, err);
        if (rc != ERR_OK || stopping)
            break;
        amqp_shared_post(s->shared, &s->events);
        if (wait_turn(s, amqp_session_has_more(s) ? 0 : AMQP_TICK_MS) || s->more_to_read) {
            wire_heard(s->wire);
            rc = amqp_session_read(s, err);
        }
        if (rc == ERR_OK)
            rc = amqp_session_tick(s, err);
    }
    if (rc == ERR_OK) {
        amqp_session_last_words(s);
        amqp_session_drop(s, true);
    } else {
        amqp_session_drop(s, false);
        amqp_session_down(s, err);
    }
    return rc;
}

/* Gives the session to the loop and waits until it is back, without a connection. */
static void lend_session(struct session *s)
{
    struct amqp_shared *shared = s->shared;
    struct amqp_event *event = mem_alloc(sizeof(*event));
    struct amqp_events events = {0};
    bool attached, returned, stopping;

    event->kind = EV_ATTACH;
    amqp_events_append(&events, &s->events);
    amqp_events_push(&events, event);
    amqp_shared_post(shared, &events);
    do { /* the session is not ours now: only the shared part may be looked at */
        struct pollfd wake = {.fd = shared->wake_fd, .events = POLLIN};
        uint64_t drain;

        if (poll(&wake, 1, -1) > 0 && read(shared->wake_fd, &drain, sizeof(drain)) < 0)
            (void)0; /* somebody was faster: what counts stands under the lock */
        pthread_mutex_lock(&shared->lock);
        attached = shared->attached;
        returned = shared->returned;
        stopping = shared->stopping;
        pthread_mutex_unlock(&shared->lock);
    } while (!returned && (attached || !stopping));
    pthread_mutex_lock(&shared->lock);
    shared->attached = shared->returned = false;
    pthread_mutex_unlock(&shared->lock);
    if (s->wire != NULL) /* the link was freed before the loop had taken it */
        amqp_session_drop(s, true);
}

/* Between two connections commands are still answered. True when the link is being freed. */
static bool wait_backoff(struct session *s)
{
    struct mono_us until = {clock_mono().us + s->backoff_us / 2 +
                            (int64_t)(random_u64() % (uint64_t)(s->backoff_us / 2))};

    s->backoff_us = s->backoff_us * 2 > BACKOFF_MAX_US ? BACKOFF_MAX_US : s->backoff_us * 2;
    for (;;) {
        int64_t left = until.us - clock_mono().us;
        bool stopping = take_commands(s);

        amqp_session_refuse(s);
        amqp_shared_post(s->shared, &s->events);
        if (stopping || left <= 0)
            return stopping;
        wait_turn(s, (int)(left / US_PER_MS) + 1);
    }
}

void *amqp_thread_main(void *arg)
{
    struct session *s = arg;
    struct amqp_shared *shared = s->shared;
    bool stopping = false;

    while (!stopping) {
        struct err err = {0};

        if (wire_open(shared->url, shared->name, shared->heartbeat_s, &s->wire, &err) != ERR_OK)
            amqp_session_down(s, &err);
        else if (!wire_may_block(s->wire))
            lend_session(s);
        else if (run_session(s, &err) == ERR_OK)
            break;
        stopping = wait_backoff(s);
    }
    amqp_session_refuse(s);
    amqp_shared_post(shared, &s->events);
    amqp_session_free(s);
    pthread_mutex_lock(&shared->lock);
    shared->thread_done = true;
    pthread_cond_signal(&shared->ended);
    pthread_mutex_unlock(&shared->lock);
    amqp_shared_unref(shared);
    return NULL;
}
