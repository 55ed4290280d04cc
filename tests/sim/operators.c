/* What operators ask for that is about more than one run as it is: the same of all at once, a run that does again what
 * another did, another limit for the organisation. What is asked of one run by itself is in load.c. */
#include "common/engine/rerun.h"
#include "tests/sim/sim.h"

#include "common/base/banned.h"

#define GIVEN_MAX ((size_t)16 << 20)
#define HEARD_MAX (5 * SEC)  /* until schedulers know of an organisation's new limits */
#define LOOKS_MAX (15 * SEC) /* until the watch lets in who may go on by them */

/* ---- the same of all runs ---- */

struct many {
    const char *kind;
    struct str body;
};

/* One transaction: of all that there are at this moment, or of none. */
static void accept_many(struct sim *sim, void *what)
{
    const struct many *many = what;

    if (sim->db.down_until > sim->now) {
        sim_at(sim, sim->db.down_until + MS, NULL, accept_many, what);
        return;
    }
    sim_trace(sim, "somebody asks to %s all runs", many->kind);
    for (uint32_t i = 0; i < sim->db.run_count; i++) {
        const struct db_run *run = sim->db.runs[i];

        if (run->created_at == 0 || (strcmp(many->kind, "retry") == 0) != run_ended(run->status))
            continue;
        (void)db_command_add(sim, i, many->kind, many->body, STR_NONE);
        load_nudge(sim, run->shard);
        stats_operation(sim, OPERATION_BULK);
    }
}

void operators_ask_all(struct sim *sim, struct rng *rng)
{
    static const char *const kinds[] = {"cancel", "pause", "pause", "retry"};
    struct many *many = sim_new(sim, struct many), *after;

    many->kind = kinds[rng_below(rng, 4)];
    many->body = strcmp(many->kind, "retry") == 0 ? STR("{\"confirm\":true}") : STR_NONE;
    sim_at(sim, sim->now, NULL, accept_many, many);
    if (strcmp(many->kind, "pause") != 0)
        return;
    after = sim_new(sim, struct many);
    after->kind = "resume";
    sim_at(sim, sim->now + rng_between(rng, 0, 5 * SEC), NULL, accept_many, after);
}

/* ---- a run that does again what another did ---- */

static void put_given(struct jw *w, struct sim *sim, const struct db_run *old, uint32_t node)
{
    const struct plan_step *plan = &old->plan->steps[node];
    const struct past_step *step = history_step(old->history, plan->name);
    struct str data = step->ended_seq == 0 ? STR_NONE : old->events[step->ended_seq - 1].data;

    jw_obj(w);
    jw_kstr(w, "step", plan->name);
    jw_kcstr(w, "as", step_status_name(step->status));
    if (step->branch != NO_BRANCH)
        jw_kstr(w, "branch", plan->branches[step->branch]);
    jw_kraw(w, "code", jt_get(data, "code"));
    jw_kraw(w, "message", jt_get(data, "message"));
    jw_kraw(w, "detail", jt_get(data, "detail"));
    jw_kraw(w, "output", check_output_of(sim, old, step));
    jw_end_obj(w);
}

/* STR_NONE: it cannot be done again so. "": all of it is done. */
static struct str given_of(struct sim *sim, const struct db_run *old, struct str from)
{
    struct rerun rerun = {.old = old->state, .plan = old->plan, .from = from};
    struct str text;
    struct buf out;
    struct jw w;

    rerun_plan(&rerun, sim->arena);
    if (rerun.fault_count > 0)
        return STR_NONE;
    if (rerun.whole)
        return STR("");
    buf_init(&out, GIVEN_MAX);
    w = jw_to(&out);
    jw_arr(&w);
    for (uint32_t i = 0; i < old->plan->root_count; i++)
        if (rerun.steps[old->plan->scopes[0].topological[i]].what != RERUN_DONE)
            put_given(&w, sim, old, old->plan->scopes[0].topological[i]);
    jw_end_arr(&w);
    text = str_arena(sim->arena, buf_str(&out));
    buf_deinit(&out);
    return text;
}

void operators_rerun(struct sim *sim, struct rng *rng, const struct db_run *old)
{
    struct str from =
        rng_chance(rng, 7000) ? old->plan->steps[rng_below(rng, (uint32_t)old->plan->root_count)].name : STR_NONE;
    struct str given;
    struct db_run *run;

    if (old->history == NULL || !run_ended(old->status) || old->parent != NULL || sim->db.run_count >= RERUNS_UP_TO)
        return;
    given = given_of(sim, old, from);
    if (given.ptr == NULL)
        return;
    run = db_run_add(sim, load_make_id(rng), old->workflow, old->version);
    run->input = old->input;
    run->priority = old->priority;
    run->given = given.len == 0 ? STR_NONE : given;
    stats_operation(sim, OPERATION_RERUN);
    if (given.len == 0)
        load_start(sim, run);
    else
        load_request(sim, run, "begin", str_of(arena_printf(sim->arena, "{\"given\":" STR_FMT "}", STR_ARG(given))));
}

/* What a rerun is given is what was copied for it when it was asked for, however late it begins. */
void check_given(struct sim *sim, const struct db_run *run, const struct event *event)
{
    struct jt_iter it;
    struct str output = event->output.ptr == NULL ? STR("null") : event->output;

    for (jt_iter_init(&it, run->given); jt_next(&it);) {
        struct str step = STR_NONE, expected = jt_get(it.value, "output");

        if (!jt_string(jt_get(it.value, "step"), sim->arena, &step) || !str_eq(step, event->step))
            continue;
        if (!str_eq(output, expected.ptr == NULL ? STR("null") : expected))
            sim_fail(sim, "run %u is given " STR_FMT " as the output of " STR_FMT ", and it was " STR_FMT, run->number,
                     STR_ARG(output), STR_ARG(step), STR_ARG(expected));
        return;
    }
    sim_fail(sim, "run %u is given an outcome of " STR_FMT ", which it was not to have", run->number,
             STR_ARG(event->step));
}

/* ---- limits of the organisation ---- */

static void set_limits(struct sim *sim, struct rng *rng)
{
    struct buf text;
    struct jw w;

    sim->db.max_running_runs = rng_chance(rng, 7000) ? 1 + rng_below(rng, 3) : 0;
    if (sim->db.max_running_runs == 0)
        sim->db.most_running_runs = UINT32_MAX;
    else if (sim->db.max_running_runs > sim->db.most_running_runs)
        sim->db.most_running_runs = sim->db.max_running_runs;
    buf_init(&text, 4096);
    w = jw_to(&text);
    jw_obj(&w);
    if (sim->db.max_running_runs != 0)
        jw_ki64(&w, "max_running_runs", sim->db.max_running_runs);
    if (rng_chance(rng, 3000))
        jw_ki64(&w, "foreach_items", 1 + rng_below(rng, 3));
    if (rng_chance(rng, 3000))
        jw_ki64(&w, "child_levels", rng_below(rng, 3));
    if (rng_chance(rng, 3000))
        jw_ki64(&w, "list_bytes", 1024);
    jw_end_obj(&w);
    sim->db.limits = str_arena(sim->arena, buf_str(&text));
    buf_deinit(&text);
    sim_trace(sim, "the organisation's limits are " STR_FMT, STR_ARG(sim->db.limits));
}

void operators_make_limits(struct sim *sim, struct rng *rng)
{
    if (rng_chance(rng, 1500))
        set_limits(sim, rng);
}

struct news {
    struct node *node;
    struct str limits;
};

static void hear(struct sim *sim, void *what)
{
    const struct news *news = what;
    const struct sched_organisation row = {.id = 1, .weight = 1, .limits = news->limits};

    (void)sim;
    sched_on_organisations(news->node->sched, &row, 1);
    node_turn(news->node);
}

/* The watch: keys of an organisation whose limit has been raised or lifted have room for others. */
static void let_in(struct sim *sim, void *what)
{
    char id[UUID_TEXT_SIZE];

    if (sim->db.down_until > sim->now) {
        sim_at(sim, sim->db.down_until + MS, NULL, let_in, what);
        return;
    }
    for (const struct db_admission *a = sim->db.admissions; a != NULL; a = a->next) {
        if (a->gone || a->granted || a->bound != 0 || db_key_is_asked(sim, a->key))
            continue;
        run_id_format(a->key, id);
        (void)db_key_command_add(sim, a->key, "slot_release",
                                 str_of(arena_printf(sim->arena, "{\"run\":\"%s\",\"seq\":0}", id)));
        load_nudge(sim, (int16_t)(run_id_slot(a->key) % SHARDS));
    }
}

void operators_change_limits(struct sim *sim, struct rng *rng)
{
    if (sim->db.down_until > sim->now)
        return; /* 503 */
    set_limits(sim, rng);
    stats_operation(sim, OPERATION_LIMITS);
    for (int i = 0; i < SCHEDULERS; i++) {
        struct news *news = sim_new(sim, struct news);

        *news = (struct news){&sim->nodes[i], sim->db.limits};
        if (news->node->alive) /* otherwise its first run brings them */
            sim_after(sim, 0, HEARD_MAX, news->node, hear, news);
    }
    sim_after(sim, HEARD_MAX, LOOKS_MAX, NULL, let_in, NULL);
}
