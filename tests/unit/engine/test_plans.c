/* What :retry and :rerun are said to do is what they then do, for random graphs and every step that a rerun may begin
 * at: what is to be reused is not done, what is done was listed, and of what had been done before it was said that it
 * happens again. */
#include "common/engine/rerun.h"
#include "tests/unit/engine/graph.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define GRAPHS 1500
#define ROUNDS 3

struct trial {
    struct rnd rnd;
    struct graph graph;
    struct buf document;
    struct world world;
};

static struct trial trial = {.rnd = {20261122}};

static const char *name_of(uint32_t step)
{
    static char names[GRAPH_STEPS][16];

    (void)snprintf(names[step], sizeof(names[step]), "s%u", step);
    return names[step];
}

static void draw_outcomes(struct trial *t)
{
    for (int i = 0; i < t->graph.count; i++)
        t->graph.nodes[i].outcome = rnd_below(&t->rnd, 3) == 0 ? FAILS : SUCCEEDS;
}

/* A run that has ended. False: the document is refused, because branches exclude each other. */
static bool begin(struct trial *t)
{
    struct arena *arena = arena_new(4096);
    bool good;

    graph_make(&t->rnd, &t->graph, rnd_below(&t->rnd, 2) == 0);
    buf_init(&t->document, 1 << 16);
    graph_write(&t->graph, &t->document);
    good = strcmp(faults_of(arena, t->document.ptr), "") == 0;
    arena_free(arena);
    if (!good) {
        buf_deinit(&t->document);
        return false;
    }
    world_init(&t->world, t->document.ptr);
    world_start(&t->world);
    graph_answer(&t->rnd, &t->world, &t->graph);
    assert_true(run_ended((enum run_status)t->world.state->status));
    return true;
}

static void end(struct trial *t)
{
    world_deinit(&t->world);
    buf_deinit(&t->document);
}

static size_t times_done(struct world *w, uint32_t step)
{
    return world_count(w, EVENT_STEP_DISPATCHED, name_of(step));
}

/* ---- retries ---- */

/* False: nothing of it is to be done again, and it says so. */
static bool retry_as_planned(struct trial *t)
{
    struct world *w = &t->world;
    struct retry_plan plan;
    const struct retry_step *planned[GRAPH_STEPS] = {NULL};
    size_t before[GRAPH_STEPS];
    uint32_t ended[GRAPH_STEPS];

    engine_plan_retry(w->state, w->arena, &plan);
    for (uint32_t i = 0; i < w->plan->root_count; i++) {
        before[i] = times_done(w, i);
        ended[i] = run_step(w->state, i)->ended_seq;
    }
    for (size_t i = 0; i < plan.count; i++)
        planned[plan.steps[i].node] = &plan.steps[i];
    draw_outcomes(t);
    world_retry(w, "true");
    if (plan.code != NULL) {
        assert_true(str_is(w->history[w->history_count - 1].code, plan.code));
        return false;
    }
    graph_answer(&t->rnd, w, &t->graph);
    assert_true(run_ended((enum run_status)w->state->status));
    for (uint32_t i = 0; i < w->plan->root_count; i++) {
        size_t done = times_done(w, i) - before[i];

        if (planned[i] == NULL)
            assert_true(done == 0 && run_step(w->state, i)->ended_seq == ended[i]);
        else if (done > 0)
            assert_int_equal(planned[i]->again, before[i] > 0);
    }
    return true;
}

static void what_a_retry_is_said_to_do_it_does(void **unused)
{
    int retried = 0, refused = 0;

    (void)unused;
    for (int i = 0; i < GRAPHS; i++) {
        if (!begin(&trial))
            continue;
        for (int round = 0; round < ROUNDS; round++) {
            if (!retry_as_planned(&trial)) {
                refused++;
                break;
            }
            retried++;
        }
        end(&trial);
    }
    assert_true(retried > GRAPHS / 4 && refused > GRAPHS / 4);
}

/* ---- reruns ---- */

/* What the new run is told of the old one's outcomes. */
static struct str given_of(struct world *old, const struct rerun *rerun)
{
    const struct plan_scope *root = &old->plan->scopes[0];
    struct buf out;
    struct str text;
    struct jw w;

    if (rerun->whole)
        return STR_NONE;
    buf_init(&out, 1 << 16);
    w = jw_to(&out);
    jw_arr(&w);
    for (uint32_t i = 0; i < root->count; i++) {
        uint32_t at = root->topological[i];
        const struct step_state *s = run_step(old->state, at);

        if (rerun->steps[at].what == RERUN_DONE)
            continue;
        jw_obj(&w);
        jw_kcstr(&w, "step", name_of(at));
        jw_kcstr(&w, "as", step_status_name((enum step_status)s->status));
        if (s->branch != NO_BRANCH)
            jw_kstr(&w, "branch", old->plan->steps[at].branches[s->branch]);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    text = str_arena(old->arena, buf_str(&out));
    buf_deinit(&out);
    return text;
}

/* whole: nothing was cut short in the old run, and all calls end as they did. So all that is done comes to what it was.
 */
static void compare(struct world *old, struct world *new, const struct rerun *rerun, bool whole, int *ret_again)
{
    for (uint32_t i = 0; i < old->plan->root_count; i++) {
        const struct rerun_step *planned = &rerun->steps[i];
        bool reused = planned->what == RERUN_REUSED, done = times_done(new, i) > 0, before = times_done(old, i) > 0;

        assert_int_equal(world_has(new, EVENT_STEP_GIVEN, name_of(i)), reused);
        if (reused || whole)
            assert_int_equal(run_step(new->state, i)->status, run_step(old->state, i)->status);
        if (reused)
            assert_true(!done && !planned->again);
        else if (done)
            assert_int_equal(planned->again, before);
        if (whole && planned->again)
            assert_true(done);
        *ret_again += planned->again;
    }
}

static void rerun_as_planned(struct trial *t, uint32_t from, int *ret_reused, int *ret_again)
{
    struct world *old = &t->world, new;
    struct rerun rerun = {
        .old = old->state, .plan = old->plan, .from = from == NO_NODE ? STR_NONE : str_of(name_of(from))};

    rerun_plan(&rerun, old->arena);
    assert_int_equal(rerun.fault_count, 0); /* it is the same version, and nothing was undone */
    assert_true(from == NO_NODE ? rerun.whole : rerun.steps[from].what == RERUN_DONE);
    world_init(&new, t->document.ptr);
    world_apply(&new, (struct engine_input){.kind = IN_START, .given = given_of(old, &rerun)});
    graph_answer(&t->rnd, &new, &t->graph);
    assert_true(run_ended((enum run_status) new.state->status));
    compare(old, &new, &rerun, !old->state->root->failing, ret_again);
    *ret_reused += !rerun.whole;
    world_deinit(&new);
}

static void what_a_rerun_is_said_to_do_it_does(void **unused)
{
    int reused = 0, again = 0;

    (void)unused;
    for (int i = 0; i < GRAPHS; i++) {
        if (!begin(&trial))
            continue;
        rerun_as_planned(&trial, NO_NODE, &reused, &again);
        for (uint32_t from = 0; from < trial.world.plan->root_count; from++)
            rerun_as_planned(&trial, from, &reused, &again);
        end(&trial);
    }
    assert_true(reused > GRAPHS && again > GRAPHS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_a_retry_is_said_to_do_it_does),
                                       cmocka_unit_test(what_a_rerun_is_said_to_do_it_does)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
