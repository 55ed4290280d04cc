/* Two parents and a child, every combination of how each parent ends, what its edge accepts, the join, `when` and
 * on_failure, against a table that is computed here from the rules in prose (api.md, "Graph" and "Failure") and shares
 * nothing with the engine. Parents may succeed, fail, time out, end unknown, be skipped, or branch. Every third row
 * is also the body of a loop of one item, which fails with it or goes on. Then a few graphs under each mode of failure,
 * with the final state of every step. */
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

enum place { ALONE, IN_LOOP, IN_LOOP_THAT_GOES_ON, PLACES };

static char *path_in(struct world *w, enum place place, const char *step)
{
    return arena_printf(w->arena, "%s%s", place == ALONE ? "" : "each[0].", step);
}

/* Of a step that may be forgotten already: what history says. */
static enum step_status ended_as(struct world *w, enum place place, const char *step)
{
    static const struct {
        enum event_type type;
        enum step_status status;
    } ends[] = {{EVENT_STEP_SUCCEEDED, STEP_SUCCEEDED}, {EVENT_STEP_FAILED, STEP_FAILED},
                {EVENT_STEP_TIMED_OUT, STEP_TIMED_OUT}, {EVENT_STEP_SKIPPED, STEP_SKIPPED},
                {EVENT_STEP_CANCELLED, STEP_CANCELLED}, {EVENT_STEP_OUTCOME_UNKNOWN, STEP_OUTCOME_UNKNOWN}};

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (world_has(w, ends[i].type, path_in(w, place, step)))
            return ends[i].status;
    return STEP_PENDING;
}

static void drive(struct world *w, const struct row *row, enum place place)
{
    static const char *const names[] = {"p0", "p1"};

    world_start(w);
    for (int p = 0; p < 2; p++) /* begun at once, so that the failure of the other lets it finish and count */
        if (world_open(w, path_in(w, place, names[p])))
            world_begin(w, path_in(w, place, names[p]), "w1");
    for (int p = 0; p < 2; p++) {
        const char *path = path_in(w, place, names[p]);
        if (!world_open(w, path))
            continue;
        if (row->end[p] == SUCCEEDS)
            world_succeed(w, path, "1");
        else if (row->end[p] == FAILS)
            world_fail(w, path, "permanent", "http_404", true, true);
        else if (row->end[p] == TIMES_OUT)
            world_fail(w, path, "transient", "timeout", true, false);
        else
            world_fail(w, path, "transient", "reset", true, false);
    }
    if (world_open(w, path_in(w, place, "child")))
        world_succeed(w, path_in(w, place, "child"), "1");
}

static void write_row(struct buf *doc, const struct row *row, enum place place)
{
    buf_append_str(doc, STR("{\"name\":\"x\",\"steps\":{"));
    if (place != ALONE)
        buf_printf(doc, "\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[0],\"on_item_failure\":\"%s\",\"steps\":{",
                   place == IN_LOOP ? "fail" : "continue");
    write_parent(doc, row, 0);
    write_parent(doc, row, 1);
    buf_printf(doc, "\"child\":{\"call\":\"noop\",\"needs\":{\"p0\":%s,\"p1\":%s},\"join\":\"%s\"%s}}}",
               edges[row->edge[0]].json, edges[row->edge[1]].json, row->join_any ? "any" : "all",
               row->when == NO_WHEN     ? ""
               : row->when == WHEN_TRUE ? ",\"when\":true"
                                        : ",\"when\":false");
    if (place != ALONE)
        buf_append_str(doc, STR("}}}"));
}

/* What a run of the row alone, as the only item of a loop, means for the item and the run. */
static void in_loop(enum place place, struct expected *e, enum step_status *ret_item)
{
    *ret_item = e->run == RUN_FAILED ? STEP_FAILED : STEP_SUCCEEDED;
    if (e->run == RUN_FAILED && place == IN_LOOP_THAT_GOES_ON)
        e->run = RUN_PARTIALLY_COMPLETED;
}

/* How the parents end when nothing is cut short. */
static bool parents_as_told(struct world *w, const struct row *row, enum place place)
{
    static const enum step_status statuses[ENDS] = {STEP_SUCCEEDED,       STEP_FAILED,  STEP_TIMED_OUT,
                                                    STEP_OUTCOME_UNKNOWN, STEP_SKIPPED, STEP_SUCCEEDED,
                                                    STEP_SUCCEEDED};

    return ended_as(w, place, "p0") == statuses[row->end[0]] && ended_as(w, place, "p1") == statuses[row->end[1]];
}

static void check(const struct row *row, enum place place)
{
    struct expected e = rules(row);
    bool cut = e.child == STEP_CANCELLED;
    enum step_status item = STEP_PENDING;
    struct world w;
    struct buf doc;

    buf_init(&doc, 1 << 14);
    write_row(&doc, row, place);
    world_init(&w, doc.ptr);
    drive(&w, row, place);
    if (place != ALONE)
        in_loop(place, &e, &item);
    if (ended_as(&w, place, "child") != e.child || w.state->status != e.run ||
        (place != ALONE && ended_as(&w, ALONE, "each[0]") != item) || (!cut && !parents_as_told(&w, row, place))) {
        fprintf(stderr, "%s\n  ends %d %d: child %s, run %s; by the rules %s, %s\n", doc.ptr, row->end[0], row->end[1],
                step_status_name(ended_as(&w, place, "child")), run_status_name((enum run_status)w.state->status),
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
        check(&row, ALONE);
        if (rows % 3 == 0) /* for time's sake */
            check(&row, rows % 2 == 0 ? IN_LOOP : IN_LOOP_THAT_GOES_ON);
        rows++;
    } while (advance(d, bases, 8));
    assert_in_range(rows, 80000, 120000);
}

/* ---- the same graphs under each mode ---- */

#define T "\"call\":\"noop\",\"retry\":{\"max_attempts\":1}"
/* a, then b and c, then d after both; b fails */
#define DIAMOND(of_run, of_b, more)                                                                                    \
    "{\"name\":\"x\"" of_run ",\"steps\":{\"a\":{" T "},\"b\":{" T of_b ",\"needs\":[\"a\"]},\"c\":{" T                \
    ",\"needs\":[\"a\"]},\"d\":{" T ",\"needs\":[\"b\",\"c\"]}" more "}}"
#define GO_ON ",\"on_failure\":\"continue\""

static const struct {
    const char *document, *end; /* the end of each step in the order of the document, then of the run */
} modes[] = {
    {DIAMOND("", "", ""), "succeeded failed cancelled cancelled failed"},
    {DIAMOND("", GO_ON, ""), "succeeded failed succeeded skipped partially_completed"},
    {DIAMOND(GO_ON, "", ""), "succeeded failed succeeded skipped partially_completed"},
    {DIAMOND(GO_ON, ",\"on_failure\":\"fail\"", ""), "succeeded failed cancelled cancelled failed"},
    /* handled by h, which runs */
    {DIAMOND("", "", ",\"h\":{" T ",\"needs\":{\"b\":[\"failed\"]}}"),
     "succeeded failed succeeded skipped succeeded succeeded"},
    {DIAMOND("", GO_ON, ",\"h\":{" T ",\"needs\":{\"b\":[\"failed\"]}}"),
     "succeeded failed succeeded skipped succeeded succeeded"},
    /* h would handle it, but does not run */
    {DIAMOND("", "", ",\"h\":{" T ",\"when\":false,\"needs\":{\"b\":[\"failed\"]}}"),
     "succeeded failed succeeded skipped skipped failed"},
    {DIAMOND("", GO_ON, ",\"h\":{" T ",\"when\":false,\"needs\":{\"b\":[\"failed\"]}}"),
     "succeeded failed succeeded skipped skipped partially_completed"},
    {DIAMOND("", "", ",\"h\":{" T ",\"needs\":{\"b\":[\"failed\"],\"c\":[\"failed\"]}}"),
     "succeeded failed succeeded skipped skipped failed"},
    /* an edge for another kind of failure is none for this one */
    {DIAMOND("", "", ",\"h\":{" T ",\"needs\":{\"b\":[\"timed_out\"]}}"),
     "succeeded failed cancelled cancelled cancelled failed"},
    /* what goes on without it */
    {DIAMOND("", GO_ON, ",\"e\":{" T ",\"join\":\"any\",\"needs\":[\"b\",\"c\"]}"),
     "succeeded failed succeeded skipped succeeded partially_completed"},
    {DIAMOND("", GO_ON, ",\"e\":{" T ",\"needs\":{\"d\":[\"skipped\"]}}"),
     "succeeded failed succeeded skipped succeeded partially_completed"},
    {DIAMOND("", GO_ON, ",\"e\":{" T ",\"needs\":[\"d\"]}"),
     "succeeded failed succeeded skipped skipped partially_completed"},
    /* the handler fails itself */
    {DIAMOND("", "", ",\"fails\":{" T ",\"needs\":{\"b\":[\"failed\"]}}"),
     "succeeded failed cancelled cancelled failed failed"},
    {DIAMOND("", "", ",\"fails\":{" T GO_ON ",\"needs\":{\"b\":[\"failed\"]}}"),
     "succeeded failed succeeded skipped failed partially_completed"},
};

static void graphs_end_as_their_mode_says(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        struct world w;
        struct buf end;
        world_init(&w, modes[i].document);
        world_start(&w);
        for (uint32_t round = 0; round < 10; round++) { /* one open step after the other, failures first */
            for (uint32_t n = 0; n < w.plan->root_count; n++) {
                uint32_t node = (uint32_t)w.plan->root_count - 1 - n;
                const char *name = arena_dup(w.arena, w.plan->steps[node].name.ptr, w.plan->steps[node].name.len);
                if (strcmp(name, "c") == 0 && world_open(&w, "b"))
                    continue;
                if (strcmp(name, "c") == 0 && w.plan->step_count > 4 && world_open(&w, "fails"))
                    continue;
                if (!world_open(&w, name))
                    continue;
                if (strcmp(name, "b") == 0 || strcmp(name, "fails") == 0)
                    world_fail(&w, name, "permanent", "http_404", true, true);
                else
                    world_succeed(&w, name, "1");
            }
        }
        buf_init(&end, 1000);
        for (uint32_t node = 0; node < w.plan->root_count; node++)
            buf_printf(&end, "%s ", step_status_name((enum step_status)run_step(w.state, node)->status));
        buf_append_str(&end, str_of(run_status_name((enum run_status)w.state->status)));
        if (strcmp(end.ptr, modes[i].end) != 0)
            fprintf(stderr, "%s\n", modes[i].document);
        assert_string_equal(end.ptr, modes[i].end);
        buf_deinit(&end);
        world_deinit(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_outcome_edge_join_and_when_for_two_parents),
        cmocka_unit_test(graphs_end_as_their_mode_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
