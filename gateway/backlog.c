/* The line of what waits, as this gateway knows it; see backlog.h and admission.h. */
#include "gateway/backlog.h"
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "gateway/start.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define IDLE_MS 1000
#define PRESSED_MS 200
#define LOADS_MAX 4096
#define AFTER_LANE_S 1

struct backlog {
    struct gateway *gw;
    struct admission *admission;
    uv_timer_t timer;
    bool asking, freed;
    bool refusing_starts;
    size_t refusing_organisations;
};

/* [[organisation, waiting, delay in ms, priority], ...]; what cannot be read is as if it had not been said. */
static size_t read_loads(struct str text, struct admission_load *loads, size_t count)
{
    struct jt_iter rows;

    jt_iter_init(&rows, text);
    while (count < LOADS_MAX && jt_next(&rows)) {
        int64_t values[4];
        size_t n = 0;
        struct jt_iter row;

        jt_iter_init(&row, rows.value);
        while (n < 4 && jt_next(&row) && jt_i64(row.value, &values[n]))
            n++;
        if (n == 4 && values[0] > 0 && values[0] <= INT32_MAX && values[1] >= 0 && values[2] >= 0 && values[3] >= 0 &&
            values[3] < ADMISSION_PRIORITIES)
            loads[count++] = (struct admission_load){.organisation = (int32_t)values[0],
                                                     .priority = (uint8_t)values[3],
                                                     .waiting = values[1],
                                                     .delay_us = values[2] * US_PER_MS};
    }
    return count;
}

/* One line when it begins, and one when it is over. */
static void tell_changes(struct backlog *b, const struct admission_sample *sample)
{
    bool starts;
    size_t organisations = admission_refusing(b->admission, &starts);

    if (starts != b->refusing_starts)
        log_event(LOG_WARN, starts ? "admission.backlog_refused" : "admission.backlog_over",
                  log_i64("starts_waiting", sample->starts_waiting),
                  log_i64("delay_ms", sample->starts_delay_us / US_PER_MS));
    if ((organisations > 0) != (b->refusing_organisations > 0))
        log_event(LOG_WARN, organisations > 0 ? "admission.share_refused" : "admission.share_over",
                  log_i64("organisations", (int64_t)organisations));
    b->refusing_starts = starts;
    b->refusing_organisations = organisations;
}

static void take_in(struct backlog *b, const struct pg_result *rows)
{
    struct admission_load *loads = mem_alloc(LOADS_MAX * sizeof(*loads));
    struct admission_sample sample = {.at = clock_mono(),
                                      .starts_waiting = pg_get_int(rows, 0, 0),
                                      .starts_delay_us = pg_get_int(rows, 0, 1) * US_PER_MS,
                                      .loads = loads};

    for (size_t i = 0; i < pg_rows(rows); i++)
        if (!pg_is_null(rows, i, 2))
            sample.load_count = read_loads(pg_get_str(rows, i, 2), loads, sample.load_count);
    admission_sample(b->admission, &sample);
    metric_set(METRIC_STARTS_WAITING, sample.starts_waiting);
    tell_changes(b, &sample);
    mem_free(loads);
}

static void on_timer(uv_timer_t *timer);

static void again(struct backlog *b)
{
    uv_timer_start(&b->timer, on_timer, admission_is_pressed(b->admission) ? PRESSED_MS : IDLE_MS, 0);
}

static void on_read(void *ctx, const struct pg_outcome *outcome)
{
    struct backlog *b = ctx;

    b->asking = false;
    if (b->freed)
        return;
    if (outcome->rc == ERR_OK && pg_rows(outcome->results[0]) > 0)
        take_in(b, outcome->results[0]);
    again(b);
}

static void on_timer(uv_timer_t *timer)
{
    struct backlog *b = timer->data;
    struct gateway *gw = b->gw;
    struct pg_batch *batch;

    if (!gw->schema_ready || !pg_is_up(gw->writes)) {
        again(b);
        return;
    }
    b->asking = true;
    batch = pg_batch_new(false);
    pg_add(batch, SQL_LOAD_READ, pg_i32((int32_t)gw->config.backlog_max));
    pg_submit(gw->writes, batch, on_read, b);
}

struct backlog *backlog_new(struct gateway *gw)
{
    struct backlog *b = mem_alloc(sizeof(*b));
    const struct admission_limits limits = {.delay_us = gw->config.start_delay_ms * US_PER_MS,
                                            .waiting_min = gw->config.backlog_min,
                                            .waiting_max = gw->config.backlog_max};

    b->gw = gw;
    b->admission = admission_new(&limits);
    b->timer.data = b;
    ENSURE(uv_timer_init(gw->loop, &b->timer) == 0);
    uv_timer_start(&b->timer, on_timer, 0, 0);
    return b;
}

enum admission_verdict backlog_ask(struct backlog *b, int32_t organisation, uint8_t priority, int64_t *ret_after_s)
{
    enum admission_verdict verdict = admission_ask(b->admission, organisation, priority, ret_after_s);

    if (verdict == ADMISSION_TAKEN && !starts_have_room(b->gw->starts)) {
        verdict = ADMISSION_BACKLOG;
        *ret_after_s = AFTER_LANE_S;
    }
    if (verdict == ADMISSION_BACKLOG)
        metric_add(METRIC_STARTS_REFUSED_BACKLOG, 1);
    else if (verdict == ADMISSION_SHARE)
        metric_add(METRIC_STARTS_REFUSED_SHARE, 1);
    return verdict;
}

static void on_closed(uv_handle_t *handle)
{
    struct backlog *b = handle->data;

    admission_free(b->admission);
    mem_free(b);
}

void backlog_free(struct backlog *b)
{
    if (b == NULL)
        return;
    b->freed = true;
    uv_close((uv_handle_t *)&b->timer, on_closed);
}
