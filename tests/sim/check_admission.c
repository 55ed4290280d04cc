/* Concurrency limits, as histories and tables show them. */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

static enum admission_scope scope_of(const struct event *event)
{
    return str_is(event->waits, admission_scope_names[ADMISSION_WORKFLOW]) ? ADMISSION_WORKFLOW
                                                                           : ADMISSION_ORGANISATION;
}

/* Runs that were admitted by the key and have not ended, of those whose limit is not higher. Versions of a workflow
 * differ in it, and runs need not hear in the order in which their slots were given; but of those with a limit of n
 * there are at most n. */
static uint32_t going_on(const struct sim *sim, enum admission_scope scope, struct run_id key, uint32_t bound)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < sim->db.run_count; i++) {
        const struct db_run *run = sim->db.runs[i];

        count +=
            run->holds[scope] != 0 && run->holds[scope] <= bound && run_id_eq(run->state->admissions[scope].key, key);
    }
    return count;
}

/* Of the run.queued that was admitted. */
static void admitted(struct sim *sim, struct db_run *run, const struct event *event)
{
    const struct db_event *row = &run->events[event->ref - 1];
    struct event queued = {.seq = row->seq};
    struct err err;
    enum admission_scope scope;
    struct run_id key;

    if (event_decode_data(row->data, sim->arena, &queued, &err) != ERR_OK)
        return;
    scope = scope_of(&queued);
    key = run->state->admissions[scope].key;
    run->holds[scope] = scope == ADMISSION_WORKFLOW ? queued.count : sim->db.most_running_runs;
    for (uint32_t i = 0; i < sim->db.run_count; i++) {
        uint32_t bound = sim->db.runs[i]->holds[scope], now = going_on(sim, scope, key, bound);

        if (bound < now && run_id_eq(sim->db.runs[i]->state->admissions[scope].key, key))
            sim_fail(sim, "run %u is admitted, and now %u runs of its key go on, of which there may be %u", run->number,
                     now, bound);
    }
}

void check_admission(struct sim *sim, struct db_run *run, const struct event *event)
{
    if (event->type == EVENT_RUN_ADMITTED)
        admitted(sim, run, event);
    else if (event_ends_run(event->type))
        memset(run->holds, 0, sizeof(run->holds));
}

static bool is_asked(struct sim *sim, struct run_id key, const struct db_run *run)
{
    char id[UUID_TEXT_SIZE];

    run_id_format(run->id, id);
    for (size_t i = 0; i < sim->db.command_count; i++) {
        const struct db_command *command = &sim->db.commands[i];
        struct str text = STR_NONE;

        if (!command->deleted && command->run == NO_RUN && run_id_eq(command->key, key) &&
            jt_string(jt_get(command->body, "run"), sim->arena, &text) && str_is(text, id))
            return true;
    }
    return false;
}

/* Of who goes on and who waits the key knows, or is about to hear. */
void check_slots(struct sim *sim, const struct db_run *run)
{
    for (int scope = 0; scope < ADMISSION_SCOPES; scope++) {
        const struct admission *admission = &run->state->admissions[scope];
        const struct db_admission *slot = db_find_admission(sim, admission->key, run);

        if (!admission->known || is_asked(sim, admission->key, run))
            continue;
        if (run->state->status == RUN_ACTIVE && run->state->admission_seq == 0 &&
            (!admission->asked || slot == NULL || !slot->granted))
            sim_fail(sim, "run %u goes on without a slot", run->number);
        if (!admission->asked && slot != NULL)
            sim_fail(sim, "run %u has ended, and keeps its slot", run->number);
    }
}

/* All have ended: of those that have not, somebody knows why. */
void check_slots_free(struct sim *sim)
{
    for (const struct db_admission *a = sim->db.admissions; a != NULL && !sim->failed; a = a->next)
        if (!a->gone && run_ended(a->run->status))
            sim_fail(sim, "run %u has ended, and its slot is not free", a->run->number);
}

bool check_waits_behind_excused(struct sim *sim, const struct db_run *run)
{
    const struct db_admission *mine = NULL;

    for (const struct db_admission *a = sim->db.admissions; a != NULL; a = a->next)
        if (!a->gone && !a->granted && a->run == run)
            mine = a;
    for (const struct db_admission *a = sim->db.admissions; mine != NULL && a != NULL; a = a->next)
        if (!a->gone && a->granted && run_id_eq(a->key, mine->key) && check_excused(sim, a->run))
            return true;
    return false;
}
