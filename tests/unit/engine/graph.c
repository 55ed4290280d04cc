/* See graph.h. */
#include "tests/unit/engine/graph.h"
#include <stdio.h>

#include "common/base/banned.h"

uint32_t rnd_below(struct rnd *r, uint32_t below)
{
    r->state = r->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((r->state >> 33) % below);
}

void graph_make(struct rnd *r, struct graph *g, bool always_continue)
{
    *g = (struct graph){.count = 1 + (int)rnd_below(r, GRAPH_STEPS)};
    for (int i = 0; i < g->count; i++) {
        struct graph_node *n = &g->nodes[i];
        int wanted = (int)rnd_below(r, 4);
        n->kind = rnd_below(r, 4) == 0;
        n->branch = rnd_below(r, 2);
        n->outcome = rnd_below(r, 4) == 0 ? FAILS : SUCCEEDS;
        n->join_any = rnd_below(r, 2);
        n->has_when = rnd_below(r, 5) == 0;
        n->when = rnd_below(r, 2);
        n->go_on = always_continue || rnd_below(r, 2);
        for (int k = 0; k < wanted && i > 0; k++) {
            int parent = (int)rnd_below(r, (uint32_t)i);
            bool twice = false;
            for (int e = 0; e < n->parent_count; e++)
                twice = twice || n->parents[e] == parent;
            if (twice)
                continue;
            n->parents[n->parent_count] = parent;
            n->accepts[n->parent_count] = 1 + (int)rnd_below(r, 7);
            if (g->nodes[parent].kind == 1 && rnd_below(r, 2))
                n->accepts[n->parent_count] = rnd_below(r, 2) ? 8 : 16;
            n->parent_count++;
        }
    }
}

static void write_label(struct buf *doc, const char *label, bool *first)
{
    buf_printf(doc, "%s\"%s\"", *first ? "" : ",", label);
    *first = false;
}

void graph_write(const struct graph *g, struct buf *doc)
{
    buf_append_str(doc, STR("{\"name\":\"x\",\"steps\":{"));
    for (int i = 0; i < g->count; i++) {
        const struct graph_node *n = &g->nodes[i];
        buf_printf(doc, "%s\"s%d\":{", i == 0 ? "" : ",", i);
        if (n->kind == 1)
            buf_printf(doc, "\"call\":\"condition\",\"with\":{\"if\":%s}", n->branch ? "true" : "false");
        else
            buf_append_str(doc, STR("\"call\":\"noop\""));
        buf_printf(doc, ",\"join\":\"%s\",\"on_failure\":\"%s\"", n->join_any ? "any" : "all",
                   n->go_on ? "continue" : "fail");
        if (n->has_when)
            buf_printf(doc, ",\"when\":%s", n->when ? "true" : "false");
        buf_append_str(doc, STR(",\"needs\":{"));
        for (int e = 0; e < n->parent_count; e++) {
            bool first = true;
            buf_printf(doc, "%s\"s%d\":[", e == 0 ? "" : ",", n->parents[e]);
            if (n->accepts[e] & 1)
                write_label(doc, "succeeded", &first);
            if (n->accepts[e] & 2)
                write_label(doc, "failed", &first);
            if (n->accepts[e] & 4)
                write_label(doc, "skipped", &first);
            if (n->accepts[e] & 8)
                write_label(doc, "true", &first);
            if (n->accepts[e] & 16)
                write_label(doc, "false", &first);
            buf_append_str(doc, STR("]"));
        }
        buf_append_str(doc, STR("}}"));
    }
    buf_append_str(doc, STR("}}"));
}

void graph_answer(struct rnd *r, struct world *w, const struct graph *g)
{
    char name[16];

    for (;;) {
        int open[GRAPH_STEPS];
        int count = 0, chosen;
        for (int i = 0; i < g->count; i++) {
            (void)snprintf(name, sizeof(name), "s%d", i);
            if (world_status(w, name) == STEP_QUEUED)
                open[count++] = i;
        }
        if (count == 0)
            return;
        chosen = open[rnd_below(r, (uint32_t)count)];
        (void)snprintf(name, sizeof(name), "s%d", chosen);
        if (g->nodes[chosen].outcome == FAILS)
            world_fail(w, name, "permanent", "x", true, true);
        else
            world_succeed(w, name, "1");
    }
}
