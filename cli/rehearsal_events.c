/* Events in a rehearsal: who waits for one is told when it comes, or, when it came before, as soon as it waits. */
#include "cli/rehearsal_internal.h"

#include "common/base/banned.h"

static bool fits(const struct plan_event *wanted, const struct heard_event *event)
{
    return str_eq(wanted->type, event->type) && (wanted->source.ptr == NULL || str_eq(wanted->source, event->source));
}

static void tell(struct rehearsed *run, uint32_t seq, const struct heard_event *event)
{
    (void)rehearsal_add_coming(run->world, run, run->world->now,
                               &(struct engine_input){.kind = IN_EVENT, .seq = seq, .value = event->json});
}

void rehearsal_event_comes(struct rehearsal *world, struct str json)
{
    struct heard_event *event = arena_alloc(world->arena, sizeof(*event));

    *event = (struct heard_event){.at = world->now, .json = json};
    (void)jt_string(jt_get(json, "type"), world->arena, &event->type);
    (void)jt_string(jt_get(json, "source"), world->arena, &event->source);
    *world->last_event = event;
    world->last_event = &event->next;
    for (struct rehearsed *run = world->runs; run != NULL; run = run->next) {
        for (size_t i = 0; i < run->row_count; i++) {
            uint32_t node = run->rows[i].kind == WORK_EVENT ? engine_find_row(run->state, run->rows[i].seq) : NO_NODE;

            if (node != NO_NODE && fits(&run_plan_step(run->state, node)->event, event))
                tell(run, run->rows[i].seq, event);
        }
    }
}

void rehearsal_look_back(struct rehearsed *run, uint32_t seq)
{
    const struct rehearsal *world = run->world;
    uint32_t node = engine_find_row(run->state, seq);
    const struct plan_step *step = node == NO_NODE ? NULL : run_plan_step(run->state, node);
    int64_t since;

    if (step == NULL)
        return;
    since = step->look_back_us < 0 ? run->state->created_at.us : world->now.us - step->look_back_us;
    for (const struct heard_event *event = world->events; event != NULL; event = event->next)
        if (event->at.us >= since && fits(&step->event, event))
            tell(run, seq, event);
}
