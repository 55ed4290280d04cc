/* See event_queue.h. A message is in hand until all of its events are taken, or it has become a dead letter; what
 * cannot be done now is tried again each second, and the prefetch bounds how many wait so. */
#include "gateway/incoming/event_queue.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "gateway/document.h"
#include "gateway/incoming/incoming.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define EXCHANGE "ropewalk.events"
#define FIRST "default" /* the organisation whose exchange has no name behind it */
#define QUEUES_MAX 64
#define PREFETCH 64
#define BATCH_MAX 100
#define BELIEVE_US (4 * US_PER_S)
#define AGAIN_MS 1000
#define LETTER_BYTES ((size_t)1 << 20)

struct event_queue {
    struct event_queues *queues;
    char organisation_name[64], name[96];
    struct amqp_consumer *consumer;
    int32_t organisation; /* 0: there is none of that name */
    struct limits limits;
    struct mono_us known_at; /* 0: never */
    bool asking;
    struct message *first, **end; /* to be begun */
};

struct message {
    struct message *next;
    struct event_queue *queue;
    struct amqp_delivery *delivery;
    /* of one try */
    struct arena *arena;
    size_t count, waiting;
    struct incoming *events;
    bool again;
    const char *fault; /* why it can never be taken; NULL: nothing */
};

struct event_queues {
    struct gateway *gw;
    size_t count;
    struct event_queue all[QUEUES_MAX];
    uv_timer_t timer;
    bool stopped;
};

static void run(struct event_queue *queue);

static void put(struct message *message)
{
    struct event_queue *queue = message->queue;

    message->next = NULL;
    *queue->end = message;
    queue->end = &message->next;
}

static void message_free(struct message *message)
{
    if (message->arena != NULL)
        arena_free(message->arena);
    amqp_delivery_free(message->delivery);
    mem_free(message);
}

/* Committed: by us, by whoever took it before, or as a dead letter. */
static void done(struct message *message)
{
    struct amqp_delivery *d = message->delivery;

    FAULT_POINT(gateway_event_acking);
    if (message->queue->consumer != NULL) {
        amqp_ack(d->consumer, d->generation, d->tag);
        amqp_flush(message->queue->queues->gw->consume);
    }
    message_free(message);
}

static void later(struct message *message)
{
    arena_free(message->arena);
    message->arena = NULL;
    put(message); /* the timer comes by */
}

/* --- dead letters */

static void on_letter(void *ctx, const struct pg_outcome *outcome)
{
    struct message *message = ctx;

    if (outcome->rc != ERR_OK) {
        later(message);
        return;
    }
    metric_add(METRIC_DEAD_LETTERS, 1);
    log_event(LOG_WARN, "event.unreadable", log_cstr("queue", message->queue->name), log_cstr("why", message->fault));
    done(message);
}

/* Text of strangers that PostgreSQL keeps as it is, else with ? for each byte that is none. */
static struct str storable(struct str text, size_t max, struct arena *arena)
{
    char *copy;

    if (text.len == 0)
        return STR_NONE;
    text.len = text.len < max ? text.len : max;
    copy = arena_dup(arena, text.ptr, text.len);
    for (size_t i = 0, n; i < text.len; i += n == 0 ? 1 : n) {
        n = utf8_len_at(text.ptr + i, text.len - i);
        if (n == 0 || text.ptr[i] == '\0')
            copy[i] = '?';
    }
    return (struct str){copy, text.len};
}

static void write_letter(struct message *message)
{
    const struct amqp_delivery *d = message->delivery;
    struct event_queue *queue = message->queue;
    struct pg_batch *batch = pg_batch_new(true);
    struct str body = d->body;
    size_t bytes = d->whole_bytes != 0 ? (size_t)d->whole_bytes : body.len;

    if (body.len > LETTER_BYTES)
        body.len = LETTER_BYTES;
    pg_batch_organisation(batch, queue->organisation);
    pg_add(batch, SQL_INCOMING_LETTER, pg_text(str_of(queue->name)),
           pg_text(storable(str_of(message->fault), 1024, message->arena)), pg_bytea(body),
           pg_text(storable(d->message_id, 255, message->arena)),
           pg_i32(bytes > INT32_MAX ? INT32_MAX : (int32_t)bytes), pg_bool(d->redelivered));
    pg_submit(queue->queues->gw->event_writes, batch, on_letter, message);
}

/* --- one try */

static void finish(struct message *message)
{
    if (message->fault != NULL)
        write_letter(message);
    else if (message->again)
        later(message);
    else
        done(message);
}

static void on_taken(struct incoming *in, enum incoming_verdict verdict, const struct err *err)
{
    struct message *message = in->ctx;

    if (verdict == INCOMING_LATER)
        message->again = true;
    else if (verdict == INCOMING_FAILED && err_class_of(err->code) == ERR_CLASS_BUG)
        message->fault = arena_printf(message->arena, "not_stored: %s", err->message);
    else if (verdict == INCOMING_FAILED)
        message->again = true;
    if (--message->waiting == 0)
        finish(message);
}

static void on_fault(void *ctx, const char *code, const char *pointer, const char *why)
{
    struct message *message = ctx;

    if (message->fault == NULL)
        message->fault = arena_printf(message->arena, "%s: %s%s%s", code, pointer, pointer[0] == '\0' ? "" : " ", why);
}

static void read_message(struct message *message)
{
    const struct limits *most = &message->queue->limits;
    struct jt_limits limits = JT_LIMITS_API;
    struct str body = message->delivery->body;
    bool batch;
    struct err err;

    limits.max_bytes = (size_t)most->of[LIMIT_BODY_BYTES];
    limits.max_depth = (unsigned)most->of[LIMIT_JSON_DEPTH];
    if (message->delivery->whole_bytes != 0 || body.len > limits.max_bytes) {
        on_fault(message, "too_large", "", "it has more bytes than the organisation's limit body_bytes");
        return;
    }
    if (jt_check(body, &limits, &err) != ERR_OK) {
        on_fault(message, err.code == ERR_TOO_LARGE ? "too_large" : "not_json", "", err.message);
        return;
    }
    batch = jt_type(body) == JT_ARRAY;
    message->count = batch ? jt_count(body) : 1;
    if (message->count > BATCH_MAX) {
        on_fault(message, "too_large", "", "a batch has at most 100 events");
        return;
    }
    message->events = arena_array(message->arena, message->count + 1, sizeof(*message->events));
    for (size_t i = 0; i < message->count; i++)
        (void)cloudevent_read(batch ? jt_at(body, i) : body, message->arena, on_fault, message,
                              &message->events[i].event);
}

static void begin(struct message *message)
{
    struct event_queue *queue = message->queue;

    message->arena = arena_new(4096);
    message->again = false;
    message->fault = NULL;
    message->count = 0;
    read_message(message);
    message->waiting = 1;
    for (size_t i = 0; i < message->count && message->fault == NULL; i++) {
        struct incoming *in = &message->events[i];

        in->gw = queue->queues->gw;
        in->arena = message->arena;
        in->organisation = queue->organisation;
        in->limits = &queue->limits;
        in->done = on_taken;
        in->ctx = message;
        message->waiting++;
    }
    for (size_t i = 0, n = message->waiting - 1; i < n; i++)
        incoming_take(&message->events[i]);
    if (--message->waiting == 0)
        finish(message);
}

/* --- whose they are */

static void begin_all(struct event_queue *queue)
{
    struct message *first = queue->first;

    queue->first = NULL;
    queue->end = &queue->first;
    while (first != NULL) {
        struct message *next = first->next;

        begin(first);
        first = next;
    }
}

static void on_organisation(void *ctx, const struct pg_outcome *outcome)
{
    struct event_queue *queue = ctx;
    const struct gateway *gw = queue->queues->gw;

    queue->asking = false;
    if (outcome->rc != ERR_OK)
        return; /* the timer comes by */
    queue->organisation = 0;
    if (pg_rows(outcome->results[0]) == 1) {
        queue->organisation = (int32_t)pg_get_int(outcome->results[0], 0, 0);
        limits_of(&gw->config.limits, pg_get_str(outcome->results[0], 0, 1), &queue->limits);
        queue->known_at = clock_mono();
        begin_all(queue);
    } else {
        log_event(LOG_ERROR, "events.no_organisation", log_cstr("organisation", queue->organisation_name));
    }
}

static void run(struct event_queue *queue)
{
    struct pg_batch *batch;

    if (queue->first == NULL || queue->asking)
        return;
    if (queue->organisation != 0 && clock_mono().us - queue->known_at.us < BELIEVE_US) {
        begin_all(queue);
        return;
    }
    queue->asking = true;
    batch = pg_batch_new(false);
    pg_add(batch, SQL_ORGANISATION_FIND, pg_text(str_of(queue->organisation_name)));
    pg_submit(gateway_read(queue->queues->gw), batch, on_organisation, queue);
}

static void on_deliveries(void *ctx, struct amqp_delivery *first)
{
    struct event_queue *queue = ctx;

    while (first != NULL) {
        struct message *message = mem_alloc(sizeof(*message));

        message->queue = queue;
        message->delivery = first;
        first = first->next;
        put(message);
    }
    run(queue);
}

static void on_timer(uv_timer_t *timer)
{
    struct event_queues *queues = timer->data;

    for (size_t i = 0; i < queues->count && !queues->stopped; i++)
        run(&queues->all[i]);
}

/* --- life */

const char *event_queues_check(const char *organisations)
{
    struct str rest = str_of(organisations);
    size_t count = 0;

    while (rest.len > 0) {
        struct str name = str_cut(&rest, ',');

        if (name.len > 0 && (!name_is_valid(name) || ++count > QUEUES_MAX))
            return "not at most 64 names of organisations, with commas between";
    }
    return NULL;
}

static void consume(struct event_queues *queues, struct str name)
{
    struct event_queue *queue = &queues->all[queues->count++];
    struct gateway *gw = queues->gw;
    struct amqp_queue declared = {
        .name = queue->name, .durable = true, .type = gw->config.queue_type, .bind_exchange = queue->name};
    struct amqp_consume options = {
        .queue = queue->name, .prefetch = PREFETCH, .on_deliveries = on_deliveries, .ctx = queue};
    bool first = str_is(name, FIRST);

    queue->queues = queues;
    queue->end = &queue->first;
    snprintf(queue->organisation_name, sizeof(queue->organisation_name), STR_FMT, STR_ARG(name));
    snprintf(queue->name, sizeof(queue->name), EXCHANGE "%s%s", first ? "" : ".",
             first ? "" : queue->organisation_name);
    amqp_declare_fanout(gw->consume, queue->name);
    amqp_declare_queue(gw->consume, &declared);
    queue->consumer = amqp_consume(gw->consume, &options);
}

struct event_queues *event_queues_new(struct gateway *gw)
{
    struct event_queues *queues = mem_alloc(sizeof(*queues));
    struct str rest = str_of(gw->config.event_organisations);

    queues->gw = gw;
    queues->timer.data = queues;
    ENSURE(uv_timer_init(gw->loop, &queues->timer) == 0);
    uv_timer_start(&queues->timer, on_timer, AGAIN_MS, AGAIN_MS);
    while (rest.len > 0) {
        struct str name = str_cut(&rest, ',');

        if (name.len > 0)
            consume(queues, name);
    }
    return queues;
}

void event_queues_stop(struct event_queues *queues)
{
    queues->stopped = true;
    for (size_t i = 0; i < queues->count; i++) {
        amqp_consumer_close(queues->all[i].consumer);
        queues->all[i].consumer = NULL;
    }
}

static void on_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

void event_queues_free(struct event_queues *queues)
{
    if (queues == NULL)
        return;
    for (size_t i = 0; i < queues->count; i++)
        for (struct message *message = queues->all[i].first, *next; message != NULL; message = next) {
            next = message->next;
            message_free(message);
        }
    uv_close((uv_handle_t *)&queues->timer, on_closed);
}
