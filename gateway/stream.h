/* Live streams of a run's events as server-sent events. */
#pragma once
#include "gateway/call.h"

/* Answers with the stream: events behind Last-Event-ID (or all), then what comes, then `end`. */
void stream_begin(struct call *call, struct run_id run, uint32_t after_seq, struct str end);
void streams_stop(struct gateway *gw); /* SIGTERM: ends all; clients come back to another gateway */
