/* Random graphs against a small independent model of the rules for edges, joins, `when` and failures. The model does
 * not share a line with the engine: it reads the same random description and decides each step once, in topological
 * order. */
#include "tests/unit/engine/graph.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define GRAPHS 4000

/* The model: outcome of every step when nothing is ever cut short. */
static void decide_all(const struct graph *g, enum step_status *ret)
{
    for (int i = 0; i < g->count; i++) {
        const struct graph_node *n = &g->nodes[i];
        int accepted = 0;
        for (int e = 0; e < n->parent_count; e++) {
            enum step_status p = ret[n->parents[e]];
            const struct graph_node *parent = &g->nodes[n->parents[e]];
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
        enum step_status expected[GRAPH_STEPS];
        enum run_status run;

        graph_make(&r, &g, always_continue);
        buf_init(&doc, 1 << 16);
        graph_write(&g, &doc);
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
        world_start(&w);
        graph_answer(&r, &w, &g);
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
