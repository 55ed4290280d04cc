/* Watching runs: pushed updates first, a query every 2 s as a net under them. */
#include "gateway/live.h"
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/engine/event.h"
#include "gateway/event_json.h"
#include "gateway/live_internal.h"
#include "proto/proto_messages.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define TICK_MS 500
#define NET_US (2 * US_PER_S)
#define ANNOUNCE_US (10 * US_PER_S)
#define PAGE 200
#define EVENT_MAX ((size_t)256 << 10)

static struct watched *find(struct live *live, struct run_id run)
{
    return map_get(live->runs, (struct str){(const char *)run.bytes, sizeof(run.bytes)});
}

size_t live_count(const struct live *live)
{
    return live->watcher_count;
}

static void drop_run(struct live *live, struct watched *watched)
{
    map_del(live->runs, (struct str){(const char *)watched->run.bytes, sizeof(watched->run.bytes)});
    mem_free(watched);
}

/* Takes an unwatched watcher out once nobody is inside it. */
static void release(struct live_watcher *watcher)
{
    struct watched *watched = watcher->watched;

    if (!watcher->gone || watcher->reading || watcher->fresh || watched->walking > 0)
        return;
    for (struct live_watcher **p = &watched->first; *p != NULL; p = &(*p)->next)
        if (*p == watcher) {
            *p = watcher->next;
            break;
        }
    mem_free(watcher);
}

static void release_gone(struct live *live, struct watched *watched)
{
    if (watched->walking > 0)
        return;
    for (struct live_watcher *w = watched->first, *next; w != NULL; w = next) {
        next = w->next;
        release(w);
    }
    if (watched->first == NULL)
        drop_run(live, watched);
}

void live_unwatch(struct live_watcher *watcher)
{
    if (watcher == NULL || watcher->gone)
        return;
    watcher->gone = true;
    watcher->live->watcher_count--;
    release_gone(watcher->live, watcher->watched);
}

static void read_on(struct live_watcher *watcher);

/* Gives one event when it is the next one; a gap is read from the table. */
static void offer(struct live_watcher *watcher, const struct live_event *event)
{
    if (watcher->gone || event->seq <= watcher->last_seq)
        return;
    if (watcher->reading)
        watcher->again = true; /* the page on its way may be older than this event */
    else if (event->seq > watcher->last_seq + 1)
        read_on(watcher);
    if (watcher->reading)
        return;
    watcher->last_seq = event->seq;
    watcher->calls.on_event(watcher->ctx, event);
}

/* Tells the end once everything before it has been given. */
static void settle(struct live_watcher *watcher)
{
    struct watched *watched = watcher->watched;

    if (watcher->gone || !watched->ended || watcher->told_end)
        return;
    if (watcher->calls.on_event != NULL && watcher->reading)
        return; /* the page on its way settles it */
    if (watcher->calls.on_event != NULL && watcher->last_seq < watched->newest) {
        read_on(watcher);
        return;
    }
    watcher->told_end = true;
    watcher->calls.on_end(watcher->ctx, str_of(watched->status));
}

static void on_page(void *ctx, const struct pg_outcome *outcome)
{
    struct live_watcher *watcher = ctx;
    struct watched *watched = watcher->watched;
    size_t rows = outcome->rc == ERR_OK ? pg_rows(outcome->results[0]) : 0;
    CLEANUP(buf_deinit) struct buf json = {0};

    buf_init(&json, EVENT_MAX);
    watcher->reading = false;
    watched->walking++;
    for (size_t i = 0; i < rows && !watcher->gone; i++) {
        const struct pg_result *res = outcome->results[0];
        const char *name = event_type_name((enum event_type)pg_get_int(res, i, 2));
        struct live_event event = {.seq = (uint32_t)pg_get_int(res, i, 0)};

        buf_reset(&json);
        event_json(watched->run, res, i, &json);
        event.type = str_of(name == NULL ? "unknown" : name);
        event.json = buf_str(&json);
        if (event.seq > watched->newest)
            watched->newest = event.seq;
        offer(watcher, &event);
    }
    if (!watcher->gone && outcome->rc == ERR_OK && (rows == PAGE || watcher->again))
        read_on(watcher);
    if (outcome->rc == ERR_OK)
        settle(watcher);
    watched->walking--;
    release_gone(watcher->live, watched);
}

/* Reads what lies behind the last event given. A failure is made good by the net. */
static void read_on(struct live_watcher *watcher)
{
    struct pg_batch *batch;

    if (watcher->gone || watcher->calls.on_event == NULL)
        return;
    watcher->again = watcher->reading;
    if (watcher->reading)
        return;
    watcher->reading = true;
    batch = pg_batch_new(false);
    pg_batch_organisation(batch, watcher->watched->organisation);
    pg_add(batch, SQL_EVENT_PAGE, pg_uuid(watcher->watched->run), pg_i32((int32_t)watcher->last_seq), pg_i32(PAGE));
    pg_submit(gateway_read(watcher->live->gw), batch, on_page, watcher);
}

/* What is known of a run by now. The caller walks. */
static void note_state(struct watched *watched, struct str status, bool ended, uint32_t newest)
{
    if (newest > watched->newest)
        watched->newest = newest;
    if (ended && !watched->ended) {
        watched->ended = true;
        snprintf(watched->status, sizeof(watched->status), STR_FMT, STR_ARG(status));
    }
    for (struct live_watcher *w = watched->first; w != NULL; w = w->next) {
        if (w->calls.on_event != NULL && !w->gone && w->last_seq < watched->newest)
            read_on(w);
        settle(w);
    }
}

static void update_events(struct watched *watched, struct str events)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1024);
    struct jt_iter it;

    jt_iter_init(&it, events);
    while (jt_next(&it)) {
        struct live_event event = {.json = it.value};
        int64_t seq = 0;

        if (!jt_i64(jt_get(it.value, "seq"), &seq) || seq <= 0 ||
            !jt_string(jt_get(it.value, "type"), arena, &event.type))
            continue;
        event.seq = (uint32_t)seq;
        if (event.seq > watched->newest)
            watched->newest = event.seq;
        for (struct live_watcher *w = watched->first; w != NULL; w = w->next)
            if (w->calls.on_event != NULL)
                offer(w, &event);
    }
}

static void update_verdict(struct watched *watched, const struct str *fields, struct arena *arena)
{
    struct str code = STR_NONE, reason = STR_NONE;
    int64_t command = 0;
    bool applied = false;

    if (!jt_i64(fields[UPDATE_COMMAND], &command))
        return;
    (void)jt_bool(fields[UPDATE_APPLIED], &applied);
    (void)jt_string(fields[UPDATE_CODE], arena, &code);
    (void)jt_string(fields[UPDATE_REASON], arena, &reason);
    for (struct live_watcher *w = watched->first; w != NULL; w = w->next)
        if (!w->gone && w->calls.on_verdict != NULL)
            w->calls.on_verdict(w->ctx, command, applied, code, reason);
}

static void on_update(struct live *live, struct str body)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1024);
    struct str fields[UPDATE_FIELDS], text, id = STR_NONE, status = STR_NONE;
    struct watched *watched;
    struct err err = {0};
    struct run_id run;
    int64_t newest = 0;
    bool ended = false;

    if (jt_check_repair(arena, body, &JT_LIMITS_MESSAGE, &text, &err) != ERR_OK ||
        schema_decode(&SCHEMA_UPDATE, text, fields, &err) != ERR_OK) {
        log_event(LOG_WARN, "update.not_understood", log_err(&err));
        return;
    }
    if (!jt_string(fields[UPDATE_RUN_ID], arena, &id) || !run_id_parse(id, &run) || (watched = find(live, run)) == NULL)
        return;
    (void)jt_string(fields[UPDATE_STATUS], arena, &status);
    (void)jt_i64(fields[UPDATE_LAST_SEQ], &newest);
    (void)jt_bool(fields[UPDATE_ENDED], &ended);
    watched->walking++;
    update_events(watched, fields[UPDATE_EVENTS]);
    update_verdict(watched, fields, arena);
    note_state(watched, status, ended, (uint32_t)newest);
    watched->walking--;
    release_gone(live, watched);
}

static void on_deliveries(void *ctx, struct amqp_delivery *first)
{
    for (struct amqp_delivery *d = first, *next; d != NULL; d = next) {
        next = d->next;
        if (str_is(d->type, "update"))
            on_update(ctx, d->body);
        amqp_delivery_free(d);
    }
}

static void announce(struct live *live, struct watched *watched)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    char queue[64], id[UUID_TEXT_SIZE];
    int shard = live->shards[run_id_slot(watched->run)];

    watched->announced_at = clock_mono();
    if (shard < 0)
        return;
    buf_init(&body, 1024);
    run_id_format(watched->run, id);
    buf_printf(&body, "{\"v\":1,\"run_id\":\"%s\",\"reply_to\":\"%s\",\"from_seq\":%u}", id, live->gw->queue,
               watched->newest);
    snprintf(queue, sizeof(queue), "ropewalk.inbox.%d", shard);
    amqp_publish(live->gw->publish,
                 &(struct amqp_message){.exchange = "", .routing_key = queue, .type = "watch", .body = buf_str(&body)});
}

static void first_look(uv_timer_t *timer)
{
    struct live *live = timer->data;
    struct live_watcher *watcher;

    while ((watcher = live->fresh) != NULL) {
        live->fresh = watcher->next_fresh;
        watcher->fresh = false;
        watcher->watched->walking++;
        read_on(watcher);
        settle(watcher);
        watcher->watched->walking--;
        release_gone(live, watcher->watched);
    }
}

struct live_watcher *live_watch(struct live *live, int32_t organisation, struct run_id run, uint32_t after_seq,
                                bool announced, struct str end, const struct live_calls *calls, void *ctx)
{
    struct live_watcher *watcher = mem_alloc(sizeof(*watcher));
    struct watched *watched = find(live, run);

    if (watched == NULL) {
        watched = mem_alloc(sizeof(*watched));
        watched->run = run;
        watched->organisation = organisation;
        map_put(live->runs, (struct str){(const char *)run.bytes, sizeof(run.bytes)}, watched);
        if (announced)
            watched->announced_at = clock_mono();
        else
            announce(live, watched);
        if (!announced && calls->on_event == NULL)
            live->net_at.us = 0; /* it may have ended long ago: look with the next tick */
        amqp_flush(live->gw->publish);
    }
    *watcher = (struct live_watcher){
        .live = live, .watched = watched, .calls = *calls, .ctx = ctx, .last_seq = after_seq, .next = watched->first};
    watched->first = watcher;
    live->watcher_count++;
    if (end.ptr != NULL && !watched->ended) {
        watched->ended = true;
        snprintf(watched->status, sizeof(watched->status), STR_FMT, STR_ARG(end));
    }
    if (!announced) {
        watcher->fresh = true;
        watcher->next_fresh = live->fresh;
        live->fresh = watcher;
        uv_timer_start(&live->look, first_look, 0, 0);
    }
    return watcher;
}

static void on_state(void *ctx, const struct pg_outcome *outcome)
{
    struct live *live = ctx;

    live->asking--;
    if (outcome->rc != ERR_OK)
        return; /* again with the next tick */
    for (size_t k = 0; k < outcome->count; k++)
        for (size_t i = 0; i < pg_rows(outcome->results[k]); i++) {
            const struct pg_result *res = outcome->results[k];
            struct watched *watched = find(live, pg_get_uuid(res, i, 0));
            struct str status = pg_get_str(res, i, 1);
            bool open = str_is(status, "pending") || str_is(status, "active") || str_is(status, "paused");

            if (watched == NULL)
                continue;
            watched->walking++;
            note_state(watched, status, !open, (uint32_t)pg_get_int(res, i, 2));
            watched->walking--;
            release_gone(live, watched);
        }
}

struct org_runs {
    int32_t organisation;
    struct pg_array *ids;
};

/* One statement for each organisation that somebody watches runs of. */
static void cast_net(struct live *live)
{
    struct pg_batch *batch = pg_batch_new(false);
    struct org_runs *orgs = NULL;
    size_t count = 0, pos = 0;
    struct str key;
    void *value;

    while (map_next(live->runs, &pos, &key, &value)) {
        struct watched *watched = value;
        size_t k = 0;

        while (k < count && orgs[k].organisation != watched->organisation)
            k++;
        if (k == count) {
            orgs = mem_grow(orgs, count + 1, sizeof(*orgs));
            orgs[count++] = (struct org_runs){watched->organisation, pg_array_new(batch, PG_E_UUID)};
        }
        pg_array_add(orgs[k].ids, pg_uuid(watched->run));
    }
    for (size_t k = 0; k < count; k++) {
        pg_batch_organisation(batch, orgs[k].organisation);
        pg_add(batch, SQL_LIVE_STATE, pg_array_param(orgs[k].ids));
    }
    mem_free(orgs);
    live->asking++;
    pg_submit(gateway_read(live->gw), batch, on_state, live);
}

static void on_slots(void *ctx, const struct pg_outcome *outcome)
{
    struct live *live = ctx;

    live->asking_slots = false;
    if (outcome->rc != ERR_OK)
        return;
    for (size_t i = 0; i < pg_rows(outcome->results[0]); i++) {
        int64_t slot = pg_get_int(outcome->results[0], i, 0);

        if (slot >= 0 && slot < SLOT_COUNT)
            live->shards[slot] = (int16_t)pg_get_int(outcome->results[0], i, 1);
    }
    live->slots_at = clock_mono();
}

static void read_slots(struct live *live)
{
    struct pg_batch *batch = pg_batch_new(false);

    live->asking_slots = true;
    pg_batch_add0(batch, SQL_SLOT_LIST);
    pg_submit(gateway_read(live->gw), batch, on_slots, live);
}

static void on_tick(uv_timer_t *timer)
{
    struct live *live = timer->data;
    struct mono_us now = clock_mono();
    struct str key;
    size_t pos = 0;
    void *value;

    if (!live->asking_slots && (live->slots_at.us == 0 || now.us - live->slots_at.us > 60 * US_PER_S))
        read_slots(live);
    while (map_next(live->runs, &pos, &key, &value)) {
        struct watched *watched = value;

        if (now.us - watched->announced_at.us > ANNOUNCE_US)
            announce(live, watched);
    }
    amqp_flush(live->gw->publish);
    if (now.us - live->net_at.us >= NET_US && live->asking == 0 && map_len(live->runs) > 0) {
        live->net_at = now;
        cast_net(live);
    }
}

struct live *live_new(struct gateway *gw)
{
    struct live *live = mem_alloc(sizeof(*live));

    live->gw = gw;
    live->runs = map_new();
    memset(live->shards, 0xff, sizeof(live->shards));
    live->tick.data = live->look.data = live;
    ENSURE(uv_timer_init(gw->loop, &live->tick) == 0 && uv_timer_init(gw->loop, &live->look) == 0);
    live->timers = 2;
    uv_timer_start(&live->tick, on_tick, 0, TICK_MS);
    return live;
}

void live_start(struct live *live)
{
    const struct amqp_queue queue = {.name = live->gw->queue, .exclusive = true, .auto_delete = true};
    const struct amqp_consume consume = {
        .queue = live->gw->queue, .no_ack = true, .on_deliveries = on_deliveries, .ctx = live};

    amqp_declare_queue(live->gw->consume, &queue);
    (void)amqp_consume(live->gw->consume, &consume);
}

static void on_closed(uv_handle_t *handle)
{
    struct live *live = handle->data;

    if (--live->timers == 0)
        mem_free(live);
}

void live_free(struct live *live)
{
    struct str key;
    size_t pos = 0;
    void *value;

    if (live == NULL)
        return;
    while (map_next(live->runs, &pos, &key, &value)) {
        struct watched *watched = value;

        for (struct live_watcher *w = watched->first, *next; w != NULL; w = next) {
            next = w->next;
            mem_free(w);
        }
        mem_free(watched);
    }
    map_free(live->runs);
    uv_close((uv_handle_t *)&live->tick, on_closed);
    uv_close((uv_handle_t *)&live->look, on_closed);
}
