/* Counters, gauges and histograms, listed in common/base/metrics.def, in the Prometheus text format. Updates are
 * relaxed atomics and may come from any thread. */
#pragma once
#include "common/base/str.h"

enum metric {
#define METRIC_COUNTER(id, name, help) METRIC_##id,
#define METRIC_GAUGE(id, name, help) METRIC_##id,
#define METRIC_HISTOGRAM(id, name, help) METRIC_##id,
#include "common/base/metrics.def"
#undef METRIC_COUNTER
#undef METRIC_GAUGE
#undef METRIC_HISTOGRAM
    METRIC_COUNT,
};

void metric_add(enum metric m, int64_t n);
void metric_set(enum metric m, int64_t n);         /* gauges */
void metric_observe_us(enum metric m, int64_t us); /* histograms: log2 buckets from 64 us to 67 s, in seconds */
int64_t metric_get(enum metric m);                 /* counters and gauges */
/* All metrics of this process. A name in the .def may carry labels: name{label="x"}. */
void metrics_write(struct buf *out);
