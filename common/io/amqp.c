/* The thread of a broker link: connects, declares, consumes, publishes, and does all of it again after a loss. See
 * amqp.h for what it promises, amqp_wire.h for the connection, amqp_link.c for the loop's side.
 *
 * Channel 1 carries confirmed messages, 2 transient ones, 3 topology, 4 depth questions, 5.. one consumer each. A
 * failed declaration is a failed connection (the next attempt says it again); any other channel that the broker closes
 * is opened again by itself. While there is no connection, messages are answered AMQP_UNKNOWN at once and nothing is
 * kept: what must not be lost stands in PostgreSQL or is still unacknowledged. */
#include "common/base/ensure.h"
#include "common/base/id.h"
#include "common/base/metrics.h"
#include "common/io/amqp_internal.h"
#include "common/io/amqp_wire.h"
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "common/base/banned.h"

enum { CHANNEL_CONFIRMED = 1, CHANNEL_TRANSIENT, CHANNEL_TOPOLOGY, CHANNEL_DEPTH, CHANNEL_FIRST_CONSUMER };

#define BACKOFF_FIRST_US (50 * US_PER_MS)
#define BACKOFF_MAX_US (2 * US_PER_S)
#define SETUP_TIMEOUT_US (10 * US_PER_S)
#define CONSUMER_RETRY_US (1 * US_PER_S)
#define TICK_MS 500
#define OUT_ENOUGH ((size_t)1 << 20) /* bytes handed to the socket at a time; the rest stays queued */
#define FRAMES_PER_TURN 4096
#define STOP_FLUSH_US (400 * US_PER_MS)

struct session {
    struct amqp_shared *shared;
    struct wire *wire; /* NULL between connections */
    struct amqp_events events;
    struct amqp_cmds publishes, depths, topology; /* topology: remembered for every connection */
    struct amqp_consumer *consumers;
    struct amqp_consumer *channels[WIRE_CHANNELS]; /* consumer by channel */
    bool closing[WIRE_CHANNELS];                   /* we asked; not to be used before the answer */
    struct confirm_window confirms;
    unsigned declares_pending;
    bool selected, ready, blocked, depth_open, depth_asked;
    bool told_down, was_up;
    struct mono_us setup_until;
    int64_t backoff_us;
    struct amqp_consumer *acks; /* consumers with acknowledgements to send */
};

/* --- events ---------------------------------------------------------------------------------------------------------
 */

static struct amqp_event *event_new(struct session *s, enum amqp_event_kind kind)
{
    struct amqp_event *event = mem_alloc(sizeof(*event));

    event->kind = kind;
    amqp_events_push(&s->events, event);
    return event;
}

static void post_delivery(struct session *s, struct amqp_consumer *consumer, struct amqp_delivery *delivery)
{
    struct amqp_event *event = s->events.tail;

    if (event == NULL || event->kind != EV_DELIVERIES || event->consumer != consumer) {
        event = event_new(s, EV_DELIVERIES);
        event->consumer = consumer;
        event->first = delivery;
    } else {
        event->last->next = delivery;
    }
    event->last = delivery;
}

static void post_depth(struct session *s, struct amqp_cmd *cmd, bool found, uint32_t ready, uint32_t consumers)
{
    struct amqp_event *event = event_new(s, EV_DEPTH);

    event->depth = cmd->depth;
    event->ctx = cmd->ctx;
    event->flag = found;
    event->ready = ready;
    event->consumers = consumers;
    amqp_cmd_free(cmd);
}

static void report_confirm(void *ctx, const struct confirm_entry *entry, enum amqp_confirm outcome)
{
    struct session *s = ctx;

    amqp_event_confirm(&s->events, entry->fn, entry->ctx, outcome);
}

static void refuse_publishes(struct session *s)
{
    struct amqp_cmd *cmd;

    while ((cmd = amqp_cmds_pop(&s->publishes)) != NULL) {
        amqp_event_confirm(&s->events, cmd->message.on_confirm, cmd->message.ctx, AMQP_UNKNOWN);
        amqp_cmd_free(cmd);
    }
    while ((cmd = amqp_cmds_pop(&s->depths)) != NULL)
        post_depth(s, cmd, false, 0, 0);
}

/* --- topology and consumers ------------------------------------------------------------------------------------------
 */

static void put_declare(struct session *s, const struct amqp_cmd *cmd)
{
    s->declares_pending++;
    if (cmd->kind == CMD_FANOUT) {
        wire_put_fanout(s->wire, CHANNEL_TOPOLOGY, cmd->queue.name);
        return;
    }
    wire_put_queue(s->wire, CHANNEL_TOPOLOGY, &cmd->queue, false);
    if (cmd->queue.bind_exchange == NULL)
        return;
    /* The exchange may be declared by nobody else yet, and a binding to nothing would close the channel. */
    s->declares_pending += 2;
    wire_put_fanout(s->wire, CHANNEL_TOPOLOGY, cmd->queue.bind_exchange);
    wire_put_bind(s->wire, CHANNEL_TOPOLOGY, cmd->queue.name, cmd->queue.bind_exchange);
}

/* Remembers a declaration, once; asking again declares again (somebody may have deleted the queue). */
static void remember(struct session *s, struct amqp_cmd *cmd)
{
    for (const struct amqp_cmd *known = s->topology.head; known != NULL; known = known->next) {
        if (known->kind == cmd->kind && strcmp(known->queue.name, cmd->queue.name) == 0) {
            amqp_cmd_free(cmd);
            return;
        }
    }
    amqp_cmds_push(&s->topology, cmd);
}

static void put_topology(struct session *s)
{
    for (const struct amqp_cmd *cmd = s->topology.head; cmd != NULL; cmd = cmd->next)
        put_declare(s, cmd);
    s->setup_until.us = clock_mono().us + SETUP_TIMEOUT_US;
}

static void open_consumer(struct session *s, struct amqp_consumer *consumer)
{
    uint16_t channel = CHANNEL_FIRST_CONSUMER;

    while (channel < WIRE_CHANNELS && (s->channels[channel] != NULL || s->closing[channel]))
        channel++;
    if (channel == WIRE_CHANNELS) /* none free now: a closing one will be */
        return;
    s->channels[channel] = consumer;
    consumer->channel = channel;
    consumer->generation++;
    consumer->state = CONSUMER_OPENING;
    ack_window_deinit(&consumer->acks);
    ack_window_init(&consumer->acks);
    wire_put_channel_open(s->wire, channel);
    wire_put_consume(s->wire, channel, &consumer->options);
}

/* The consumer's channel is gone, by the broker or with the connection. */
static void lose_consumer(struct session *s, struct amqp_consumer *consumer, struct mono_us retry_at)
{
    s->channels[consumer->channel] = NULL;
    consumer->channel = 0;
    consumer->generation++; /* what is in hand cannot be acknowledged any more */
    if (consumer->state == CONSUMER_ACTIVE || consumer->state == CONSUMER_CANCELLED)
        event_new(s, EV_LOST)->consumer = consumer;
    if (consumer->state == CONSUMER_CANCELLED)
        return;
    consumer->state = CONSUMER_RETRY;
    consumer->retry_at = retry_at;
}

static void close_consumer(struct session *s, struct amqp_consumer *consumer)
{
    if (consumer->channel != 0 && s->wire != NULL) {
        wire_put_channel_close(s->wire, consumer->channel);
        s->closing[consumer->channel] = true;
        s->channels[consumer->channel] = NULL;
        consumer->channel = 0;
    }
    consumer->generation++;
    consumer->state = CONSUMER_CLOSED;
    for (struct amqp_consumer **at = &s->consumers; *at != NULL; at = &(*at)->thread_next) {
        if (*at == consumer) {
            *at = consumer->thread_next;
            break;
        }
    }
}

/* Opens what is wanted; says "up" once everything that was wanted at the start stands. */
static void proceed(struct session *s)
{
    struct mono_us now = clock_mono();
    bool opening = false, again = false;

    if (!s->selected || s->declares_pending > 0)
        return;
    for (struct amqp_consumer *c = s->consumers; c != NULL; c = c->thread_next) {
        if (c->state == CONSUMER_RETRY && now.us >= c->retry_at.us) {
            c->state = CONSUMER_WANTED;
            again = true;
        }
    }
    if (again && s->ready) { /* its queue may have been deleted: declare first */
        put_topology(s);
        if (s->declares_pending > 0)
            return;
    }
    for (struct amqp_consumer *c = s->consumers; c != NULL; c = c->thread_next) {
        if (c->state == CONSUMER_WANTED)
            open_consumer(s, c);
        opening = opening || c->state == CONSUMER_OPENING;
    }
    if (s->ready || opening)
        return;
    s->ready = true;
    s->told_down = false;
    s->backoff_us = BACKOFF_FIRST_US;
    if (s->was_up)
        metric_add(METRIC_AMQP_RECONNECTS, 1);
    s->was_up = true;
    event_new(s, EV_UP);
}

/* --- commands --------------------------------------------------------------------------------------------------------
 */

static void settle_cmd(struct session *s, const struct amqp_cmd *cmd)
{
    struct amqp_consumer *consumer = cmd->consumer;
    bool nack = cmd->kind != CMD_ACK;

    if (consumer->channel == 0 || cmd->generation != consumer->generation)
        return;
    if (!ack_window_settle(&consumer->acks, cmd->tag, nack))
        return;
    if (nack) {
        wire_put_nack(s->wire, consumer->channel, cmd->tag, cmd->kind == CMD_NACK_REQUEUE);
    } else if (!consumer->acks_waiting) {
        consumer->acks_waiting = true;
        consumer->acks_next = s->acks;
        s->acks = consumer;
    }
}

static void send_ack(void *ctx, uint64_t tag, bool multiple)
{
    void **both = ctx;
    struct session *s = both[0];
    const struct amqp_consumer *consumer = both[1];

    wire_put_ack(s->wire, consumer->channel, tag, multiple);
}

static void flush_acks(struct session *s)
{
    while (s->acks != NULL) {
        struct amqp_consumer *consumer = s->acks;

        s->acks = consumer->acks_next;
        consumer->acks_waiting = false;
        if (consumer->channel != 0 && s->wire != NULL)
            ack_window_flush(&consumer->acks, send_ack, (void *[]){s, consumer});
    }
}

static void control_cmd(struct session *s, struct amqp_cmd *cmd)
{
    switch (cmd->kind) {
    case CMD_DECLARE:
    case CMD_FANOUT:
        if (s->wire != NULL) {
            s->setup_until.us = clock_mono().us + SETUP_TIMEOUT_US;
            put_declare(s, cmd);
        }
        remember(s, cmd);
        return;
    case CMD_DEPTH:
        amqp_cmds_push(&s->depths, cmd);
        return;
    case CMD_PUBLISH:
        amqp_cmds_push(&s->publishes, cmd);
        return;
    case CMD_CONSUME:
        cmd->consumer->state = CONSUMER_WANTED;
        cmd->consumer->thread_next = s->consumers;
        s->consumers = cmd->consumer;
        break;
    case CMD_CLOSE:
        close_consumer(s, cmd->consumer);
        break;
    case CMD_CANCEL:
        if (cmd->consumer->channel != 0 && s->wire != NULL)
            wire_put_cancel(s->wire, cmd->consumer->channel);
        if (cmd->consumer->state != CONSUMER_CLOSED)
            cmd->consumer->state = CONSUMER_CANCELLED;
        break;
    case CMD_ACK:
    case CMD_NACK:
    case CMD_NACK_REQUEUE:
        settle_cmd(s, cmd);
        break;
    }
    amqp_cmd_free(cmd);
}

/* Takes what the loop has handed over. True when there was something. */
static bool take_commands(struct session *s, bool *ret_stopping)
{
    struct amqp_cmds cmds = {0};
    struct amqp_cmd *cmd;
    bool any;

    pthread_mutex_lock(&s->shared->lock);
    amqp_cmds_append(&cmds, &s->shared->inbox);
    s->shared->sleeping = false;
    *ret_stopping = s->shared->stopping;
    pthread_mutex_unlock(&s->shared->lock);
    any = cmds.head != NULL;
    while ((cmd = amqp_cmds_pop(&cmds)) != NULL)
        control_cmd(s, cmd);
    flush_acks(s);
    return any;
}

static void put_publishes(struct session *s)
{
    struct amqp_cmd *cmd;

    if (!s->ready || s->blocked || s->declares_pending > 0)
        return;
    while (wire_pending(s->wire) < OUT_ENOUGH && (cmd = amqp_cmds_pop(&s->publishes)) != NULL) {
        const struct amqp_message *message = &cmd->message;

        if (message->persistent) {
            uint64_t number = confirm_window_add(&s->confirms, message->on_confirm, message->ctx);

            wire_put_publish(s->wire, CHANNEL_CONFIRMED, message, number);
        } else {
            wire_put_publish(s->wire, CHANNEL_TRANSIENT, message, 0);
            amqp_event_confirm(&s->events, message->on_confirm, message->ctx, AMQP_CONFIRMED);
        }
        amqp_cmd_free(cmd);
    }
}

/* One question at a time: a queue that is not there closes the channel, and then it must be clear which. */
static void put_depth(struct session *s)
{
    if (!s->ready || s->declares_pending > 0 || s->depth_asked || s->depths.head == NULL || s->closing[CHANNEL_DEPTH])
        return;
    if (!s->depth_open)
        wire_put_channel_open(s->wire, CHANNEL_DEPTH);
    s->depth_open = true;
    s->depth_asked = true;
    wire_put_queue(s->wire, CHANNEL_DEPTH, &(struct amqp_queue){.name = s->depths.head->queue.name}, true);
}

/* --- what the broker says
 * ---------------------------------------------------------------------------------------------- */

static enum err_code on_channel_closed(struct session *s, const struct wire_event *event, struct err *err)
{
    switch (event->channel) {
    case CHANNEL_CONFIRMED: /* a message named an exchange that is not there: all that is unconfirmed is unknown */
        confirm_window_lose(&s->confirms, report_confirm, s);
        wire_put_channel_open(s->wire, CHANNEL_CONFIRMED);
        wire_put_confirm_select(s->wire, CHANNEL_CONFIRMED);
        return ERR_OK;
    case CHANNEL_TRANSIENT:
        wire_put_channel_open(s->wire, CHANNEL_TRANSIENT);
        return ERR_OK;
    case CHANNEL_TOPOLOGY:
        return err_set(err, ERR_UNAVAILABLE, "declaring a queue or exchange: %d %s", event->code, event->text);
    case CHANNEL_DEPTH:
        s->depth_open = false;
        if (s->depth_asked)
            post_depth(s, amqp_cmds_pop(&s->depths), false, 0, 0);
        s->depth_asked = false;
        return ERR_OK;
    default:
        s->closing[event->channel] = false;
        if (s->channels[event->channel] != NULL)
            lose_consumer(s, s->channels[event->channel], (struct mono_us){clock_mono().us + CONSUMER_RETRY_US});
        return ERR_OK;
    }
}

static void on_delivery(struct session *s, const struct wire_event *event)
{
    struct amqp_consumer *consumer = s->channels[event->channel];

    if (consumer == NULL) { /* it was closed: the broker gives this to another */
        amqp_delivery_free(event->delivery);
        return;
    }
    event->delivery->consumer = consumer;
    event->delivery->generation = consumer->generation;
    if (!consumer->options.no_ack)
        ack_window_delivered(&consumer->acks, event->delivery->tag);
    post_delivery(s, consumer, event->delivery);
}

static enum err_code on_event(struct session *s, const struct wire_event *event, struct err *err)
{
    struct amqp_consumer *consumer = event->channel < WIRE_CHANNELS ? s->channels[event->channel] : NULL;

    switch (event->kind) {
    case WIRE_NOTHING:
    case WIRE_OTHER:
        break;
    case WIRE_CHANNEL_CLOSED:
        return on_channel_closed(s, event, err);
    case WIRE_CHANNEL_ENDED:
        s->closing[event->channel] = false;
        break;
    case WIRE_SELECT_OK:
        s->selected = true;
        break;
    case WIRE_CONSUME_OK:
        if (consumer != NULL && consumer->state == CONSUMER_OPENING)
            consumer->state = CONSUMER_ACTIVE;
        break;
    case WIRE_CONSUMER_GONE:
        if (consumer != NULL) {
            wire_put_channel_close(s->wire, event->channel);
            s->closing[event->channel] = true;
            lose_consumer(s, consumer, (struct mono_us){clock_mono().us + CONSUMER_RETRY_US});
        }
        break;
    case WIRE_DECLARE_OK:
        if (event->channel == CHANNEL_DEPTH && s->depth_asked) {
            s->depth_asked = false;
            post_depth(s, amqp_cmds_pop(&s->depths), true, event->ready, event->consumers);
        } else if (event->channel == CHANNEL_TOPOLOGY && s->declares_pending > 0) {
            s->declares_pending--;
        }
        break;
    case WIRE_DELIVERY:
        on_delivery(s, event);
        break;
    case WIRE_RETURNED:
        confirm_window_returned(&s->confirms, event->number);
        break;
    case WIRE_CONFIRM:
        if (event->channel == CHANNEL_CONFIRMED)
            confirm_window_settle(&s->confirms, event->number, event->multiple,
                                  event->ok ? AMQP_CONFIRMED : AMQP_REFUSED, report_confirm, s);
        break;
    case WIRE_BLOCKED:
        if (event->ok)
            metric_add(METRIC_AMQP_BLOCKED, 1);
        s->blocked = event->ok;
        event_new(s, EV_BLOCKED)->flag = event->ok;
        break;
    }
    return ERR_OK;
}

static enum err_code read_events(struct session *s, struct err *err)
{
    struct wire_event event;
    enum err_code rc;

    for (unsigned i = 0; i < FRAMES_PER_TURN; i++) {
        rc = wire_read(s->wire, &event, err);
        if (rc != ERR_OK)
            return rc;
        if (event.kind == WIRE_NOTHING)
            break;
        rc = on_event(s, &event, err);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

/* --- the loop of one connection
 * ---------------------------------------------------------------------------------------- */

static enum err_code connect_session(struct session *s, struct err *err)
{
    enum err_code rc = wire_open(s->shared->url, s->shared->name, s->shared->heartbeat_s, &s->wire, err);

    if (rc != ERR_OK)
        return rc;
    wire_put_channel_open(s->wire, CHANNEL_CONFIRMED);
    wire_put_confirm_select(s->wire, CHANNEL_CONFIRMED);
    wire_put_channel_open(s->wire, CHANNEL_TRANSIENT);
    wire_put_channel_open(s->wire, CHANNEL_TOPOLOGY);
    put_topology(s);
    return ERR_OK;
}

static void drop_session(struct session *s, bool polite)
{
    wire_close(s->wire, polite);
    s->wire = NULL;
    for (struct amqp_consumer *c = s->consumers; c != NULL; c = c->thread_next) {
        if (c->channel != 0)
            lose_consumer(s, c, (struct mono_us){0});
        if (c->state == CONSUMER_RETRY)
            c->state = CONSUMER_WANTED;
    }
    memset(s->closing, 0, sizeof(s->closing));
    confirm_window_lose(&s->confirms, report_confirm, s);
    if (s->blocked)
        event_new(s, EV_BLOCKED)->flag = false;
    s->declares_pending = 0;
    s->selected = s->ready = s->blocked = s->depth_open = s->depth_asked = false;
    refuse_publishes(s);
}

/* Waits for the socket, the loop or the clock. `hurry`: something is left to do, only look. */
static bool wait_turn(struct session *s, int timeout_ms)
{
    struct pollfd fds[2] = {{.fd = s->shared->wake_fd, .events = POLLIN}, {.fd = -1}};
    uint64_t drain;

    pthread_mutex_lock(&s->shared->lock);
    s->shared->sleeping = s->shared->inbox.head == NULL;
    if (!s->shared->sleeping)
        timeout_ms = 0;
    pthread_mutex_unlock(&s->shared->lock);
    if (s->wire != NULL) {
        fds[1].fd = wire_fd(s->wire);
        fds[1].events = wire_pending(s->wire) > 0 ? POLLIN | POLLOUT : POLLIN;
    }
    if (poll(fds, 2, timeout_ms) < 0)
        ENSURE(errno == EINTR);
    else if (fds[0].revents != 0)
        while (read(s->shared->wake_fd, &drain, sizeof(drain)) < 0 && errno == EINTR)
            continue;
    return fds[1].fd >= 0 && (fds[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0;
}

/* Until the connection is lost (an error) or the link is freed (ERR_OK). */
static enum err_code run_session(struct session *s, struct err *err)
{
    struct mono_us next_tick = clock_mono();
    bool stopping = false, readable = true;
    enum err_code rc;

    for (;;) {
        take_commands(s, &stopping);
        proceed(s);
        put_publishes(s);
        put_depth(s);
        rc = wire_write(s->wire, err);
        if (rc != ERR_OK)
            return rc;
        if (stopping)
            return ERR_OK;
        amqp_shared_post(s->shared, &s->events);
        /* More to send and room for it: turn again without waiting. */
        readable = wait_turn(s, s->publishes.head != NULL && s->ready && !s->blocked && s->declares_pending == 0 &&
                                        wire_pending(s->wire) < OUT_ENOUGH
                                    ? 0
                                    : TICK_MS);
        if (readable) {
            wire_heard(s->wire);
            rc = read_events(s, err);
            if (rc != ERR_OK)
                return rc;
        }
        if (clock_mono().us < next_tick.us)
            continue;
        next_tick.us = clock_mono().us + TICK_MS * US_PER_MS;
        if (!readable) { /* over TLS the library beats only when asked to read */
            rc = read_events(s, err);
            if (rc != ERR_OK)
                return rc;
        }
        rc = wire_tick(s->wire, err);
        if (rc != ERR_OK)
            return rc;
        if ((!s->ready || s->declares_pending > 0) && clock_mono().us > s->setup_until.us)
            return err_set(err, ERR_TIMEOUT, "the broker did not answer declarations in time");
    }
}

/* The last bytes (acknowledgements, results) get a moment to leave. */
static void flush_before_stop(struct session *s)
{
    struct mono_us until = {clock_mono().us + STOP_FLUSH_US};
    struct err err;

    while (clock_mono().us < until.us) {
        bool work = wire_pending(s->wire) > 0 || s->publishes.head != NULL || s->confirms.base != s->confirms.next;

        if (!work || s->blocked)
            return;
        put_publishes(s);
        if (wire_write(s->wire, &err) != ERR_OK)
            return;
        if (wait_turn(s, 20) && read_events(s, &err) != ERR_OK)
            return;
    }
}

static void report_down(struct session *s, const struct err *err)
{
    struct amqp_event *event;

    if (s->told_down)
        return;
    s->told_down = true;
    event = event_new(s, EV_DOWN);
    event->err = mem_alloc(sizeof(*event->err));
    *event->err = *err;
}

/* Between two connections commands are still answered. True when the link is being freed. */
static bool wait_backoff(struct session *s)
{
    struct mono_us until = {clock_mono().us + s->backoff_us / 2 +
                            (int64_t)(random_u64() % (uint64_t)(s->backoff_us / 2))};
    bool stopping = false;

    s->backoff_us = s->backoff_us * 2 > BACKOFF_MAX_US ? BACKOFF_MAX_US : s->backoff_us * 2;
    for (;;) {
        int64_t left = until.us - clock_mono().us;

        take_commands(s, &stopping);
        refuse_publishes(s);
        amqp_shared_post(s->shared, &s->events);
        if (stopping || left <= 0)
            return stopping;
        wait_turn(s, (int)(left / US_PER_MS) + 1);
    }
}

void *amqp_thread_main(void *arg)
{
    struct session *s = mem_alloc(sizeof(*s));
    struct amqp_cmd *cmd;
    bool stopping = false;

    s->shared = arg;
    s->backoff_us = BACKOFF_FIRST_US;
    confirm_window_init(&s->confirms);
    while (!stopping) {
        struct err err = {0};
        enum err_code rc = connect_session(s, &err);

        if (rc == ERR_OK)
            rc = run_session(s, &err);
        if (rc == ERR_OK) {
            flush_before_stop(s);
            drop_session(s, true);
            break;
        }
        drop_session(s, false);
        report_down(s, &err);
        stopping = wait_backoff(s);
    }
    amqp_shared_post(s->shared, &s->events);
    while ((cmd = amqp_cmds_pop(&s->topology)) != NULL)
        amqp_cmd_free(cmd);
    confirm_window_deinit(&s->confirms);
    pthread_mutex_lock(&s->shared->lock);
    s->shared->thread_done = true;
    pthread_cond_signal(&s->shared->ended);
    pthread_mutex_unlock(&s->shared->lock);
    amqp_shared_unref(s->shared);
    mem_free(s);
    return NULL;
}
