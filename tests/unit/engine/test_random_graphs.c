/* Random graphs against a small independent model of the rules for edges, joins, `when` and failures. The model does
 * not share a line with the engine: it reads the same random description and decides each step once, in topological
 * order. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define MAX_STEPS 14
#define GRAPHS 4000

enum outcome { SUCCEEDS, FAILS };

struct rnd {
    uint64_t state;
};

static uint32_t draw(struct rnd *r, uint32_t below)
{
    r->state = r->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((r->state >> 33) % below);
}

struct node {
    int kind;             /* 0 task, 1 condition */
    bool branch;          /* of a condition: which it takes */
    enum outcome outcome; /* of a task */
    bool join_any, has_when, when, go_on;
    int parents[MAX_STEPS];
    int accepts[MAX_STEPS]; /* 1 succeeded, 2 failed, 4 skipped, 8 branch true, 16 branch false */
    int parent_count;
};

struct graph {
    int count;
    struct node nodes[MAX_STEPS];
};

static void make_graph(struct rnd *r, struct graph *g, bool always_continue)
{
    *g = (struct graph){.count = 1 + (int)draw(r, MAX_STEPS)};
    for (int i = 0; i < g->count; i++) {
        struct node *n = &g->nodes[i];
        int wanted = (int)draw(r, 4);
        n->kind = draw(r, 4) == 0;
        n->branch = draw(r, 2);
        n->outcome = draw(r, 4) == 0 ? FAILS : SUCCEEDS;
        n->join_any = draw(r, 2);
        n->has_when = draw(r, 5) == 0;
        n->when = draw(r, 2);
        n->go_on = always_continue || draw(r, 2);
        for (int k = 0; k < wanted && i > 0; k++) {
            int parent = (int)draw(r, (uint32_t)i);
            bool twice = false;
            for (int e = 0; e < n->parent_count; e++)
                twice = twice || n->parents[e] == parent;
            if (twice)
                continue;
            n->parents[n->parent_count] = parent;
            n->accepts[n->parent_count] = 1 + (int)draw(r, 7);
            if (g->nodes[parent].kind == 1 && draw(r, 2))
                n->accepts[n->parent_count] = draw(r, 2) ? 8 : 16;
            n->parent_count++;
        }
    }
}

static void write_label(struct buf *doc, const char *label, bool *first)
{
    buf_printf(doc, "%s\"%s\"", *first ? "" : ",", label);
    *first = false;
}

static void write_graph(const struct graph *g, struct buf *doc)
{
    buf_append_str(doc, STR("{\"name\":\"x\",\"steps\":{"));
    for (int i = 0; i < g->count; i++) {
        const struct node *n = &g->nodes[i];
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

/* The model: outcome of every step when nothing is ever cut short. */
static void decide_all(const struct graph *g, enum step_status *ret)
{
    for (int i = 0; i < g->count; i++) {
        const struct node *n = &g->nodes[i];
        int accepted = 0;
        for (int e = 0; e < n->parent_count; e++) {
            enum step_status p = ret[n->parents[e]];
            const struct node *parent = &g->nodes[n->parents[e]];
            int a = n->accepts[e];
            bool yes =
                (p == STEP_SUCCEEDED && (a & 1)) || (p == STEP_FAILED && (a & 2)) || (p == STEP_SKIPPED && (a & 4));
            if (p == STEP_SUCCEEDED && parent->kind == 1 && (a & (parent->branch ? 8 : 16)))
                yes = true;
            accepted += yes;
        }
        if (n->parent_count > 0 && (n->join_any ? accepted == 0 : accepted < n->parent_count))
            ret[i] = STEP_SKIPPED;
        else if (n->has_when && !n->when)
            ret[i] = STEP_SKIPPED;
        else if (n->kind == 1)
            ret[i] = STEP_SUCCEEDED;
        else
            ret[i] = n->outcome == FAILS ? STEP_FAILED : STEP_SUCCEEDED;
    }
}

static enum run_status run_of(const struct graph *g, const enum step_status *steps)
{
    enum run_status status = RUN_SUCCEEDED;

    for (int i = 0; i < g->count; i++) {
        bool was_handled = false;
        if (steps[i] != STEP_FAILED)
            continue;
        for (int c = 0; c < g->count; c++)
            for (int e = 0; e < g->nodes[c].parent_count; e++)
                if (g->nodes[c].parents[e] == i && (g->nodes[c].accepts[e] & 2) &&
                    (steps[c] == STEP_SUCCEEDED || steps[c] == STEP_FAILED))
                    was_handled = true;
        if (!was_handled && !g->nodes[i].go_on)
            return RUN_FAILED;
        if (!was_handled)
            status = RUN_PARTIALLY_COMPLETED;
    }
    return status;
}

/* Answers queued tasks in random order until none is left. */
static void drive(struct rnd *r, struct world *w, const struct graph *g)
{
    char name[16];

    world_start(w);
    for (;;) {
        int open[MAX_STEPS];
        int count = 0, chosen;
        for (int i = 0; i < g->count; i++) {
            (void)snprintf(name, sizeof(name), "s%d", i);
            if (world_status(w, name) == STEP_QUEUED)
                open[count++] = i;
        }
        if (count == 0)
            return;
        chosen = open[draw(r, (uint32_t)count)];
        (void)snprintf(name, sizeof(name), "s%d", chosen);
        if (g->nodes[chosen].outcome == FAILS)
            world_fail(w, name, "permanent", "x", true, true);
        else
            world_succeed(w, name, "1");
    }
}

static void random_graphs_end_as_the_model_says(void **unused)
{
    struct rnd r = {12345};
    int refused = 0, failed_runs = 0, good_runs = 0;

    (void)unused;
    for (int i = 0; i < GRAPHS; i++) {
        bool always_continue = i % 2 == 0;
        uint64_t seed = r.state;
        struct graph g;
        struct world w;
        struct buf doc;
        struct arena *arena = arena_new(4096);
        enum step_status expected[MAX_STEPS];
        enum run_status run;

        make_graph(&r, &g, always_continue);
        buf_init(&doc, 1 << 16);
        write_graph(&g, &doc);
        if (strcmp(faults_of(arena, doc.ptr), "") != 0) { /* branches that exclude each other */
            assert_non_null(strstr(faults_of(arena, doc.ptr), "unreachable_step"));
            refused++;
            buf_deinit(&doc);
            arena_free(arena);
            continue;
        }
        world_init(&w, doc.ptr);
        decide_all(&g, expected);
        run = run_of(&g, expected);
        drive(&r, &w, &g);
        assert_true(run_ended((enum run_status)w.state->status));
        if (always_continue || !w.state->root->failing) {
            for (int s = 0; s < g.count; s++) {
                if (run_step(w.state, (uint32_t)s)->status != expected[s])
                    fprintf(stderr, "seed %llu step s%d is %s, the model says %s\n%s\n", (unsigned long long)seed, s,
                            step_status_name((enum step_status)run_step(w.state, (uint32_t)s)->status),
                            step_status_name(expected[s]), doc.ptr);
                assert_int_equal(run_step(w.state, (uint32_t)s)->status, expected[s]);
            }
            assert_int_equal(w.state->status, run);
        } else {
            assert_int_equal(w.state->status, RUN_FAILED);
            assert_int_equal(run, RUN_FAILED); /* cutting short never fails a run that would not have failed */
        }
        failed_runs += w.state->status == RUN_FAILED;
        good_runs += w.state->status == RUN_SUCCEEDED;
        assert_int_equal(w.state->open_steps, 0);
        world_deinit(&w);
        buf_deinit(&doc);
        arena_free(arena);
    }
    assert_true(failed_runs > GRAPHS / 20 && good_runs > GRAPHS / 20 && refused < GRAPHS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_graphs_end_as_the_model_says)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
