/* The session of a broker link: declares, consumes, publishes, and does all of it again on the next connection. See
 * amqp.h for what it promises, amqp_wire.h for the connection, amqp_internal.h for who calls.
 *
 * Channel 1 carries confirmed messages, 2 transient ones, 3 topology, 4 depth questions, 5.. one consumer each. A
 * failed declaration is a failed connection (the next attempt says it again); any other channel that the broker closes
 * is opened again by itself. While there is no connection, messages are answered AMQP_UNKNOWN at once and nothing is
 * kept: what must not be lost stands in PostgreSQL or is still unacknowledged. */
#include "common/base/ensure.h"
#include "common/base/metrics.h"
#include "common/io/amqp_internal.h"
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "common/base/banned.h"

enum { CHANNEL_CONFIRMED = 1, CHANNEL_TRANSIENT, CHANNEL_TOPOLOGY, CHANNEL_DEPTH, CHANNEL_FIRST_CONSUMER };

#define BACKOFF_FIRST_US (50 * US_PER_MS)
#define SETUP_TIMEOUT_US (10 * US_PER_S)
#define CONSUMER_RETRY_US (1 * US_PER_S)
#define OUT_ENOUGH ((size_t)1 << 20) /* bytes handed to the socket at a time; the rest stays queued */
#define FRAMES_PER_TURN 1024
/* Of bodies: whatever else waits has its turn between the parts of a large one. */
#define BYTES_PER_TURN ((size_t)1 << 20)
#define LAST_WORDS_US (400 * US_PER_MS)

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

void amqp_session_refuse(struct session *s)
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
    if (cmd->kind == CMD_EXCHANGE) {
        wire_put_exchange(s->wire, CHANNEL_TOPOLOGY, cmd->queue.name, cmd->queue.type);
        return;
    }
    wire_put_queue(s->wire, CHANNEL_TOPOLOGY, &cmd->queue, false);
    if (cmd->queue.bind_exchange == NULL)
        return;
    /* The exchange may be declared by nobody else yet, and a binding to nothing would close the channel. */
    s->declares_pending += 2;
    wire_put_exchange(s->wire, CHANNEL_TOPOLOGY, cmd->queue.bind_exchange, "fanout");
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
    for (struct amqp_consumer **at = &s->consumers; *at != NULL; at = &(*at)->session_next) {
        if (*at == consumer) {
            *at = consumer->session_next;
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
    for (struct amqp_consumer *c = s->consumers; c != NULL; c = c->session_next) {
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
    for (struct amqp_consumer *c = s->consumers; c != NULL; c = c->session_next) {
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
    case CMD_EXCHANGE:
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
        cmd->consumer->session_next = s->consumers;
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

void amqp_session_commands(struct session *s, struct amqp_cmds *cmds)
{
    struct amqp_cmd *cmd;

    while ((cmd = amqp_cmds_pop(cmds)) != NULL)
        control_cmd(s, cmd);
    flush_acks(s);
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

enum err_code amqp_session_read(struct session *s, struct err *err)
{
    struct wire_event event;
    enum err_code rc;
    size_t bytes = 0;

    s->more_to_read = true;
    for (unsigned i = 0; i < FRAMES_PER_TURN && bytes < BYTES_PER_TURN; i++) {
        rc = wire_read(s->wire, &event, err);
        if (rc != ERR_OK)
            return rc;
        bytes += event.bytes;
        if (event.kind == WIRE_NOTHING) {
            s->more_to_read = false;
            break;
        }
        rc = on_event(s, &event, err);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

/* --- the life of a session --- */

struct session *amqp_session_new(struct amqp_shared *shared)
{
    struct session *s = mem_alloc(sizeof(*s));

    s->shared = shared;
    s->backoff_us = BACKOFF_FIRST_US;
    confirm_window_init(&s->confirms);
    return s;
}

void amqp_session_free(struct session *s)
{
    struct amqp_cmd *cmd;

    while ((cmd = amqp_cmds_pop(&s->topology)) != NULL)
        amqp_cmd_free(cmd);
    confirm_window_deinit(&s->confirms);
    mem_free(s);
}

void amqp_session_begin(struct session *s)
{
    wire_put_channel_open(s->wire, CHANNEL_CONFIRMED);
    wire_put_confirm_select(s->wire, CHANNEL_CONFIRMED);
    wire_put_channel_open(s->wire, CHANNEL_TRANSIENT);
    wire_put_channel_open(s->wire, CHANNEL_TOPOLOGY);
    put_topology(s);
}

enum err_code amqp_session_push(struct session *s, struct err *err)
{
    proceed(s);
    put_publishes(s);
    put_depth(s);
    return wire_write(s->wire, err);
}

bool amqp_session_has_more(const struct session *s)
{
    if (s->more_to_read)
        return true;
    return s->publishes.head != NULL && s->ready && !s->blocked && s->declares_pending == 0 &&
           wire_pending(s->wire) < OUT_ENOUGH;
}

enum err_code amqp_session_tick(struct session *s, struct err *err)
{
    enum err_code rc;

    if (clock_mono().us < s->next_tick.us)
        return ERR_OK;
    s->next_tick.us = clock_mono().us + AMQP_TICK_MS * US_PER_MS;
    rc = amqp_session_read(s, err); /* over TLS the library beats only when asked to read */
    if (rc == ERR_OK)
        rc = wire_tick(s->wire, err);
    if (rc == ERR_OK && (!s->ready || s->declares_pending > 0) && clock_mono().us > s->setup_until.us)
        rc = err_set(err, ERR_TIMEOUT, "the broker did not answer declarations in time");
    return rc;
}

void amqp_session_drop(struct session *s, bool polite)
{
    wire_close(s->wire, polite);
    s->wire = NULL;
    for (struct amqp_consumer *c = s->consumers; c != NULL; c = c->session_next) {
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
    s->selected = s->ready = s->blocked = s->depth_open = s->depth_asked = s->more_to_read = false;
    amqp_session_refuse(s);
}

void amqp_session_down(struct session *s, const struct err *err)
{
    struct amqp_event *event;

    if (s->told_down)
        return;
    s->told_down = true;
    event = event_new(s, EV_DOWN);
    event->err = mem_alloc(sizeof(*event->err));
    *event->err = *err;
}

bool amqp_session_wait(struct session *s, int timeout_ms)
{
    struct pollfd fds[2] = {{.fd = s->shared->wake_fd, .events = POLLIN}, {.fd = -1}};
    uint64_t drain;

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

void amqp_session_last_words(struct session *s)
{
    struct mono_us until = {clock_mono().us + LAST_WORDS_US};
    struct err err;

    while (clock_mono().us < until.us) {
        if (s->blocked || amqp_session_push(s, &err) != ERR_OK)
            return;
        if (wire_pending(s->wire) == 0 && s->publishes.head == NULL && s->confirms.base == s->confirms.next)
            return;
        if (amqp_session_wait(s, 20) && amqp_session_read(s, &err) != ERR_OK)
            return;
    }
}
