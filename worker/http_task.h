/* `http` steps under way. http_task.c is the only file of the worker that meets libcurl, on the loop through
 * common/io/transfer.h. Loop thread only. */
#pragma once
#include "common/io/egress.h"
#include "worker/worker_core.h"
#include <uv.h>

struct http_client;
struct http_task;

struct http_client_options {
    uv_loop_t *loop;
    const struct egress *egress; /* outlives the client */
    const char *ca_file;         /* certificates to trust, "" for the system's */
};
struct http_client *http_client_new(const struct http_client_options *options);
void http_client_free(struct http_client *client); /* tasks under way are reported aborted */

typedef void (*http_task_fn)(void *ctx, const struct call_outcome *outcome);

/* Begins the request of `task`, which lives until `done`, called once, maybe from inside (then NULL is returned).
 * bound_us 0: none. once: on a fresh connection, without redirects, never repeated by the library. */
struct http_task *http_task_new(struct http_client *client, const struct task *task, int64_t bound_us, bool once,
                                http_task_fn done, void *ctx);
void http_task_abort(struct http_task *http); /* calls `done` with `aborted` */
