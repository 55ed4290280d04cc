/* Is what steps and runs give what the documents say? Looks at the transforms that documents.c writes, at whose values
 * the world has no hand in, and at outputs that are handed on: of steps, signals, iterations and whole loops. */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

static struct str output_at(const struct db_run *run, uint32_t seq)
{
    struct str output = seq == 0 ? STR_NONE : run->events[seq - 1].output;

    return output.ptr == NULL ? STR("null") : output;
}

static void put_list(const struct db_run *run, const struct past_step *loop, struct buf *out)
{
    buf_append_char(out, '[');
    for (uint32_t i = 0; i < loop->count; i++) {
        const struct past_place *item = loop->items[i];

        if (i > 0)
            buf_append_char(out, ',');
        buf_append_str(out, item != NULL && item->status == STEP_SUCCEEDED && !item->again
                                ? output_at(run, item->output_seq)
                                : STR("null"));
    }
    buf_append_char(out, ']');
}

/* What `.steps.NAME.output` reads. */
struct str check_output_of(struct sim *sim, const struct db_run *run, const struct past_step *step)
{
    struct str text;
    struct buf list;

    if (step->plan->kind != CALL_FOREACH || step->count == 0)
        return step->status == STEP_SUCCEEDED ? output_at(run, step->output_seq) : STR("null");
    if (!step_ended(step->status))
        return STR("null");
    buf_init(&list, (size_t)1 << 20);
    put_list(run, step, &list);
    text = str_arena(sim->arena, buf_str(&list));
    buf_deinit(&list);
    return text;
}

static const struct past_step *visible(const struct db_run *run, const struct past_place *place, struct str name)
{
    for (; place != NULL; place = place->owner == NULL ? NULL : place->owner->place) {
        uint32_t at = plan_find_in(run->plan, place->scope, name);

        if (at != NO_NODE)
            return &place->steps[at - run->plan->scopes[place->scope].first];
    }
    return NULL;
}

/* The step whose output the template is as a whole; NULL: it is something else. */
static const struct past_step *handed_on(const struct db_run *run, const struct past_place *place,
                                         const struct template *t)
{
    const struct expr *expr = t->exprs;

    if (!template_is_expression(t) || !expr->native || expr->part_count != 3 || !str_is(expr->parts[0].key, "steps") ||
        !str_is(expr->parts[2].key, "output"))
        return NULL;
    return visible(run, place, expr->parts[1].key);
}

static void expect(struct sim *sim, const struct db_run *run, const struct event *event, const char *what,
                   struct str given, struct str expected)
{
    if (given.ptr == NULL)
        given = STR("null");
    if (!str_eq(given, expected))
        sim_fail(sim, "run %u: event %u of step " STR_FMT ": %s is " STR_FMT ", and should be " STR_FMT, run->number,
                 event->seq, STR_ARG(event->step), what, STR_ARG(given), STR_ARG(expected));
}

static void check_echo(struct sim *sim, const struct db_run *run, const struct past_step *step,
                       const struct event *event)
{
    struct str x = jt_get(run->input, "x");
    char id[UUID_TEXT_SIZE];

    run_id_format(run->id, id);
    expect(sim, run, event, "'x'", jt_get(event->output, "x"), x.ptr == NULL ? STR("null") : x);
    expect(sim, run, event, "'run'", jt_get(event->output, "run"), str_of(arena_printf(sim->arena, "\"%s\"", id)));
    if (step->place->owner == NULL)
        return;
    expect(sim, run, event, "'index'", jt_get(event->output, "index"),
           str_of(arena_printf(sim->arena, "%u", step->place->index)));
    expect(sim, run, event, "'item'", jt_get(event->output, "item"),
           jt_at(output_at(run, step->place->owner->begun_seq), step->place->index));
}

/* ---- events ---- */

static bool passes(struct sim *sim, const struct db_run *run, const struct past_step *step,
                   const struct db_incoming *event)
{
    const struct plan_event *wanted = &step->plan->event;
    struct str document, value;
    const char *index = step->place->owner == NULL ? "null" : arena_printf(sim->arena, "%u", step->place->index);

    if (!wanted->has_filter)
        return true;
    document = str_of(arena_printf(sim->arena, "{\"event\":" STR_FMT ",\"input\":" STR_FMT ",\"index\":%s}",
                                   STR_ARG(event->json), STR_ARG(run->input), index));
    return world_evaluate(sim->arena, wanted->filter.exprs[0].source, document, &value) && str_is(value, "true");
}

/* The oldest that it may have been woken by: before it had looked for what came before, those of its time; then all. */
static const struct db_incoming *oldest(struct sim *sim, const struct db_run *run, const struct past_step *step,
                                        const struct db_work *work)
{
    for (size_t i = 0; i < sim->db.incoming_count; i++) {
        const struct db_incoming *event = &sim->db.incoming[i];

        if (db_waits_for(work, event) && (i >= work->seen || event->at >= work->since) && passes(sim, run, step, event))
            return event;
    }
    return NULL;
}

/* What was held comes after the release, and what has come meanwhile may be there before it. */
static bool was_released(struct sim *sim, const struct db_run *run)
{
    struct str code = STR_NONE;

    for (size_t i = 0; i < run->event_count; i++)
        if (run->events[i].type == EVENT_COMMAND_APPLIED &&
            jt_string(jt_get(run->events[i].data, "code"), sim->arena, &code) && str_is(code, "release"))
            return true;
    return false;
}

/* A step that waits for an event goes on with the oldest that it waits for, but in a run that was quarantined. */
static void check_woken(struct sim *sim, const struct db_run *run, const struct past_step *step,
                        const struct event *event)
{
    const struct db_work *work = NULL;
    const struct db_incoming *expected;

    for (size_t i = 0; i < run->work_count; i++)
        if (run->work[i].row.seq == step->begun_seq)
            work = &run->work[i];
    if (work == NULL) {
        sim_fail(sim, "run %u: step " STR_FMT " went on without a wait for an event", run->number,
                 STR_ARG(event->step));
        return;
    }
    expected = oldest(sim, run, step, work);
    if (expected != NULL && was_released(sim, run))
        return;
    if (expected == NULL || !str_eq(event->output, expected->json))
        sim_fail(sim, "run %u: step " STR_FMT " was woken by " STR_FMT ", and should have been by " STR_FMT,
                 run->number, STR_ARG(event->step), STR_ARG(event->output),
                 STR_ARG(expected == NULL ? STR("nothing") : expected->json));
}

void check_output(struct sim *sim, struct db_run *run, const struct event *event)
{
    const struct past_step *step, *from;
    const struct template *with;

    if (event->type == EVENT_RUN_SUCCEEDED && run->plan->has_output) {
        from = handed_on(run, run->history->root, &run->plan->output);
        if (from != NULL)
            expect(sim, run, event, "the output", event->output, check_output_of(sim, run, from));
        return;
    }
    if (event->type != EVENT_STEP_SUCCEEDED || (step = history_step(run->history, event->step)) == NULL)
        return;
    if (step->plan->kind == CALL_EVENT)
        check_woken(sim, run, step, event);
    if (step->plan->kind != CALL_TRANSFORM)
        return;
    with = &step->plan->with;
    from = handed_on(run, step->place, with);
    if (from != NULL)
        expect(sim, run, event, "the output", event->output, check_output_of(sim, run, from));
    else if (memmem(with->source.ptr, with->source.len, ".run.id", 7) != NULL)
        check_echo(sim, run, step, event);
}
