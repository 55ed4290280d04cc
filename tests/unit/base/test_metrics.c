/* Counters, gauges, histograms and their text. */
#include "common/base/metrics.h"
#include "tests/unit/base/test.h"
#include <pthread.h>

static void counters_add_and_gauges_are_set(void **state)
{
    (void)state;
    metric_add(METRIC_RUNS_STARTED, 2);
    metric_add(METRIC_RUNS_STARTED, 3);
    assert_int_equal(metric_get(METRIC_RUNS_STARTED), 5);
    metric_set(METRIC_SHARDS_OWNED, 7);
    metric_add(METRIC_SHARDS_OWNED, -1);
    assert_int_equal(metric_get(METRIC_SHARDS_OWNED), 6);
}

static void *count_up(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100000; i++) {
        metric_add(METRIC_HTTP_REQUESTS, 1);
        metric_observe_us(METRIC_HTTP_SECONDS, 1);
    }
    return NULL;
}

static void threads_do_not_lose_counts(void **state)
{
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(metric_get(METRIC_HTTP_REQUESTS), 400000);
}

static void the_text_is_what_prometheus_reads(void **state)
{
    CLEANUP(buf_deinit) struct buf buf;
    static const char *const parts[] = {
        "# HELP ropewalk_runs_started_total runs accepted\n",
        "# TYPE ropewalk_runs_started_total counter\nropewalk_runs_started_total 5\n",
        "# TYPE ropewalk_shards_owned gauge\nropewalk_shards_owned 6\n",
        "# TYPE ropewalk_http_request_seconds histogram\n",
        "ropewalk_http_request_seconds_bucket{le=\"0.000064\"} 400002\n",
        "ropewalk_http_request_seconds_bucket{le=\"0.000128\"} 400003\n",
        "ropewalk_http_request_seconds_bucket{le=\"33.554432\"} 400003\n",
        "ropewalk_http_request_seconds_bucket{le=\"67.108864\"} 400004\n",
        "ropewalk_http_request_seconds_bucket{le=\"+Inf\"} 400005\n",
        "ropewalk_http_request_seconds_sum 134.617858\n",
        "ropewalk_http_request_seconds_count 400005\n",
    };
    const char *at;

    (void)state;
    metric_observe_us(METRIC_HTTP_SECONDS, 64);
    metric_observe_us(METRIC_HTTP_SECONDS, 65);
    metric_observe_us(METRIC_HTTP_SECONDS, 67108864);
    metric_observe_us(METRIC_HTTP_SECONDS, 67108865);
    metric_observe_us(METRIC_HTTP_SECONDS, -5);
    buf_init(&buf, 100000);
    metrics_write(&buf);
    at = buf.ptr;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (strstr(buf.ptr, parts[i]) == NULL)
            fail_msg("missing: %s\n%s", parts[i], at);
    }
    assert_false(buf.overflow);
    assert_int_equal(buf.ptr[buf.len - 1], '\n');
}

RUN(TEST(counters_add_and_gauges_are_set), TEST(threads_do_not_lose_counts), TEST(the_text_is_what_prometheus_reads))
