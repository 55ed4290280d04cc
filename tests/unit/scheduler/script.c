#include "tests/unit/scheduler/script.h"
#include "common/base/ensure.h"
#include "common/base/log.h"

#include "common/base/banned.h"

/* Room for one more in an array of the script's arena. */
#define ROOM(s, array, count, cap)                                                                                     \
    do {                                                                                                               \
        if ((count) == (cap)) {                                                                                        \
            void *grown_ = arena_array((s)->arena, (cap) == 0 ? 64 : 2 * (cap), sizeof(*(array)));                     \
            if ((count) > 0)                                                                                           \
                memcpy(grown_, (array), (count) * sizeof(*(array)));                                                   \
            (array) = grown_;                                                                                          \
            (cap) = (cap) == 0 ? 64 : 2 * (cap);                                                                       \
        }                                                                                                              \
    } while (0)

static struct mono_us port_mono(void *ctx)
{
    return (struct mono_us){((struct script *)ctx)->now};
}

static struct wall_us port_wall(void *ctx)
{
    return (struct wall_us){((struct script *)ctx)->now + 1800000000 * SEC};
}

static void port_fetch(void *ctx, uint64_t fetch, const struct sched_command_want *want)
{
    struct script *s = ctx;

    s->fetch_shard_count = want->shard_count;
    memcpy(s->fetch_shards, want->shards, want->shard_count * sizeof(int16_t));
    s->aside_count = want->aside_count;
    s->asides = arena_array(s->arena, want->aside_count, sizeof(*s->asides));
    if (want->aside_count > 0)
        memcpy(s->asides, want->asides, want->aside_count * sizeof(*s->asides));
    s->fetch_calls++;
    s->fetch = fetch;
    s->fetching = true;
}

static void port_look_back(void *ctx, const int16_t *shards, size_t count)
{
    struct script *s = ctx;

    ENSURE(!s->looking);
    s->looking = true;
    s->look_calls++;
    s->look_shard_count = count;
    memcpy(s->look_shards, shards, count * sizeof(*shards));
}

static void port_load_shard(void *ctx, int16_t shard, int64_t epoch)
{
    struct script *s = ctx;

    s->shards[s->shard_count].shard = shard;
    s->shards[s->shard_count++].epoch = epoch;
}

static void port_load_runs(void *ctx, uint64_t load, const struct run_id *ids, size_t count)
{
    struct script *s = ctx;

    s->load_calls++;
    for (size_t i = 0; i < count; i++) {
        s->loads[s->load_count].load = load;
        s->loads[s->load_count++].id = ids[i];
    }
}

static void port_load_bodies(void *ctx, const struct sched_body_want *wants, size_t count)
{
    struct script *s = ctx;

    for (size_t i = 0; i < count; i++) {
        ROOM(s, s->bodies, s->body_count, s->body_cap);
        s->bodies[s->body_count++] = wants[i];
    }
}

static void port_load_plans(void *ctx, const struct sched_plan_want *wants, size_t count)
{
    struct script *s = ctx;

    for (size_t i = 0; i < count; i++) {
        s->plans[s->plan_count] = wants[i];
        s->plans[s->plan_count++].workflow = str_arena(s->arena, wants[i].workflow);
    }
}

static void port_commit(void *ctx, const struct sched_batch *batch)
{
    struct script *s = ctx;

    assert_null(s->batch); /* one at a time */
    s->batch = batch;
}

static void port_publish(void *ctx, const struct sched_publish *p)
{
    struct script *s = ctx;
    struct sent *sent;

    ROOM(s, s->sent, s->sent_count, s->sent_cap);
    sent = &s->sent[s->sent_count++];
    snprintf(sent->queue, sizeof(sent->queue), "%s", p->queue == NULL ? "workers" : p->queue);
    snprintf(sent->type, sizeof(sent->type), "%s", p->type);
    snprintf(sent->id, sizeof(sent->id), "%s", p->message_id == NULL ? "" : p->message_id);
    sent->body = str_arena(s->arena, p->body);
    sent->confirm = p->confirm;
    sent->persistent = p->persistent;
    sent->in_memory = p->in_memory;
    sent->order = ++s->order;
}

static void port_ack(void *ctx, void *delivery)
{
    struct script *s = ctx;

    s->acked[s->acked_count++] = (struct acked){delivery, ++s->order};
}

static void port_forget(void *ctx, void *delivery)
{
    struct script *s = ctx;

    s->forgotten[s->forgotten_count++] = (struct acked){delivery, ++s->order};
}

static void port_evaluate(void *ctx, const struct sched_evaluation *evaluations, size_t count)
{
    struct script *s = ctx;

    for (size_t i = 0; i < count; i++) {
        ROOM(s, s->evaluations, s->evaluation_count, s->evaluation_cap);
        s->evaluations[s->evaluation_count] = evaluations[i];
        s->evaluations[s->evaluation_count++].document = str_arena(s->arena, evaluations[i].document);
    }
}

static void port_depth(void *ctx, const char *queue)
{
    struct script *s = ctx;

    snprintf(s->depths[s->depth_count % 200], 160, "%s", queue);
    s->depth_count++;
}

static void port_close(void *ctx, int16_t shard)
{
    struct script *s = ctx;

    s->closed[s->closed_count++] = shard;
}

static void port_released(void *ctx, int16_t shard)
{
    struct script *s = ctx;

    s->released[s->released_count++] = shard;
}

static void port_needs_newer(void *ctx, int16_t shard)
{
    struct script *s = ctx;

    s->newer[s->newer_count++] = shard;
}

static void port_check(void *ctx)
{
    ((struct script *)ctx)->checks++;
}

static void journal_enter(void *ctx, struct run_id run)
{
    struct script *s = ctx;

    s->journal = run;
    s->entered++;
}

static void journal_leave(void *ctx, struct run_id run)
{
    struct script *s = ctx;

    assert_true(run_id_eq(run, s->journal));
    s->left++;
}

static bool port_lease_is_live(void *ctx)
{
    return !((struct script *)ctx)->lease_lapsed;
}

struct script *script_new_with(const struct sched_settings *settings)
{
    struct script *s = mem_alloc(sizeof(*s));
    struct sched_ports ports = {.ctx = s,
                                .mono = port_mono,
                                .wall = port_wall,
                                .fetch_commands = port_fetch,
                                .load_shard = port_load_shard,
                                .load_runs = port_load_runs,
                                .load_bodies = port_load_bodies,
                                .load_plans = port_load_plans,
                                .look_back = port_look_back,
                                .commit = port_commit,
                                .publish = port_publish,
                                .ack = port_ack,
                                .forget = port_forget,
                                .evaluate = port_evaluate,
                                .queue_depth = port_depth,
                                .close_shard = port_close,
                                .shard_released = port_released,
                                .needs_newer = port_needs_newer,
                                .check_shards = port_check,
                                .lease_is_live = port_lease_is_live};

    log_init("test", "test", (enum log_level)(LOG_ERROR + 1));
    s->arena = arena_new(65536);
    s->runs = mem_array(SCRIPT_RUNS, sizeof(*s->runs));
    s->now = SEC;
    s->settings = *settings;
    s->settings.name = "test";
    s->settings.token_key = STR("key");
    s->settings.incarnation = 7;
    s->settings.journal = (struct sched_journal){s, journal_enter, journal_leave};
    s->sched = sched_new(&ports, &s->settings);
    sched_on_broker(s->sched, true);
    return s;
}

struct script *script_new(void)
{
    return script_new_with(&(struct sched_settings){0});
}

void script_free(struct script *s)
{
    assert_int_equal(s->entered, s->left);
    sched_free(s->sched);
    mem_free(s->runs);
    arena_free(s->arena);
    mem_free(s);
}

void script_own(struct script *s, int16_t shard, int64_t epoch)
{
    sched_on_shards(s->sched, &(struct sched_shard_change){.shard = shard, .gained = true, .epoch = epoch}, 1);
}

void script_lose(struct script *s, int16_t shard)
{
    sched_on_shards(s->sched, &(struct sched_shard_change){.shard = shard}, 1);
}

static int64_t add_command(struct script *s, const struct script_run *run, const char *kind, struct str body,
                           const char *reply_to)
{
    struct script_command *c = &s->commands[s->command_count++];

    c->row = (struct sched_command){.shard = (int16_t)(run_id_slot(run->id) % 16),
                                    .id = (int64_t)s->command_count,
                                    .organisation = run->organisation,
                                    .run = run->id,
                                    .kind = str_of(kind),
                                    .body = body,
                                    .reply_to = str_of(reply_to)};
    return c->row.id;
}

int64_t script_command(struct script *s, const struct script_run *run, const char *kind, const char *reply_to)
{
    return add_command(s, run, kind, STR("{}"), reply_to);
}

int64_t script_command_body(struct script *s, const struct script_run *run, const char *kind, const char *body)
{
    return add_command(s, run, kind, str_of(body), "ropewalk.gateway.1");
}

void script_workflow(struct script *s, const char *name, const char *document)
{
    s->workflows[s->workflow_count].name = name;
    s->workflows[s->workflow_count++].document = document;
}

struct script_run *script_child(struct script *s, const struct script_run *parent, size_t n)
{
    for (size_t i = 0; i < s->run_count; i++)
        if (s->runs[i].has_parent && run_id_eq(s->runs[i].parent, parent->id) && n-- == 0)
            return &s->runs[i];
    return NULL;
}

struct script_run *script_run(struct script *s, int16_t shard, const char *document)
{
    struct script_run *run = &s->runs[s->run_count++];

    assert_true(s->run_count <= SCRIPT_RUNS);
    run->id = run_id_make(port_wall(s), (unsigned)shard);
    run->document = str_of(document);
    run->input = STR("{\"x\":3}");
    run->event_cap = 64; /* tests write a few events themselves */
    run->events = arena_array(s->arena, run->event_cap, sizeof(*run->events));
    run->outputs = arena_array(s->arena, run->event_cap, sizeof(*run->outputs));
    run->organisation = 1;
    run->exists = true;
    script_command(s, run, "start", NULL);
    return run;
}

static struct script_run *find(struct script *s, struct run_id id)
{
    for (size_t i = 0; i < s->run_count; i++)
        if (run_id_eq(s->runs[i].id, id))
            return &s->runs[i];
    return NULL;
}

static bool is_wanted(const struct script *s, const struct sched_command *row)
{
    bool wanted = false;

    for (size_t i = 0; i < s->fetch_shard_count; i++)
        wanted |= s->fetch_shards[i] == row->shard;
    for (size_t i = 0; i < s->aside_count && wanted; i++)
        wanted = !run_id_eq(s->asides[i], row->run);
    return wanted;
}

static void answer_fetch(struct script *s)
{
    struct sched_command rows[SCRIPT_FETCH];
    size_t n = 0;

    for (size_t i = 0; i < s->command_count && n < SCRIPT_FETCH; i++)
        if (!s->commands[i].gone && !s->commands[i].held && is_wanted(s, &s->commands[i].row))
            rows[n++] = s->commands[i].row;
    s->fetching = false;
    sched_on_commands(s->sched, s->fetch, rows, n, n < SCRIPT_FETCH, false);
}

static void answer_shard(struct script *s)
{
    int16_t shard = s->shards[--s->shard_count].shard;
    struct sched_work_row *rows;
    size_t n = 0;

    for (size_t i = 0; i < s->run_count; i++)
        n += s->runs[i].work_count;
    rows = arena_array(s->arena, n, sizeof(*rows));
    n = 0;
    for (size_t i = 0; i < s->run_count; i++)
        for (size_t w = 0; w < s->runs[i].work_count && (int16_t)(run_id_slot(s->runs[i].id) % 16) == shard; w++)
            rows[n++] = s->runs[i].work[w];
    sched_on_open_work(s->sched, shard, s->shards[s->shard_count].epoch, rows, n, NULL, 0, true, false);
}

static void answer_load(struct script *s)
{
    uint64_t load = s->loads[--s->load_count].load;
    const struct script_run *run = find(s, s->loads[s->load_count].id);
    struct sched_loaded_run loaded = {.id = s->loads[s->load_count].id};
    char name[16];

    if (run != NULL && run->exists) {
        snprintf(name, sizeof(name), "org%d", run->organisation);
        loaded.found = true;
        loaded.organisation = run->organisation;
        loaded.organisation_name = str_of(name);
        loaded.weight = s->weights[run->organisation];
        loaded.limits = s->limits == NULL ? STR_NONE : str_of(s->limits);
        loaded.workflow = STR("w");
        loaded.version = (int32_t)(run - s->runs) + 1;
        loaded.priority = PRIORITY_NORMAL;
        loaded.created_at = port_wall(s);
        loaded.input = run->input;
        loaded.has_parent = run->has_parent;
        loaded.parent = run->parent;
        loaded.parent_step = run->parent_step;
        loaded.depth = run->depth;
        loaded.event_count = run->event_count;
        loaded.events = run->events;
        loaded.work_count = run->work_count;
        loaded.work = run->work;
    }
    if (s->fail_loads > 0) {
        s->fail_loads--;
        loaded = (struct sched_loaded_run){.id = loaded.id, .failed = true};
    }
    sched_on_loaded(s->sched, load, &loaded, 1);
}

static void answer_body(struct script *s)
{
    struct sched_body_want want = s->bodies[--s->body_count];
    const struct script_run *run = find(s, want.run);

    s->bodies_read++;
    sched_on_bodies(s->sched,
                    &(struct sched_body){.run = want.run,
                                         .seq = want.seq,
                                         .body = want.seq == 0 ? run->input : run->outputs[want.seq - 1]},
                    1);
}

static void answer_plan(struct script *s)
{
    struct sched_plan_want want = s->plans[--s->plan_count];

    sched_on_plans(s->sched, &(struct sched_plan_loaded){.key = want, .document = s->runs[want.version - 1].document},
                   1);
}

void script_tick(struct script *s)
{
    s->wake = sched_tick(s->sched).us;
}

static bool answer_something(struct script *s)
{
    if (s->shard_count > 0 && !s->hold_shards) {
        answer_shard(s);
    } else if (s->fetching && !s->hold_fetches) {
        answer_fetch(s);
    } else if (s->plan_count > 0) {
        while (s->plan_count > 0)
            answer_plan(s);
    } else if (s->load_count > 0 && !s->hold_loads) {
        while (s->load_count > 0)
            answer_load(s);
    } else if (s->body_count > 0 && !s->hold_bodies) {
        while (s->body_count > 0)
            answer_body(s);
    } else if (s->batch != NULL && !s->hold_commits) {
        script_commit(s, SCHED_COMMITTED, NULL);
    } else {
        return false;
    }
    return true;
}

static bool confirm_something(struct script *s)
{
    bool any = false;

    for (; !s->hold_confirms && s->confirmed_count < s->sent_count; s->confirmed_count++) {
        const struct sent *sent = &s->sent[s->confirmed_count];

        if (strcmp(sent->type, "task") != 0 || sent->confirm == 0)
            continue;
        sched_on_confirm(s->sched, sent->confirm, SCHED_CONFIRMED);
        any = true;
    }
    return any;
}

void script_settle(struct script *s)
{
    do
        script_tick(s);
    while (answer_something(s) || confirm_something(s));
}

void script_advance(struct script *s, int64_t us)
{
    int64_t end = s->now + us;

    while (s->now < end) {
        s->now = end - s->now > 100 * MS ? s->now + 100 * MS : end;
        script_settle(s);
    }
}

/* What batch_child_start.sql does: versions are not looked at. */
static void write_child(struct script *s, const struct sched_child_row *row)
{
    struct script_run *child;
    char id[UUID_TEXT_SIZE];

    for (size_t i = 0; i < s->workflow_count; i++) {
        if (!str_is(row->workflow, s->workflows[i].name) || s->workflows[i].document == NULL)
            continue;
        child = &s->runs[s->run_count++];
        child->id = row->run;
        child->document = str_of(s->workflows[i].document);
        child->input = str_arena(s->arena, row->input);
        child->organisation = row->organisation;
        child->exists = child->has_parent = true;
        child->parent = row->parent;
        child->parent_step = str_arena(s->arena, row->parent_step);
        child->depth = row->depth;
        add_command(s, child, "start", STR_NONE, NULL);
        return;
    }
    run_id_format(row->run, id);
    add_command(
        s, find(s, row->parent), "child_ended",
        str_of(arena_printf(s->arena,
                            "{\"child\":\"%s\",\"step\":\"" STR_FMT
                            "\",\"status\":\"failed\",\"error\":{\"code\":\"unknown_workflow\",\"message\":\"none\"}}",
                            id, STR_ARG(row->parent_step))),
        NULL);
}

static void write_family(struct script *s, const struct sched_batch *b)
{
    for (size_t i = 0; i < b->run_count; i++) {
        struct script_run *run = find(s, b->runs[i].run);

        run->status = b->runs[i].status;
        if (b->runs[i].reopened || b->runs[i].error_code.ptr != NULL)
            run->error_code = str_arena(s->arena, b->runs[i].error_code);
    }
    for (size_t i = 0; i < b->child_count; i++)
        write_child(s, &b->children[i]);
    for (size_t i = 0; i < b->command_insert_count; i++) {
        const struct sched_command_insert *row = &b->command_inserts[i];
        const struct script_run *run = find(s, row->run);

        if (!row->held && run != NULL)
            add_command(s, run, row->kind, str_arena(s->arena, row->body), NULL);
    }
}

static void write_rows(struct script *s, const struct sched_batch *b)
{
    write_family(s, b);
    for (size_t i = 0; i < b->event_count; i++) {
        const struct event *event = b->events[i].event;
        struct script_run *run = find(s, b->events[i].run);

        assert_int_equal(event->seq, run->event_count + 1);
        if (run->event_count == run->event_cap) { /* the two arrays have one length */
            size_t cap = run->event_cap;

            ROOM(s, run->outputs, run->event_count, cap);
            ROOM(s, run->events, run->event_count, run->event_cap);
        }
        run->outputs[run->event_count] = str_arena(s->arena, event->output);
        run->events[run->event_count++] = (struct sched_event_loaded){.seq = event->seq,
                                                                      .type = (int16_t)event->type,
                                                                      .at = event->at,
                                                                      .step = str_arena(s->arena, event->step),
                                                                      .attempt = event->attempt,
                                                                      .data = str_arena(s->arena, b->events[i].data),
                                                                      .output_bytes = (uint32_t)event->output.len};
    }
    for (size_t i = 0; i < b->close_count; i++) {
        struct script_run *run = find(s, b->closes[i].run);

        for (size_t w = 0; w < run->work_count; w++)
            if (run->work[w].seq == b->closes[i].seq)
                run->work[w] = run->work[--run->work_count];
    }
    for (size_t i = 0; i < b->open_count; i++) {
        const struct sched_open_row *row = &b->opens[i];
        struct script_run *run = find(s, row->run);

        if (row->kind == WORK_EVENT) {
            run->event_type = str_arena(s->arena, row->event_type);
            run->event_source = str_arena(s->arena, row->event_source);
            run->look_back_us = row->look_back_us;
        }
        ROOM(s, run->work, run->work_count, run->work_cap);
        run->work[run->work_count++] = (struct sched_work_row){.run = row->run,
                                                               .seq = row->seq,
                                                               .organisation = row->organisation,
                                                               .weight = s->weights[row->organisation],
                                                               .kind = row->kind,
                                                               .step = str_arena(s->arena, row->step),
                                                               .attempt = row->attempt,
                                                               .dispatch = row->dispatch,
                                                               .pool = str_arena(s->arena, row->pool),
                                                               .priority = row->priority,
                                                               .due_at = row->due_at};
    }
    for (size_t i = 0; i < b->change_count; i++) {
        struct script_run *run = find(s, b->changes[i].run);

        for (size_t w = 0; w < run->work_count; w++) {
            if (run->work[w].seq != b->changes[i].seq)
                continue;
            run->work[w].dispatch = b->changes[i].dispatch;
            run->work[w].due_at = b->changes[i].due_at;
        }
    }
    for (size_t i = 0; i < b->command_delete_count; i++)
        s->commands[b->command_deletes[i].id - 1].gone = true;
    for (size_t i = 0; i < b->command_hold_count; i++)
        s->commands[b->command_holds[i].id - 1].held = true;
    for (size_t i = 0; i < b->release_count; i++)
        for (size_t c = 0; c < s->command_count; c++)
            s->commands[c].held = false;
}

void write_as_if_committed(struct script *s)
{
    write_rows(s, s->batch);
}

void script_commit(struct script *s, enum sched_outcome outcome, const struct script_run *culprit)
{
    const struct sched_batch *batch = s->batch;
    struct sched_commit_outcome o = {.outcome = outcome, .has_run = culprit != NULL};

    assert_non_null(batch);
    if (culprit != NULL)
        o.run = culprit->id;
    if (outcome == SCHED_COMMITTED)
        write_rows(s, batch);
    s->batch = NULL;
    s->commits++;
    s->committed_order = ++s->order;
    sched_on_committed(s->sched, batch->number, &o);
}
