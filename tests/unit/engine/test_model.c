/* Random workflows with loops in loops, conditions, joins, `when`, on_failure and on_item_failure against a small
 * independent model of the rules. The model walks the same random description recursively, each scope once in the order
 * of its steps, as if nothing were ever cut short; it shares no line with the engine. Where the model says that a scope
 * fails, only that is compared: what else was still done in it depends on the order of the answers. */
#include "tests/unit/engine/world.h"
#include "common/base/ensure.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MAX_STEPS 6
#define MAX_ITEMS 4
#define MAX_DEPTH 3
#define CASES 6000
#define UNSAID "?" /* what a loop that was stopped has done until then */

enum kind { TASK, CONDITION, TRANSFORM, LOOP };
/* what an edge accepts */
enum { A_SUCCEEDED = 1, A_FAILED = 2, A_SKIPPED = 4, A_TIMED_OUT = 8, A_UNKNOWN = 16, A_TRUE = 32, A_FALSE = 64 };

struct scope {
    int count;
    struct step {
        enum kind kind;
        bool branch, join_any, has_when, when, go_on, at_most_once;
        int parents[3], accepts[3], parent_count;
        int items, concurrency;
        bool go_on_items;
        struct scope *body;
    } steps[MAX_STEPS];
};

struct rnd {
    uint64_t state;
};

static uint32_t draw(struct rnd *r, uint32_t below)
{
    r->state = r->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((r->state >> 33) % below);
}

/* ---- the random description ---- */

static struct scope *make_scope(struct rnd *r, struct arena *arena, int depth)
{
    struct scope *scope = arena_alloc(arena, sizeof(*scope));

    *scope = (struct scope){.count = 1 + (int)draw(r, depth == 0 ? MAX_STEPS : 4)};
    for (int i = 0; i < scope->count; i++) {
        struct step *s = &scope->steps[i];
        static const enum kind kinds[] = {TASK, TASK, TASK, CONDITION, TRANSFORM, LOOP, LOOP};
        s->kind = kinds[draw(r, depth < MAX_DEPTH ? 7 : 5)];
        s->branch = draw(r, 2);
        s->join_any = draw(r, 2);
        s->has_when = draw(r, 6) == 0;
        s->when = draw(r, 2);
        s->go_on = draw(r, 3) > 0;
        s->at_most_once = draw(r, 3) == 0;
        for (uint32_t k = draw(r, 4); k > 0 && i > 0; k--) {
            int parent = (int)draw(r, (uint32_t)i);
            bool twice = false;
            for (int e = 0; e < s->parent_count; e++)
                twice = twice || s->parents[e] == parent;
            if (twice)
                continue;
            s->parents[s->parent_count] = parent;
            s->accepts[s->parent_count] = draw(r, 2) ? A_SUCCEEDED : 1 + (int)draw(r, 31);
            if (scope->steps[parent].kind == CONDITION && draw(r, 2))
                s->accepts[s->parent_count] = draw(r, 2) ? A_TRUE : A_FALSE;
            s->parent_count++;
        }
        if (s->kind != LOOP)
            continue;
        s->items = (int)draw(r, MAX_ITEMS + 1);
        s->concurrency = 1 + (int)draw(r, 3);
        s->go_on_items = draw(r, 2);
        s->body = make_scope(r, arena, depth + 1);
    }
    return scope;
}

static void write_needs(const struct step *s, struct buf *doc)
{
    static const char *const labels[] = {"succeeded",       "failed", "skipped", "timed_out",
                                         "outcome_unknown", "true",   "false"};

    buf_append_str(doc, STR(",\"needs\":{"));
    for (int e = 0; e < s->parent_count; e++) {
        const char *comma = "";
        buf_printf(doc, "%s\"s%d\":[", e == 0 ? "" : ",", s->parents[e]);
        for (int bit = 0; bit < 7; bit++) {
            if (((s->accepts[e] >> bit) & 1) == 0)
                continue;
            buf_printf(doc, "%s\"%s\"", comma, labels[bit]);
            comma = ",";
        }
        buf_append_str(doc, STR("]"));
    }
    buf_append_str(doc, STR("}"));
}

static void write_steps(const struct scope *scope, struct buf *doc)
{
    ENSURE(scope != NULL);
    buf_append_str(doc, STR("\"steps\":{"));
    for (int i = 0; i < scope->count; i++) {
        const struct step *s = &scope->steps[i];
        buf_printf(doc, "%s\"s%d\":{\"join\":\"%s\",\"on_failure\":\"%s\"", i == 0 ? "" : ",", i,
                   s->join_any ? "any" : "all", s->go_on ? "continue" : "fail");
        if (s->has_when)
            buf_printf(doc, ",\"when\":%s", s->when ? "true" : "false");
        write_needs(s, doc);
        if (s->kind == TASK) {
            buf_printf(doc, ",\"call\":\"noop\",\"retry\":{\"max_attempts\":1}%s}",
                       s->at_most_once ? ",\"delivery\":\"at_most_once\"" : "");
        } else if (s->kind == CONDITION) {
            buf_printf(doc, ",\"call\":\"condition\",\"with\":{\"if\":%s}}", s->branch ? "true" : "false");
        } else if (s->kind == TRANSFORM) {
            buf_printf(doc, ",\"call\":\"transform\",\"with\":{\"value\":%s}}",
                       s->branch ? "\"${ .index }\"" : "[1.50]");
        } else {
            buf_printf(doc, ",\"call\":\"foreach\",\"with\":{\"concurrency\":%d,\"on_item_failure\":\"%s\",\"items\":[",
                       s->concurrency, s->go_on_items ? "continue" : "fail");
            for (int k = 0; k < s->items; k++)
                buf_append_str(doc, k == 0 ? STR("0") : STR(",0"));
            buf_append_str(doc, STR("],"));
            write_steps(s->body, doc);
            buf_append_str(doc, STR("}}"));
        }
    }
    buf_append_str(doc, STR("}"));
}

/* ---- the model ---- */

/* How the task at a path ends: fixed by the case and the path alone. */
static enum step_status fate(uint64_t salt, const char *path, bool at_most_once)
{
    uint64_t h = salt;

    for (; *path != '\0'; path++)
        h = (h ^ (unsigned char)*path) * UINT64_C(1099511628211);
    h ^= h >> 29;
    switch (h % 12) {
    case 0:
        return STEP_FAILED;
    case 1:
        return at_most_once ? STEP_OUTCOME_UNKNOWN : STEP_TIMED_OUT;
    default:
        return STEP_SUCCEEDED;
    }
}

struct end {
    bool failed, partial;
};
struct outcome {
    enum step_status status;
    bool partial;
    char *output; /* JSON, or "null" */
};

struct model {
    struct arena *arena;
    uint64_t salt;
    /* what each step of a scope that did not fail has become, by path; iterations too */
    struct line {
        char *path;
        enum step_status status;
        char *output; /* of loops, else NULL */
    } lines[20000];
    size_t line_count;
};

static struct end eval_scope(struct model *m, const struct scope *scope, const char *prefix, int index, char **output);

static bool edge_holds(const struct step *parent, const struct outcome *o, int accepts)
{
    static const struct {
        enum step_status status;
        int bit;
    } bits[] = {{STEP_SUCCEEDED, A_SUCCEEDED},
                {STEP_FAILED, A_FAILED},
                {STEP_SKIPPED, A_SKIPPED},
                {STEP_TIMED_OUT, A_TIMED_OUT},
                {STEP_OUTCOME_UNKNOWN, A_UNKNOWN}};

    for (size_t i = 0; i < 5; i++)
        if (o->status == bits[i].status && (accepts & bits[i].bit) != 0)
            return true;
    return o->status == STEP_SUCCEEDED && parent->kind == CONDITION &&
           (accepts & (parent->branch ? A_TRUE : A_FALSE)) != 0;
}

static void eval_loop(struct model *m, const struct step *s, const char *path, struct outcome *o)
{
    size_t first_line = m->line_count;
    struct buf out;

    buf_init(&out, 1 << 20);
    o->status = STEP_SUCCEEDED;
    buf_append_str(&out, STR("["));
    for (int k = 0; k < s->items; k++) {
        char *item = arena_alloc(m->arena, 256), *output = NULL;
        struct end end;
        (void)snprintf(item, 256, "%s[%d].", path, k);
        end = eval_scope(m, s->body, item, k, &output);
        o->partial = o->partial || end.partial || end.failed;
        if (end.failed && !s->go_on_items)
            o->status = STEP_FAILED;
        buf_printf(&out, "%s%s", k == 0 ? "" : ",", end.failed ? "null" : output);
    }
    buf_append_str(&out, STR("]"));
    if (o->status == STEP_FAILED) { /* the first failure stopped the others wherever they were */
        o->partial = false;
        m->line_count = first_line;
    }
    o->output = o->status == STEP_FAILED ? UNSAID : arena_dup(m->arena, out.ptr, out.len);
    buf_deinit(&out);
}

static struct outcome eval_step(struct model *m, const struct scope *scope, int i, const struct outcome *before,
                                const char *prefix, int index)
{
    const struct step *s = &scope->steps[i];
    struct outcome o = {.status = STEP_SKIPPED, .output = "null"};
    char *path = arena_alloc(m->arena, 256);
    int accepted = 0;

    (void)snprintf(path, 256, "%ss%d", prefix, i);
    for (int e = 0; e < s->parent_count; e++)
        accepted += edge_holds(&scope->steps[s->parents[e]], &before[s->parents[e]], s->accepts[e]);
    if (s->parent_count > 0 && (s->join_any ? accepted == 0 : accepted < s->parent_count))
        return o;
    if (s->has_when && !s->when)
        return o;
    o.status = STEP_SUCCEEDED;
    if (s->kind == TASK) {
        o.status = fate(m->salt, path, s->at_most_once);
        if (o.status == STEP_SUCCEEDED)
            o.output = arena_printf(m->arena, "\"%s\"", path);
    } else if (s->kind == TRANSFORM) {
        o.output = !s->branch ? "[1.50]" : index < 0 ? "null" : arena_printf(m->arena, "%d", index);
    } else if (s->kind == LOOP) {
        eval_loop(m, s, path, &o);
    }
    return o;
}

static bool was_handled(const struct scope *scope, const struct outcome *o, int i)
{
    for (int c = i + 1; c < scope->count; c++)
        for (int e = 0; e < scope->steps[c].parent_count; e++)
            if (scope->steps[c].parents[e] == i && o[c].status != STEP_SKIPPED &&
                edge_holds(&scope->steps[i], &o[i], scope->steps[c].accepts[e]))
                return true;
    return false;
}

/* The output of the last steps: the one that is alone, or an object of all. */
static char *last_outputs(struct model *m, const struct scope *scope, const struct outcome *o)
{
    bool needed[MAX_STEPS] = {false};
    int last = 0, count = 0;
    struct buf out;
    char *text;

    for (int i = 0; i < scope->count; i++)
        for (int e = 0; e < scope->steps[i].parent_count; e++)
            needed[scope->steps[i].parents[e]] = true;
    for (int i = 0; i < scope->count; i++)
        if (!needed[i]) {
            last = i;
            count++;
        }
    if (count == 1)
        return o[last].output;
    buf_init(&out, 1 << 20);
    for (int i = 0; i < scope->count; i++)
        if (!needed[i])
            buf_printf(&out, "%s\"s%d\":%s", out.len == 0 ? "{" : ",", i, o[i].output);
    buf_append_str(&out, STR("}"));
    text = arena_dup(m->arena, out.ptr, out.len);
    buf_deinit(&out);
    return text;
}

static struct end eval_scope(struct model *m, const struct scope *scope, const char *prefix, int index, char **output)
{
    struct outcome o[MAX_STEPS] = {0};
    struct end end = {false, false};
    size_t first_line = m->line_count;

    for (int i = 0; i < scope->count; i++)
        o[i] = eval_step(m, scope, i, o, prefix, index);
    for (int i = 0; i < scope->count; i++) {
        bool failure =
            o[i].status == STEP_FAILED || o[i].status == STEP_TIMED_OUT || o[i].status == STEP_OUTCOME_UNKNOWN;
        end.partial = end.partial || o[i].partial;
        if (!failure || was_handled(scope, o, i))
            continue;
        if (scope->steps[i].go_on)
            end.partial = true;
        else
            end.failed = true;
    }
    if (end.failed) /* what else there is to say depends on the order of things */
        m->line_count = first_line;
    for (int i = 0; !end.failed && i < scope->count; i++) {
        assert_true(m->line_count < sizeof(m->lines) / sizeof(m->lines[0]));
        m->lines[m->line_count++] =
            (struct line){.path = arena_printf(m->arena, "%ss%d", prefix, i),
                          .status = o[i].status,
                          .output = scope->steps[i].kind == LOOP && o[i].status == STEP_SUCCEEDED ? o[i].output : NULL};
    }
    *output = last_outputs(m, scope, o);
    return end;
}

/* ---- the run ---- */

static bool is_at_most_once(const struct world *w, uint32_t node)
{
    return run_plan_step(w->state, node)->at_most_once;
}

/* Is there a task whose answer moves the run on? */
static bool has_task(const struct world *w)
{
    for (size_t i = 0; i < w->row_count; i++)
        if (w->rows[i].kind == WORK_TASK)
            return true;
    return false;
}

/* Somebody pauses the run now and then. What is answered meanwhile counts, and in the end it makes no difference. */
static void meddle(struct rnd *r, struct world *w)
{
    size_t begun = world_count(w, EVENT_STEP_DISPATCHED, NULL);

    if (w->state->status != RUN_PAUSED && draw(r, 16) == 0) {
        world_pause(w);
        assert_int_equal(world_count(w, EVENT_STEP_DISPATCHED, NULL), begun);
    } else if (w->state->status == RUN_PAUSED && (draw(r, 6) == 0 || !has_task(w))) {
        world_resume(w);
    }
}

/* Answers open tasks in random order until none is left. Now and then another scheduler takes over. */
static void drive(struct rnd *r, struct world *w, uint64_t salt)
{
    world_start(w);
    while (w->row_count > (w->state->timeout_seq != 0)) {
        const struct world_row *row = &w->rows[draw(r, (uint32_t)w->row_count)];
        uint32_t node = engine_find_row(w->state, row->seq);
        struct buf path;
        enum step_status end;
        if (node == NO_NODE || row->kind != WORK_TASK)
            continue;
        buf_init(&path, STEP_PATH_SIZE);
        run_step_path(w->state, node, &path);
        end = fate(salt, path.ptr, is_at_most_once(w, node));
        if (run_step(w->state, node)->status == STEP_QUEUED && (end == STEP_OUTCOME_UNKNOWN || draw(r, 4) == 0))
            world_begin(w, path.ptr, "w1");
        else if (end == STEP_FAILED)
            world_fail(w, path.ptr, "permanent", "http_404", true, true);
        else if (end == STEP_TIMED_OUT)
            world_fail(w, path.ptr, "transient", "timeout", true, false);
        else if (end == STEP_OUTCOME_UNKNOWN)
            world_lost(w, path.ptr);
        else
            world_succeed(w, path.ptr, arena_printf(w->arena, "\"%s\"", path.ptr));
        buf_deinit(&path);
        if (draw(r, 32) == 0)
            world_reload(w);
        meddle(r, w);
    }
}

/* The newest outcome that history holds of each path. */
static const struct event *outcome_of(const struct world *w, const char *path)
{
    for (size_t i = w->history_count; i > 0; i--)
        if (w->history[i - 1].type >= EVENT_STEP_SUCCEEDED && w->history[i - 1].type <= EVENT_STEP_OUTCOME_UNKNOWN &&
            str_is(w->history[i - 1].step, path))
            return &w->history[i - 1];
    return NULL;
}

static enum step_status status_of(enum event_type type)
{
    switch (type) {
    case EVENT_STEP_SUCCEEDED:
        return STEP_SUCCEEDED;
    case EVENT_STEP_FAILED:
        return STEP_FAILED;
    case EVENT_STEP_TIMED_OUT:
        return STEP_TIMED_OUT;
    case EVENT_STEP_SKIPPED:
        return STEP_SKIPPED;
    case EVENT_STEP_CANCELLED:
        return STEP_CANCELLED;
    default:
        return STEP_OUTCOME_UNKNOWN;
    }
}

static void complain(const struct line *line, const struct event *event, const char *output, const char *doc)
{
    fprintf(stderr, "%s: the model says %s %s, the run %s %s\n%s\n", line->path, step_status_name(line->status),
            line->output == NULL ? "" : line->output,
            event == NULL ? "nothing" : step_status_name(status_of(event->type)), output, doc);
    fail();
}

static void compare(const struct model *m, struct world *w, const char *doc)
{
    for (size_t i = 0; i < m->line_count; i++) {
        const struct line *line = &m->lines[i];
        const struct event *event = outcome_of(w, line->path);
        const char *output = line->output == NULL || strchr(line->path, '.') != NULL ? "" : world_output(w, line->path);
        if (event == NULL || status_of(event->type) != line->status ||
            (output[0] != '\0' && strstr(line->output, UNSAID) == NULL && strcmp(output, line->output) != 0))
            complain(line, event, output, doc);
    }
}

struct tally {
    int refused, ends[3];
    size_t lines, events;
};

static void one_case(struct rnd *r, struct tally *tally, bool checked)
{
    static struct model model;
    struct arena *arena = arena_new(1 << 14);
    struct scope *scope = make_scope(r, arena, 0);
    struct end end;
    struct world w;
    struct buf doc;
    char *output;

    model.arena = arena;
    model.salt = ((uint64_t)draw(r, UINT32_MAX) << 32) | draw(r, UINT32_MAX);
    model.line_count = 0;
    buf_init(&doc, 1 << 20);
    buf_append_str(&doc, STR("{\"name\":\"x\","));
    write_steps(scope, &doc);
    buf_append_str(&doc, STR("}"));
    if (strstr(faults_of(arena, doc.ptr), "unreachable_step") != NULL) { /* branches that exclude each other */
        tally->refused++;
        buf_deinit(&doc);
        arena_free(arena);
        return;
    }
    end = eval_scope(&model, scope, "", -1, &output);
    world_init(&w, doc.ptr);
    w.unchecked = !checked;
    drive(r, &w, model.salt);
    world_check(&w);
    if (w.state->status != (end.failed ? RUN_FAILED : end.partial ? RUN_PARTIALLY_COMPLETED : RUN_SUCCEEDED)) {
        fprintf(stderr, "the run ended %s\n%s\n", run_status_name((enum run_status)w.state->status), doc.ptr);
        fail();
    }
    if (!end.failed)
        compare(&model, &w, doc.ptr);
    tally->ends[end.failed ? 0 : end.partial ? 1 : 2]++;
    tally->lines += end.failed ? 0 : model.line_count;
    tally->events += w.history_count;
    world_deinit(&w);
    buf_deinit(&doc);
    arena_free(arena);
}

static void random_workflows_end_as_the_model_says(void **unused)
{
    const char *seed = getenv("ROPEWALK_TEST_SEED");
    struct rnd r = {seed == NULL ? 20261121 : strtoull(seed, NULL, 10)};
    struct tally tally = {0};
    clock_t begin = clock();
    double seconds;

    (void)unused;
    for (int i = 0; i < CASES; i++)
        one_case(&r, &tally, i % 8 == 0);
    seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    printf("%d workflows (%d failed, %d partial, %d well, %d refused), %zu outcomes compared, %zu events, %.0f "
           "workflows/s\n",
           CASES, tally.ends[0], tally.ends[1], tally.ends[2], tally.refused, tally.lines, tally.events,
           CASES / seconds);
    for (int i = 0; i < 3; i++)
        assert_true(tally.ends[i] > CASES / 30);
    assert_true(tally.lines > 4 * CASES && tally.refused < CASES / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_workflows_end_as_the_model_says)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
