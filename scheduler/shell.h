/* The shell around the scheduler's core: it carries out what the ports ask for, feeds the core its inputs, and calls
 * its tick once after each turn of the loop that brought any. No decision about runs is taken here. Loop thread only.
 */
#pragma once
#include "common/base/limits.h"
#include "common/io/service.h"

struct config {
    char *name, *pg_url, *amqp_url, *listen, *state_dir, *queue_type, *log_level;
    int64_t expression_children, cache_runs_mb, cache_bodies_mb, lease_ms, renew_ms, commands_poll_ms;
    int64_t attempt_lease_ms, overdue_ms, batch_inputs, partition_days, watch_runs, watch_sweep_ms, drain_ms;
    struct limit_settings limits;
};

struct shell;
struct shell *shell_new(struct service *service, const struct config *config); /* begins to connect */
void shell_free(struct shell *shell);
/* SIGTERM: what is in hand is finished, all shards are given up in one transaction, then service_stopped. */
void shell_stop(struct shell *shell);
void shell_readiness(struct shell *shell, struct buf *lines, bool *ready);
void shell_metrics(struct shell *shell, struct buf *text);
