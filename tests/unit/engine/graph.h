/* Random workflows of tasks and conditions, whose edges, joins, `when` and failures are drawn: what they mean is for
 * who asks to say. */
#pragma once
#include "tests/unit/engine/world.h"

#define GRAPH_STEPS 14

enum outcome { SUCCEEDS, FAILS };

struct rnd {
    uint64_t state;
};

struct graph_node {
    int kind;             /* 0 task, 1 condition */
    bool branch;          /* of a condition: which it takes */
    enum outcome outcome; /* of a task */
    bool join_any, has_when, when, go_on;
    int parents[GRAPH_STEPS];
    int accepts[GRAPH_STEPS]; /* 1 succeeded, 2 failed, 4 skipped, 8 branch true, 16 branch false */
    int parent_count;
};

struct graph {
    int count;
    struct graph_node nodes[GRAPH_STEPS];
};

uint32_t rnd_below(struct rnd *r, uint32_t below);
void graph_make(struct rnd *r, struct graph *g, bool always_continue);
void graph_write(const struct graph *g, struct buf *doc); /* its steps are s0, s1, ... */
/* Answers queued tasks in random order, each with the outcome that was drawn for it, until none is left. */
void graph_answer(struct rnd *r, struct world *w, const struct graph *g);
