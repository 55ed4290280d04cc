/* See exchange.h. A message is in hand until all of its events are taken, or it has become a dead letter; what cannot
 * be done now is tried again each second, and the prefetch bounds how many wait so. */
#include "gateway/incoming/exchange.h"
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
#define EXCHANGES_MAX 64
#define PREFETCH 64
#define BATCH_MAX 100
#define BELIEVE_US (4 * US_PER_S)
#define AGAIN_MS 1000
#define LETTER_BYTES ((size_t)1 << 20)

struct intake {
    struct exchanges *exchanges;
    char organisation_name[64], queue[96];
    struct amqp_consumer *consumer;
    int32_t organisation; /* 0: there is none of that name */
    struct limits limits;
    struct mono_us known_at; /* 0: never */
    bool asking;
    struct message *first, **end; /* to be begun */
};

struct message {
    struct message *next;
    struct intake *intake;
    struct amqp_delivery *delivery;
    /* of one try */
    struct arena *arena;
    size_t count, waiting;
    struct incoming *events;
    bool again;
    const char *fault; /* why it can never be taken; NULL: nothing */
};

struct exchanges {
    struct gateway *gw;
    size_t count;
    struct intake intakes[EXCHANGES_MAX];
    uv_timer_t timer;
    bool stopped;
};

static void run(struct intake *intake);

static void put(struct message *message)
{
    struct intake *intake = message->intake;

    message->next = NULL;
    *intake->end = message;
    intake->end = &message->next;
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
    if (message->intake->consumer != NULL) {
        amqp_ack(d->consumer, d->generation, d->tag);
        amqp_flush(message->intake->exchanges->gw->consume);
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
    log_event(LOG_WARN, "event.unreadable", log_cstr("queue", message->intake->queue), log_cstr("why", message->fault));
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
    struct intake *intake = message->intake;
    struct pg_batch *batch = pg_batch_new(true);
    struct str body = d->body;
    size_t bytes = d->whole_bytes != 0 ? (size_t)d->whole_bytes : body.len;

    if (body.len > LETTER_BYTES)
        body.len = LETTER_BYTES;
    pg_batch_organisation(batch, intake->organisation);
    pg_add(batch, SQL_INCOMING_LETTER, pg_text(str_of(intake->queue)),
           pg_text(storable(str_of(message->fault), 1024, message->arena)), pg_bytea(body),
           pg_text(storable(d->message_id, 255, message->arena)),
           pg_i32(bytes > INT32_MAX ? INT32_MAX : (int32_t)bytes), pg_bool(d->redelivered));
    pg_submit(intake->exchanges->gw->event_writes, batch, on_letter, message);
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
    const struct limits *most = &message->intake->limits;
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
    struct intake *intake = message->intake;

    message->arena = arena_new(4096);
    message->again = false;
    message->fault = NULL;
    message->count = 0;
    read_message(message);
    message->waiting = 1;
    for (size_t i = 0; i < message->count && message->fault == NULL; i++) {
        struct incoming *in = &message->events[i];

        in->gw = intake->exchanges->gw;
        in->arena = message->arena;
        in->organisation = intake->organisation;
        in->limits = &intake->limits;
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

static void begin_all(struct intake *intake)
{
    struct message *first = intake->first;

    intake->first = NULL;
    intake->end = &intake->first;
    while (first != NULL) {
        struct message *next = first->next;

        begin(first);
        first = next;
    }
}

static void on_organisation(void *ctx, const struct pg_outcome *outcome)
{
    struct intake *intake = ctx;
    const struct gateway *gw = intake->exchanges->gw;

    intake->asking = false;
    if (outcome->rc != ERR_OK)
        return; /* the timer comes by */
    intake->organisation = 0;
    if (pg_rows(outcome->results[0]) == 1) {
        intake->organisation = (int32_t)pg_get_int(outcome->results[0], 0, 0);
        limits_of(&gw->config.limits, pg_get_str(outcome->results[0], 0, 1), &intake->limits);
        intake->known_at = clock_mono();
        begin_all(intake);
    } else {
        log_event(LOG_ERROR, "events.no_organisation", log_cstr("organisation", intake->organisation_name));
    }
}

static void run(struct intake *intake)
{
    struct pg_batch *batch;

    if (intake->first == NULL || intake->asking)
        return;
    if (intake->organisation != 0 && clock_mono().us - intake->known_at.us < BELIEVE_US) {
        begin_all(intake);
        return;
    }
    intake->asking = true;
    batch = pg_batch_new(false);
    pg_add(batch, SQL_ORGANISATION_FIND, pg_text(str_of(intake->organisation_name)));
    pg_submit(gateway_read(intake->exchanges->gw), batch, on_organisation, intake);
}

static void on_deliveries(void *ctx, struct amqp_delivery *first)
{
    struct intake *intake = ctx;

    while (first != NULL) {
        struct message *message = mem_alloc(sizeof(*message));

        message->intake = intake;
        message->delivery = first;
        first = first->next;
        put(message);
    }
    run(intake);
}

static void on_timer(uv_timer_t *timer)
{
    struct exchanges *exchanges = timer->data;

    for (size_t i = 0; i < exchanges->count && !exchanges->stopped; i++)
        run(&exchanges->intakes[i]);
}

/* --- life */

const char *exchanges_check(const char *organisations)
{
    struct str rest = str_of(organisations);
    size_t count = 0;

    while (rest.len > 0) {
        struct str name = str_cut(&rest, ',');

        if (name.len > 0 && (!name_is_valid(name) || ++count > EXCHANGES_MAX))
            return "not at most 64 names of organisations, with commas between";
    }
    return NULL;
}

static void consume(struct exchanges *exchanges, struct str name)
{
    struct intake *intake = &exchanges->intakes[exchanges->count++];
    struct gateway *gw = exchanges->gw;
    struct amqp_queue queue = {
        .name = intake->queue, .durable = true, .type = gw->config.queue_type, .bind_exchange = intake->queue};
    struct amqp_consume options = {
        .queue = intake->queue, .prefetch = PREFETCH, .on_deliveries = on_deliveries, .ctx = intake};
    bool first = str_is(name, FIRST);

    intake->exchanges = exchanges;
    intake->end = &intake->first;
    snprintf(intake->organisation_name, sizeof(intake->organisation_name), STR_FMT, STR_ARG(name));
    snprintf(intake->queue, sizeof(intake->queue), EXCHANGE "%s%s", first ? "" : ".",
             first ? "" : intake->organisation_name);
    amqp_declare_fanout(gw->consume, intake->queue);
    amqp_declare_queue(gw->consume, &queue);
    intake->consumer = amqp_consume(gw->consume, &options);
}

struct exchanges *exchanges_new(struct gateway *gw)
{
    struct exchanges *exchanges = mem_alloc(sizeof(*exchanges));
    struct str rest = str_of(gw->config.event_organisations);

    exchanges->gw = gw;
    exchanges->timer.data = exchanges;
    ENSURE(uv_timer_init(gw->loop, &exchanges->timer) == 0);
    uv_timer_start(&exchanges->timer, on_timer, AGAIN_MS, AGAIN_MS);
    while (rest.len > 0) {
        struct str name = str_cut(&rest, ',');

        if (name.len > 0)
            consume(exchanges, name);
    }
    return exchanges;
}

void exchanges_stop(struct exchanges *exchanges)
{
    exchanges->stopped = true;
    for (size_t i = 0; i < exchanges->count; i++) {
        amqp_consumer_close(exchanges->intakes[i].consumer);
        exchanges->intakes[i].consumer = NULL;
    }
}

static void on_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

void exchanges_free(struct exchanges *exchanges)
{
    if (exchanges == NULL)
        return;
    for (size_t i = 0; i < exchanges->count; i++)
        for (struct message *message = exchanges->intakes[i].first, *next; message != NULL; message = next) {
            next = message->next;
            message_free(message);
        }
    uv_close((uv_handle_t *)&exchanges->timer, on_closed);
}
