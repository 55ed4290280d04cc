/* The counters of this process and how Prometheus reads them (text format 0.0.4). */
#include "common/base/metrics.h"
#include "common/base/ensure.h"
#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>

#include "common/base/banned.h"

/* Upper bounds 2^6 .. 2^26 us, and one bucket for what is longer. */
#define BUCKET_FIRST 6
#define BUCKETS 22

enum metric_type { TYPE_COUNTER, TYPE_GAUGE, TYPE_HISTOGRAM };

static const struct {
    enum metric_type type;
    const char *name;
    const char *help;
} rows[] = {
#define METRIC_COUNTER(id, name, help) [METRIC_##id] = {TYPE_COUNTER, name, help},
#define METRIC_GAUGE(id, name, help) [METRIC_##id] = {TYPE_GAUGE, name, help},
#define METRIC_HISTOGRAM(id, name, help) [METRIC_##id] = {TYPE_HISTOGRAM, name, help},
#include "common/base/metrics.def"
#undef METRIC_COUNTER
#undef METRIC_GAUGE
#undef METRIC_HISTOGRAM
};
static_assert(sizeof(rows) / sizeof(rows[0]) == METRIC_COUNT, "one row per metric");

static struct {
    _Atomic int64_t value; /* of histograms: the sum, in microseconds */
    _Atomic int64_t buckets[BUCKETS];
} states[METRIC_COUNT];

static void add(_Atomic int64_t *to, int64_t n)
{
    atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}

static int64_t load(const _Atomic int64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

void metric_add(enum metric m, int64_t n)
{
    ENSURE((size_t)m < METRIC_COUNT && rows[m].type != TYPE_HISTOGRAM);
    add(&states[m].value, n);
}

void metric_set(enum metric m, int64_t n)
{
    ENSURE((size_t)m < METRIC_COUNT && rows[m].type == TYPE_GAUGE);
    atomic_store_explicit(&states[m].value, n, memory_order_relaxed);
}

void metric_observe_us(enum metric m, int64_t us)
{
    size_t bucket = 0;

    ENSURE((size_t)m < METRIC_COUNT && rows[m].type == TYPE_HISTOGRAM);
    if (us < 0)
        us = 0; /* a clock that went back */
    while (bucket < BUCKETS - 1 && us > INT64_C(1) << (BUCKET_FIRST + bucket))
        bucket++;
    add(&states[m].value, us);
    add(&states[m].buckets[bucket], 1);
}

int64_t metric_get(enum metric m)
{
    ENSURE((size_t)m < METRIC_COUNT && rows[m].type != TYPE_HISTOGRAM);
    return load(&states[m].value);
}

/* name{a="b"} in its parts: `labels` without the braces. */
static struct str split_name(const char *full, struct str *ret_labels)
{
    struct str rest = str_of(full);
    struct str name = str_cut(&rest, '{');

    *ret_labels = rest.len == 0 ? STR("") : (struct str){rest.ptr, rest.len - 1};
    return name;
}

static void write_head(struct buf *out, size_t i)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    struct str labels;
    struct str name = split_name(rows[i].name, &labels);

    /* Rows that differ in labels only stand together and share one head. */
    if (i > 0 && str_eq(name, split_name(rows[i - 1].name, &labels)))
        return;
    buf_printf(out, "# HELP " STR_FMT " %s\n# TYPE " STR_FMT " %s\n", STR_ARG(name), rows[i].help, STR_ARG(name),
               types[rows[i].type]);
}

static void write_seconds(struct buf *out, int64_t us)
{
    buf_printf(out, "%" PRId64 ".%06" PRId64, us / 1000000, us % 1000000);
}

static void write_histogram(struct buf *out, size_t i)
{
    struct str labels;
    struct str name = split_name(rows[i].name, &labels);
    const char *comma = labels.len > 0 ? "," : "";
    const char *open = labels.len > 0 ? "{" : "";
    const char *close = labels.len > 0 ? "}" : "";
    int64_t count = 0;

    for (size_t b = 0; b < BUCKETS; b++) {
        count += load(&states[i].buckets[b]);
        buf_printf(out, STR_FMT "_bucket{" STR_FMT "%sle=\"", STR_ARG(name), STR_ARG(labels), comma);
        if (b == BUCKETS - 1)
            buf_append_str(out, STR("+Inf"));
        else
            write_seconds(out, INT64_C(1) << (BUCKET_FIRST + b));
        buf_printf(out, "\"} %" PRId64 "\n", count);
    }
    buf_printf(out, STR_FMT "_sum%s" STR_FMT "%s ", STR_ARG(name), open, STR_ARG(labels), close);
    write_seconds(out, load(&states[i].value));
    buf_printf(out, "\n" STR_FMT "_count%s" STR_FMT "%s %" PRId64 "\n", STR_ARG(name), open, STR_ARG(labels), close,
               count);
}

void metrics_write(struct buf *out)
{
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        write_head(out, i);
        if (rows[i].type == TYPE_HISTOGRAM)
            write_histogram(out, i);
        else
            buf_printf(out, "%s %" PRId64 "\n", rows[i].name, load(&states[i].value));
    }
}
