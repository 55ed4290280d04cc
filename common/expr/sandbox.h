/* The sandbox: jq programs of strangers, evaluated by libjq in children that can compute and talk on one socket, and
 * do nothing else. This is the parent's side, on a libuv loop; loop thread only.
 *
 * A program that oversteps (time, memory, a fault in jq) costs its own request an error; the child is killed and
 * replaced, and what waited behind it runs again elsewhere. Organisations have a home among the children; while a
 * program of one holds a child up, others are served by the next. An organisation that did so three times in a minute
 * gets a child of its own. Files: sandbox_process.c (a child's process and its frames), sandbox_child.c,
 * sandbox_confine.c and sandbox_jq.c (in the child). */
#pragma once
#include "common/base/str.h"
#include <uv.h>

struct sandbox;

struct sandbox_limits {
    unsigned wall_ms;      /* of one evaluation, compiling included; up to twice that on a machine that starves it */
    size_t document_bytes; /* that a program may be given */
    size_t output_bytes;   /* of its value, as JSON */
    size_t memory_bytes;   /* address space of a child beyond what it maps at its start */
};
extern const struct sandbox_limits SANDBOX_LIMITS_DEFAULT; /* 2 s, 40 MiB, 1 MiB, 256 MiB */

enum sandbox_status {
    SANDBOX_OK,          /* value is JSON that jt_check has passed; STR_NONE for a check */
    SANDBOX_FAILED,      /* expression_failed: message says why, for the author of the program */
    SANDBOX_BAD_PROGRAM, /* bad_expression: libjq cannot compile it; message is jq's */
    SANDBOX_UNAVAILABLE, /* no child could be started, or the sandbox was freed: nobody's fault, try again later */
};
/* Value and message live until it returns. */
typedef void (*sandbox_fn)(void *ctx, enum sandbox_status status, struct str value, const char *message);

/* First thing in main() of every program that has a sandbox: when this process was started as a child it serves here
 * and never returns. */
void sandbox_child_main_if_asked(int argc, char **argv);

/* Starts `children` (1..64) processes of this program's own file. limits NULL: the default. */
struct sandbox *sandbox_new(uv_loop_t *loop, unsigned children, const struct sandbox_limits *limits);
/* Answers what is outstanding with SANDBOX_UNAVAILABLE and kills all children. The loop has to run on until its handles
 * are closed: it reaps the children and frees the memory. May be called from inside an answer. Accepts NULL. */
void sandbox_free(struct sandbox *sandbox);

/* Evaluates jq `source` with checked JSON `document` as its input; both are copied. `done` is called exactly once, and
 * never from inside this call. */
void sandbox_eval(struct sandbox *sandbox, int32_t organisation, struct str source, struct str document,
                  sandbox_fn done, void *ctx);
/* Only compiles: what saving a workflow asks for each expression that is no plain path. */
void sandbox_check(struct sandbox *sandbox, int32_t organisation, struct str source, sandbox_fn done, void *ctx);

/* For tests and figures. */
struct sandbox_stats {
    unsigned processes; /* alive */
    unsigned own;       /* organisations with a child of their own */
    size_t waiting;     /* requests without an answer */
};
struct sandbox_stats sandbox_stats(const struct sandbox *sandbox);
