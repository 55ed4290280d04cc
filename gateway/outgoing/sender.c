/* Webhooks: taken when they are due, signed, sent, and what came of it written down. See sender.h; the exchange is
 * exchange.c. */
#include "gateway/outgoing/sender.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/webhook/resend.h"
#include "gateway/outgoing/endpoint.h"
#include "gateway/outgoing/exchange.h"
#include "gateway/outgoing/post.h"
#include "gateway/secrets.h"
#include "rw_gateway_sql.h"
#include <openssl/crypto.h>

#include "common/base/banned.h"

#define LOOK_SOON_MS 20    /* when one has ended: its endpoint has room for another */
#define HOLD_SLACK_MS 5000 /* beyond the timeout: to write down what came of it */
#define EACH 8             /* of one endpoint on their way, from all gateways */
#define EACH_FAILING 2     /* of one whose last attempt failed */
#define IN_HAND_MAX 256
#define FAILING_MAX 64 /* of those in hand */
#define SECRET_FAULT "the endpoint's secret cannot be opened: see the gateway's log"

/* One in hand. */
struct sending {
    struct sending *next, *prev;
    struct sender *sender;
    struct arena *arena; /* owns this struct too */
    int32_t organisation, attempt;
    unsigned tries;
    struct run_id endpoint;
    bool failing, writing; /* writing: it has ended, and that is being written down */
    struct str organisation_name;
    char *url, *event;
    struct str body;
    size_t secret_count, opened;
    int32_t numbers[POST_SECRETS_MAX];
    struct buf secrets[POST_SECRETS_MAX];
    struct post *post; /* NULL: not on its way */
};

struct sender {
    struct gateway *gw;
    struct transfers *transfers;
    struct exchange *exchange;
    uv_timer_t timer;
    struct sending *first;
    size_t in_hand, failing;
    bool taking, soon;                /* soon: there may be more at once */
    struct mono_us look_at, found_at; /* found_at: when something was last there */
    void (*done)(void *ctx);          /* of stopping; NULL: it goes on */
    void *ctx;
};

static void on_timer(uv_timer_t *timer);

static void look_in(struct sender *sender, uint64_t ms)
{
    ENSURE(uv_timer_start(&sender->timer, on_timer, ms, 0) == 0);
}

/* ---- the end of one ---- */

static void forget(struct sending *s)
{
    struct sender *sender = s->sender;

    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        sender->first = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    sender->in_hand--;
    sender->failing -= s->failing;
    for (size_t i = 0; i < s->secret_count; i++)
        seal_wipe(&s->secrets[i]);
    arena_free(s->arena);
    sender->soon = true;
    metric_set(METRIC_OUTGOING_IN_HAND, (int64_t)sender->in_hand);
    if (!sender->taking)
        look_in(sender, sender->done != NULL ? 0 : LOOK_SOON_MS);
}

/* What was not written down is sent again when nobody holds the row any more. */
static void on_written(void *ctx, const struct pg_outcome *outcome)
{
    struct sending *s = ctx;

    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "outgoing.not_noted", log_cstr("event_id", s->event), log_err(outcome->err));
    else
        FAULT_POINT(gateway_outgoing_noted);
    forget(s);
}

static void count(enum resend verdict)
{
    static const enum metric metrics[] = {[RESEND_DELIVERED] = METRIC_OUTGOING_DELIVERED,
                                          [RESEND_AGAIN] = METRIC_OUTGOING_RETRIED,
                                          [RESEND_GIVEN_UP] = METRIC_OUTGOING_GIVEN_UP,
                                          [RESEND_GONE] = METRIC_OUTGOING_GONE};

    metric_add(metrics[verdict], 1);
}

static void write_down(struct sending *s, const struct post_outcome *outcome)
{
    static const char *const statuses[] = {[RESEND_DELIVERED] = "delivered",
                                           [RESEND_AGAIN] = "pending",
                                           [RESEND_GIVEN_UP] = "failed",
                                           [RESEND_GONE] = "failed"};
    struct pg_batch *batch = pg_batch_new(true);
    int64_t delay_ms = 0;
    enum resend verdict = resend_decide(&(struct resend_answer){outcome->status, outcome->retry_after_ms}, s->tries,
                                        random_u64(), &delay_ms);

    s->writing = true;
    count(verdict);
    pg_batch_organisation(batch, s->organisation);
    pg_add(batch, SQL_OUTGOING_NOTE, pg_uuid(s->endpoint), pg_text(str_of(s->event)), pg_i32(s->attempt),
           pg_text(str_of(statuses[verdict])), pg_i64(delay_ms),
           pg_i32(outcome->took_us > INT32_MAX ? INT32_MAX : (int32_t)outcome->took_us),
           outcome->status == 0 ? pg_null() : pg_i16((int16_t)outcome->status), pg_text(outcome->error),
           pg_text(outcome->answer), pg_text(str_of(s->sender->gw->config.name)));
    pg_add(batch, SQL_ENDPOINT_FAILS, pg_uuid(s->endpoint), pg_bool(verdict != RESEND_DELIVERED),
           pg_bool(verdict == RESEND_GONE));
    pg_submit(s->sender->gw->writes, batch, on_written, s);
    if (verdict == RESEND_GONE)
        log_event(LOG_WARN, "outgoing.endpoint_gone", log_str("organisation", s->organisation_name),
                  log_cstr("url", s->url));
}

/* It is as if it had not been taken: whoever looks next has it. */
static void give_back(struct sending *s)
{
    struct pg_batch *batch = pg_batch_new(true);

    s->writing = true;
    pg_batch_organisation(batch, s->organisation);
    pg_add(batch, SQL_OUTGOING_GIVE_BACK, pg_uuid(s->endpoint), pg_text(str_of(s->event)), pg_i32(s->attempt));
    pg_submit(s->sender->gw->writes, batch, on_written, s);
}

static void on_posted(void *ctx, const struct post_outcome *outcome)
{
    struct sending *s = ctx;

    s->post = NULL;
    if (outcome->aborted) {
        give_back(s);
        return;
    }
    FAULT_POINT(gateway_outgoing_answered);
    metric_observe_us(METRIC_OUTGOING_SECONDS, outcome->took_us);
    write_down(s, outcome);
}

/* ---- on its way ---- */

static void cannot_sign(struct sending *s)
{
    write_down(s, &(struct post_outcome){.retry_after_ms = -1, .error = STR(SECRET_FAULT)});
}

static void post_it(struct sending *s)
{
    struct sender *sender = s->sender;
    struct str secrets[POST_SECRETS_MAX];

    if (sender->done != NULL) {
        give_back(s);
        return;
    }
    for (size_t i = 0; i < s->secret_count; i++)
        secrets[i] = buf_str(&s->secrets[i]);
    s->post = post_new(sender->transfers,
                       &(struct post_request){.url = s->url,
                                              .id = s->event,
                                              .body = s->body,
                                              .secrets = secrets,
                                              .secret_count = s->secret_count,
                                              .now = db_clock_now(&sender->gw->clock),
                                              .timeout_ms = (long)sender->gw->config.webhook_timeout_ms},
                       on_posted, s);
    if (s->post == NULL)
        cannot_sign(s);
}

static void open_next(struct sending *s);

static void on_secret(void *ctx, enum err_code rc, struct str value, const struct err *err)
{
    struct sending *s = ctx;

    if (rc == ERR_OK) {
        buf_append_str(&s->secrets[s->opened++], value);
        open_next(s);
        return;
    }
    log_event(LOG_ERROR, "outgoing.secret_not_opened", log_str("organisation", s->organisation_name), log_err(err));
    if (rc == ERR_UNAVAILABLE || rc == ERR_BUSY)
        give_back(s);
    else
        cannot_sign(s);
}

static void open_next(struct sending *s)
{
    char name[ENDPOINT_SECRET_NAME_SIZE];

    if (s->opened == s->secret_count) {
        post_it(s);
        return;
    }
    endpoint_secret_name(s->endpoint, s->numbers[s->opened], name);
    secret_open(s->sender->gw->secrets, s->organisation, s->organisation_name, str_of(name), on_secret, s);
}

/* ---- taking ---- */

/* Columns: sql/outgoing_take.sql */
static struct sending *sending_new(struct sender *sender, const struct pg_result *rows, size_t row)
{
    struct arena *arena = arena_new(2048);
    struct sending *s = arena_alloc(arena, sizeof(*s));
    struct str url = pg_get_str(rows, row, 3), event = pg_get_str(rows, row, 7);

    s->sender = sender;
    s->arena = arena;
    s->organisation = (int32_t)pg_get_int(rows, row, 0);
    s->organisation_name = str_arena(arena, pg_get_str(rows, row, 1));
    s->endpoint = pg_get_uuid(rows, row, 2);
    s->url = arena_dup(arena, url.ptr, url.len);
    s->numbers[s->secret_count++] = (int32_t)pg_get_int(rows, row, 4);
    if (!pg_is_null(rows, row, 5))
        s->numbers[s->secret_count++] = (int32_t)pg_get_int(rows, row, 5);
    s->failing = pg_get_bool(rows, row, 6);
    s->event = arena_dup(arena, event.ptr, event.len);
    s->body = str_arena(arena, pg_get_str(rows, row, 9));
    s->attempt = (int32_t)pg_get_int(rows, row, 10);
    s->tries = (unsigned)pg_get_int(rows, row, 11);
    for (size_t i = 0; i < s->secret_count; i++)
        buf_init(&s->secrets[i], SECRET_VALUE_MAX);
    s->next = sender->first;
    if (s->next != NULL)
        s->next->prev = s;
    sender->first = s;
    sender->in_hand++;
    sender->failing += s->failing;
    return s;
}

static void on_taken(void *ctx, const struct pg_outcome *outcome)
{
    struct sender *sender = ctx;
    size_t rows = outcome->rc == ERR_OK ? pg_rows(outcome->results[0]) : 0;

    sender->taking = false;
    if (rows > 0) {
        sender->found_at = clock_mono();
        FAULT_POINT(gateway_outgoing_taken);
    }
    sender->look_at.us = clock_mono().us + (int64_t)sender_look_ms(sender->found_at) * US_PER_MS;
    for (size_t i = 0; i < rows; i++)
        open_next(sending_new(sender, outcome->results[0], i));
    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "outgoing.take_failed", log_err(outcome->err));
    metric_set(METRIC_OUTGOING_IN_HAND, (int64_t)sender->in_hand);
    look_in(sender, sender->done != NULL       ? 0
                    : sender->soon || rows > 0 ? LOOK_SOON_MS
                                               : sender_look_ms(sender->found_at));
}

static void take(struct sender *sender)
{
    struct pg_batch *batch = pg_batch_new(false);
    size_t failing = sender->failing < FAILING_MAX ? FAILING_MAX - sender->failing : 0;

    sender->taking = true;
    sender->soon = false;
    pg_add(batch, SQL_OUTGOING_TAKE, pg_text(STR("webhook")), pg_i32(EACH), pg_i32(EACH_FAILING),
           pg_i32((int32_t)(IN_HAND_MAX - sender->in_hand)), pg_i32((int32_t)failing),
           pg_i32((int32_t)sender->gw->config.webhook_timeout_ms + HOLD_SLACK_MS));
    pg_submit(sender->gw->writes, batch, on_taken, sender);
}

static void on_turned(void *ctx, struct transfers *transfers)
{
    (void)ctx, (void)transfers;
    FAULT_POINT_IF(gateway_outgoing_sent, transfers_wait_for_answer(transfers));
}

static void on_exchange_stopped(void *ctx)
{
    struct sender *sender = ctx;

    sender->done(sender->ctx);
}

static void on_timer(uv_timer_t *timer)
{
    struct sender *sender = timer->data;

    if (sender->taking)
        return;
    if (sender->done != NULL) {
        for (struct sending *s = sender->first, *next; s != NULL; s = next) {
            next = s->next;
            if (s->post != NULL)
                post_abort(s->post);
        }
        if (sender->in_hand == 0)
            exchange_stop(sender->exchange, on_exchange_stopped, sender);
        return;
    }
    if (sender->in_hand < IN_HAND_MAX && sender->gw->schema_ready && pg_is_up(sender->gw->writes) &&
        (sender->soon || clock_mono().us >= sender->look_at.us))
        take(sender);
    else
        look_in(sender, sender_look_ms(sender->found_at));
}

/* ---- life ---- */

struct sender *sender_new(struct gateway *gw, const struct egress *egress)
{
    struct sender *sender = mem_alloc(sizeof(*sender));

    sender->gw = gw;
    sender->transfers = transfers_new(&(struct transfers_options){
        .loop = gw->loop, .egress = egress, .ca_file = gw->config.ca_file, .turned = on_turned});
    sender->exchange = exchange_new(gw);
    sender->timer.data = sender;
    ENSURE(uv_timer_init(gw->loop, &sender->timer) == 0);
    look_in(sender, SENDER_LOOK_MS);
    return sender;
}

void sender_wake(struct sender *sender)
{
    sender->soon = true;
    sender->found_at = clock_mono();
    if (!sender->taking)
        look_in(sender, 0);
}

void sender_stop(struct sender *sender, void (*done)(void *ctx), void *ctx)
{
    sender->done = done;
    sender->ctx = ctx;
    if (!sender->taking)
        look_in(sender, 0);
}

static void on_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

void sender_free(struct sender *sender)
{
    if (sender == NULL)
        return;
    transfers_free(sender->transfers);
    exchange_free(sender->exchange);
    uv_close((uv_handle_t *)&sender->timer, on_closed);
}
