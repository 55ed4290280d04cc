/* Two parents and a child, every combination of how each parent ends, what its edge accepts, the join, `when` and
 * on_failure, against a table that is computed here from the rules in prose (api.md, "Graph" and "Failure") and shares
 * nothing with the engine. Parents may succeed, fail, time out, end unknown, be skipped, or branch. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

enum ends { SUCCEEDS, FAILS, TIMES_OUT, IS_UNKNOWN, IS_SKIPPED, TAKES_TRUE, TAKES_FALSE, ENDS };

/* What an edge may say; as JSON, and as the set of ends that it accepts. */
static const struct {
    const char *json;
    bool branching_only;
    bool accepts[ENDS];
} edges[] = {
    {"[\"succeeded\"]", false, {[SUCCEEDS] = true, [TAKES_TRUE] = true, [TAKES_FALSE] = true}},
    {"[\"failed\"]", false, {[FAILS] = true}},
    {"[\"timed_out\"]", false, {[TIMES_OUT] = true}},
    {"[\"outcome_unknown\"]", false, {[IS_UNKNOWN] = true}},
    {"[\"skipped\"]", false, {[IS_SKIPPED] = true}},
    {"[\"cancelled\"]", false, {false}},
    {"[\"failed\",\"timed_out\",\"outcome_unknown\"]",
     false,
     {[FAILS] = true, [TIMES_OUT] = true, [IS_UNKNOWN] = true}},
    {"[\"succeeded\",\"failed\",\"timed_out\",\"outcome_unknown\",\"skipped\",\"cancelled\"]",
     false,
     {true, true, true, true, true, true, true}},
    {"[\"true\"]", true, {[TAKES_TRUE] = true}},
    {"[false,\"failed\"]", true, {[FAILS] = true, [TAKES_FALSE] = true}},
};
#define EDGES (sizeof(edges) / sizeof(edges[0]))

enum when { NO_WHEN, WHEN_TRUE, WHEN_FALSE, WHENS };

struct row {
    enum ends end[2];
    size_t edge[2];
    bool join_any, go_on[2];
    enum when when;
};

struct expected {
    enum step_status child;
    enum run_status run;
};

static bool is_failure(enum ends end)
{
    return end == FAILS || end == TIMES_OUT || end == IS_UNKNOWN;
}

/* The rules, for steps that end in the order p0, p1. */
static struct expected rules(const struct row *row)
{
    struct expected e = {STEP_PENDING, RUN_PENDING};
    bool accepts[2], fatal = false, unhandled_fatal = false, unhandled = false;
    int accepted = 0;

    for (int p = 0; p < 2; p++) {
        accepts[p] = edges[row->edge[p]].accepts[row->end[p]];
        accepted += accepts[p];
        /* the child is the only step below: if it does not accept a failure that is not to be gone on from, the run is
         * lost at that moment */
        if (is_failure(row->end[p]) && !accepts[p] && !row->go_on[p])
            fatal = true;
    }
    if (fatal) {
        e.child = STEP_CANCELLED;
        e.run = RUN_FAILED;
        return e;
    }
    if (row->join_any ? accepted == 0 : accepted < 2)
        e.child = STEP_SKIPPED;
    else if (row->when == WHEN_FALSE)
        e.child = STEP_SKIPPED;
    else
        e.child = STEP_SUCCEEDED;
    for (int p = 0; p < 2; p++) {
        bool handled = accepts[p] && e.child == STEP_SUCCEEDED;
        if (!is_failure(row->end[p]) || handled)
            continue;
        unhandled = true;
        unhandled_fatal = unhandled_fatal || !row->go_on[p];
    }
    e.run = unhandled_fatal ? RUN_FAILED : unhandled ? RUN_PARTIALLY_COMPLETED : RUN_SUCCEEDED;
    return e;
}

static bool branches(enum ends end)
{
    return end == TAKES_TRUE || end == TAKES_FALSE;
}

/* A parent for each way to end. One that may branch and fails is a condition whose expression gives no boolean. */
static void write_parent(struct buf *doc, const struct row *row, int p)
{
    bool condition = edges[row->edge[p]].branching_only || branches(row->end[p]);

    buf_printf(doc, "\"p%d\":{\"on_failure\":\"%s\",", p, row->go_on[p] ? "continue" : "fail");
    if (row->end[p] == IS_SKIPPED)
        buf_append_str(doc, STR("\"when\":false,"));
    if (condition)
        buf_printf(doc, "\"call\":\"condition\",\"with\":{\"if\":%s}",
                   row->end[p] == FAILS         ? "\"${ .input }\""
                   : row->end[p] == TAKES_FALSE ? "false"
                                                : "true");
    else
        buf_printf(doc, "\"call\":\"noop\",\"retry\":{\"max_attempts\":1},\"delivery\":\"%s\"",
                   row->end[p] == IS_UNKNOWN ? "at_most_once" : "at_least_once");
    buf_append_str(doc, STR("},"));
}

/* Not every end can be had with every edge: a condition cannot time out or end unknown. */
static bool possible(const struct row *row)
{
    for (int p = 0; p < 2; p++) {
        bool branching = edges[row->edge[p]].branching_only;
        if (branching && (row->end[p] == TIMES_OUT || row->end[p] == IS_UNKNOWN || row->end[p] == SUCCEEDS))
            return false;
    }
    return true;
}

static void drive(struct world *w, const struct row *row)
{
    static const char *const names[] = {"p0", "p1"};

    world_start(w);
    for (int p = 0; p < 2; p++) {
        if (world_status(w, names[p]) != STEP_QUEUED)
            continue;
        /* begun at once, so that the failure of the other lets it finish and count */
        world_apply(
            w, (struct engine_input){
                   .kind = IN_STARTED, .step = str_of(names[p]), .attempt = 1, .dispatch = 1, .worker = STR("w1")});
    }
    for (int p = 0; p < 2; p++) {
        if (world_status(w, names[p]) != STEP_RUNNING)
            continue;
        if (row->end[p] == SUCCEEDS)
            world_succeed(w, names[p], "1");
        else if (row->end[p] == FAILS)
            world_fail(w, names[p], "permanent", "http_404", true, true);
        else if (row->end[p] == TIMES_OUT)
            world_fail(w, names[p], "transient", "timeout", true, false);
        else
            world_fail(w, names[p], "transient", "reset", true, false);
    }
    if (world_status(w, "child") == STEP_QUEUED)
        world_succeed(w, "child", "1");
}

static void check(const struct row *row)
{
    struct expected e = rules(row);
    struct world w;
    struct buf doc;

    buf_init(&doc, 1 << 14);
    buf_append_str(&doc, STR("{\"name\":\"x\",\"steps\":{"));
    write_parent(&doc, row, 0);
    write_parent(&doc, row, 1);
    buf_printf(&doc, "\"child\":{\"call\":\"noop\",\"needs\":{\"p0\":%s,\"p1\":%s},\"join\":\"%s\"%s}}}",
               edges[row->edge[0]].json, edges[row->edge[1]].json, row->join_any ? "any" : "all",
               row->when == NO_WHEN     ? ""
               : row->when == WHEN_TRUE ? ",\"when\":true"
                                        : ",\"when\":false");
    world_init(&w, doc.ptr);
    drive(&w, row);
    if (world_status(&w, "child") != e.child || w.state->status != e.run) {
        fprintf(stderr, "%s\n  ends %d %d: child %s, run %s; by the rules %s, %s\n", doc.ptr, row->end[0], row->end[1],
                step_status_name(world_status(&w, "child")), run_status_name((enum run_status)w.state->status),
                step_status_name(e.child), run_status_name(e.run));
        fail();
    }
    world_deinit(&w);
    buf_deinit(&doc);
}

/* The next row, counted like an odometer; false behind the last. */
static bool advance(unsigned *digits, const unsigned *bases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (++digits[i] < bases[i])
            return true;
        digits[i] = 0;
    }
    return false;
}

static void every_outcome_edge_join_and_when_for_two_parents(void **unused)
{
    static const unsigned bases[] = {ENDS, ENDS, EDGES, EDGES, 2, 2, 2, WHENS};
    unsigned d[8] = {0};
    size_t rows = 0;

    (void)unused;
    do {
        struct row row = {.end = {(enum ends)d[0], (enum ends)d[1]},
                          .edge = {d[2], d[3]},
                          .join_any = d[4] == 1,
                          .go_on = {d[5] == 1, d[6] == 1},
                          .when = (enum when)d[7]};
        if (!possible(&row))
            continue;
        check(&row);
        rows++;
    } while (advance(d, bases, 8));
    assert_in_range(rows, 80000, 120000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_outcome_edge_join_and_when_for_two_parents),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
