/* The rows of a batch. */
#include "tests/sim/model_commit.h"

#include "common/base/banned.h"

const struct db_event *db_find_event(const struct db_run *run, uint32_t seq)
{
    if (seq >= 1 && seq <= run->event_count && run->events[seq - 1].seq == seq)
        return &run->events[seq - 1];
    if (run->event_count == 0 || run->events[run->event_count - 1].seq < seq)
        return NULL;
    for (size_t i = 0; i < run->event_count; i++) /* there are gaps */
        if (run->events[i].seq == seq)
            return &run->events[i];
    return NULL;
}

struct db_work *db_find_work(struct db_run *run, uint32_t seq)
{
    for (size_t i = 0; i < run->work_count; i++)
        if (run->work[i].open && run->work[i].row.seq == seq)
            return &run->work[i];
    return NULL;
}

static void add_dead_letter(struct sim *sim, const struct sched_dead_letter *letter)
{
    struct db *db = &sim->db;

    for (size_t i = 0; i < db->dead_letters && letter->again; i++) {
        const struct sched_dead_letter *old = &db->letters[i];

        if (str_eq(old->source, letter->source) && str_eq(old->type, letter->type) &&
            str_eq(old->message_id, letter->message_id) && str_eq(old->body, letter->body))
            return;
    }
    if (db->dead_letters == db->letter_cap) {
        struct sched_dead_letter *grown;

        db->letter_cap = db->letter_cap == 0 ? 16 : 2 * db->letter_cap;
        grown = arena_array(sim->arena, db->letter_cap, sizeof(*grown));
        if (db->dead_letters > 0)
            memcpy(grown, db->letters, db->dead_letters * sizeof(*grown));
        db->letters = grown;
    }
    db->letters[db->dead_letters++] =
        (struct sched_dead_letter){.source = str_arena(sim->arena, letter->source),
                                   .type = str_arena(sim->arena, letter->type),
                                   .message_id = str_arena(sim->arena, letter->message_id),
                                   .body = str_arena(sim->arena, letter->body)};
}

static void insert_event(struct sim *sim, const struct sched_event_row *row)
{
    struct db_run *run = db_find(sim, row->run);
    size_t at = run->event_count;

    if (run->event_count == run->event_cap) {
        struct db_event *grown;

        run->event_cap = run->event_cap == 0 ? 32 : 2 * run->event_cap;
        grown = arena_array(sim->arena, run->event_cap, sizeof(*grown));
        if (run->event_count > 0)
            memcpy(grown, run->events, run->event_count * sizeof(*grown));
        run->events = grown;
    }
    while (at > 0 && run->events[at - 1].seq > row->event->seq)
        at--;
    memmove(run->events + at + 1, run->events + at, (run->event_count++ - at) * sizeof(*run->events));
    run->events[at] = (struct db_event){.seq = row->event->seq,
                                        .type = (int16_t)row->event->type,
                                        .at = row->event->at.us,
                                        .step = row->event->step,
                                        .data = row->data,
                                        .output = row->event->output,
                                        .attempt = row->event->attempt};
}

static void insert_work(struct sim *sim, const struct sched_open_row *row)
{
    struct db_run *run = db_find(sim, row->run);

    if (run->work_count == run->work_cap) {
        struct db_work *grown;

        run->work_cap = run->work_cap == 0 ? 16 : 2 * run->work_cap;
        grown = arena_array(sim->arena, run->work_cap, sizeof(*grown));
        if (run->work_count > 0)
            memcpy(grown, run->work, run->work_count * sizeof(*grown));
        run->work = grown;
    }
    run->work[run->work_count] = (struct db_work){.open = true, .row = *row};
    if (row->kind != WORK_TASK)
        run->work[run->work_count].row.priority = 0;
    if (row->kind == WORK_EVENT)
        db_wait_opened(sim, run, &run->work[run->work_count]);
    run->work_count++;
}

struct db_command *db_find_command(struct sim *sim, struct sched_command_key key)
{
    return key.id >= 1 && (size_t)key.id <= sim->db.command_count ? &sim->db.commands[key.id - 1] : NULL;
}

/* Why it is not started; NULL: it is. */
const char *db_child_fault(struct sim *sim, const struct sched_child_row *row)
{
    const struct db_workflow *workflow = db_workflow_find(sim, row->workflow);

    if (workflow == NULL)
        return "unknown_workflow";
    if (workflow->disabled)
        return "workflow_disabled";
    return row->version > workflow->version_count ? "unknown_version" : NULL;
}

static const char *fault_message(struct sim *sim, const struct sched_child_row *row, const char *fault)
{
    if (strcmp(fault, "unknown_workflow") == 0)
        return arena_printf(sim->arena, "there is no workflow '" STR_FMT "'", STR_ARG(row->workflow));
    if (strcmp(fault, "workflow_disabled") == 0)
        return arena_printf(sim->arena, "workflow '" STR_FMT "' is disabled", STR_ARG(row->workflow));
    return arena_printf(sim->arena, "workflow '" STR_FMT "' has no version %d", STR_ARG(row->workflow), row->version);
}

/* A child run and its command, or the news for the parent that there is none: batch_child_start.sql. */
static void insert_child(struct sim *sim, const struct sched_child_row *row)
{
    const struct db_workflow *workflow = db_workflow_find(sim, row->workflow);
    const char *fault = db_child_fault(sim, row);
    struct db_run *parent = db_find(sim, row->parent), *run;
    char id[UUID_TEXT_SIZE];

    run_id_format(row->run, id);
    if (row->depth != parent->depth + 1 || row->depth > LIMITS_DEFAULT.of[LIMIT_CHILD_LEVELS] ||
        row->shard != parent->shard || (int16_t)(run_id_slot(row->run) % SHARDS) != parent->shard)
        sim_fail(sim, "child %s of run %u is in another shard, or too deep", id, parent->number);
    if (fault != NULL) {
        (void)db_command_add(
            sim, parent->number, "child_ended",
            str_of(arena_printf(sim->arena,
                                "{\"child\":\"%s\",\"step\":\"" STR_FMT
                                "\",\"status\":\"failed\",\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}",
                                id, STR_ARG(row->parent_step), fault, fault_message(sim, row, fault))),
            STR_NONE);
        return;
    }
    run = db_run_add(sim, row->run, workflow, row->version == 0 ? workflow->version_count : row->version);
    run->parent = parent;
    run->parent_step = row->parent_step;
    run->trigger =
        str_of(arena_printf(sim->arena, "{\"name\":\"" STR_FMT "\",\"kind\":\"workflow\"}", STR_ARG(row->parent_step)));
    run->depth = row->depth;
    run->priority = row->priority;
    run->input = row->input;
    run->created_at = row->created_at.us;
    sim->stats->children++;
    (void)db_command_add(sim, run->number, "start", STR_NONE, STR_NONE);
}

static struct str end_output(const struct db_run *run)
{
    for (size_t i = run->event_count; i > 0; i--)
        if (run->events[i - 1].type == EVENT_RUN_SUCCEEDED && run->events[i - 1].output.ptr != NULL)
            return run->events[i - 1].output;
    return STR("null");
}

/* The child is retried; what has succeeded after all, or never was, is told to its parent: batch_command_insert.sql. */
static void retry_child(struct sim *sim, const struct sched_command_insert *row, const struct db_run *child)
{
    struct str step = jt_get(row->body, "step"), retries = jt_get(row->body, "retries"), text = STR_NONE;
    struct run_id parent;
    char id[UUID_TEXT_SIZE];
    const struct db_run *run;
    const char *body;

    if (child != NULL && child->status != RUN_SUCCEEDED) {
        (void)db_command_add(sim, child->number, "retry", row->body, STR_NONE);
        return;
    }
    run = jt_string(jt_get(row->body, "parent"), sim->arena, &text) && run_id_parse(text, &parent)
              ? db_find(sim, parent)
              : NULL;
    if (run == NULL) {
        sim_fail(sim, "a child is to be retried, and nobody waits for it");
        return;
    }
    run_id_format(row->run, id);
    if (child == NULL)
        body = arena_printf(sim->arena,
                            "{\"child\":\"%s\",\"step\":" STR_FMT ",\"status\":\"failed\",\"retries\":" STR_FMT
                            ",\"refused\":true,\"error\":{\"code\":\"child_gone\",\"message\":\"it is gone\"}}",
                            id, STR_ARG(step), STR_ARG(retries));
    else
        body = arena_printf(sim->arena,
                            "{\"child\":\"%s\",\"step\":" STR_FMT ",\"status\":\"succeeded\",\"retries\":" STR_FMT
                            ",\"output\":" STR_FMT "}",
                            id, STR_ARG(step), STR_ARG(retries), STR_ARG(end_output(child)));
    (void)db_command_add(sim, run->number, "child_ended", str_of(body), STR_NONE);
}

void db_insert_command(struct sim *sim, const struct sched_command_insert *row)
{
    struct db_run *run = db_find(sim, row->run);
    char text[UUID_TEXT_SIZE + 2];
    int64_t id;

    if (strcmp(row->kind, "slot_ask") == 0 || strcmp(row->kind, "slot_release") == 0) {
        (void)db_key_command_add(sim, row->run, row->kind, row->body);
        return;
    }
    if (strcmp(row->kind, "child_retry") == 0) {
        retry_child(sim, row, run);
        return;
    }
    if (run == NULL || run->created_at == 0)
        return;
    id = db_command_add(sim, run->number, row->kind, row->body, STR_NONE);
    sim->db.commands[id - 1].held = row->held;
    if (strcmp(row->kind, "child_ended") != 0 || str_is(jt_get(row->body, "refused"), "true"))
        return;
    for (uint32_t i = 0; i < sim->db.run_count; i++) {
        text[0] = '"';
        run_id_format(sim->db.runs[i]->id, text + 1);
        text[UUID_TEXT_SIZE] = '"';
        if (str_eq(jt_get(row->body, "child"), (struct str){text, UUID_TEXT_SIZE + 1}))
            sim->db.runs[i]->told++;
    }
}

static void mark_command(struct sim *sim, struct sched_command_key key, bool deleted)
{
    struct db_command *command = db_find_command(sim, key);

    if (command != NULL && deleted)
        command->deleted = true;
    else if (command != NULL)
        command->held = true;
}

/* Of an event in the same transaction, to which others are told of. */
static void insert_notice(struct sim *sim, const struct sched_notice *notice)
{
    struct db_run *run = db_find(sim, notice->run);

    for (size_t i = 0; run != NULL && i < run->event_count; i++)
        if (run->events[i].seq == notice->seq) {
            run->events[i].notices++;
            return;
        }
    sim_fail(sim, "a notice of event %u, which is not in the history", notice->seq);
}

void db_write_rows(struct sim *sim, const struct sched_batch *b)
{
    for (size_t i = 0; i < b->event_count && !sim->failed; i++)
        insert_event(sim, &b->events[i]);
    for (size_t i = 0; i < b->notice_count && !sim->failed; i++)
        insert_notice(sim, &b->notices[i]);
    for (size_t i = 0; i < b->close_count; i++) {
        struct db_work *row = db_find_work(db_find(sim, b->closes[i].run), b->closes[i].seq);

        if (row != NULL)
            row->open = false;
    }
    for (size_t i = 0; i < b->open_count; i++)
        insert_work(sim, &b->opens[i]);
    for (size_t i = 0; i < b->change_count; i++) {
        struct db_work *row = db_find_work(db_find(sim, b->changes[i].run), b->changes[i].seq);

        if (row == NULL || row->row.dispatch > b->changes[i].dispatch)
            continue;
        row->row.dispatch = b->changes[i].dispatch;
        row->row.due_at = b->changes[i].due_at;
        row->row.reason = b->changes[i].reason;
    }
    for (size_t i = 0; i < b->run_count; i++) {
        struct db_run *run = db_find(sim, b->runs[i].run);

        run->status = b->runs[i].status;
        if (b->runs[i].ended_at.us != 0 || b->runs[i].reopened)
            run->ended_at = b->runs[i].ended_at.us;
    }
    for (size_t i = 0; i < b->command_delete_count; i++)
        mark_command(sim, b->command_deletes[i], true);
    for (size_t i = 0; i < b->command_hold_count; i++)
        mark_command(sim, b->command_holds[i], false);
    for (size_t i = 0; i < b->child_count; i++)
        insert_child(sim, &b->children[i]);
    for (size_t i = 0; i < b->command_insert_count; i++) {
#ifdef PLANT_TELL_EARLY
        if (strcmp(b->command_inserts[i].kind, "child_ended") == 0)
            continue;
#endif
        db_insert_command(sim, &b->command_inserts[i]);
    }
    for (size_t i = 0; i < b->quarantine_count; i++) {
        struct db_run *run = db_find(sim, b->quarantines[i].run);

        if (run != NULL)
            run->quarantined = true;
    }
    for (size_t i = 0; i < b->release_count; i++) {
        struct db_run *run = db_find(sim, b->releases[i].run);

        run->quarantined = false;
        sim->stats->released++;
        run->refuses = false; /* whoever released it has mended what was wrong */
        for (size_t c = 0; c < sim->db.command_count; c++)
            if (sim->db.commands[c].run == run->number)
                sim->db.commands[c].held = false;
    }
    for (size_t i = 0; i < b->dead_letter_count; i++)
        add_dead_letter(sim, &b->dead_letters[i]);
    sim->db.changed = true;
}
