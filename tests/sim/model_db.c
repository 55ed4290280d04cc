/* PostgreSQL as the scheduler sees it: transactions that happen at one moment between question and answer, or not, or
 * later than anybody believes; unique keys; fencing by epoch. */
#include "common/base/ensure.h"
#include "common/base/map.h"
#include "tests/sim/model_commit.h"
#include "tests/sim/model_lease.h"

#include "common/base/banned.h"

static struct str key_of(const struct run_id *id)
{
    return (struct str){(const char *)id->bytes, sizeof(id->bytes)};
}

int64_t db_wall(const struct sim *sim)
{
    return sim->start_wall + sim->now + sim->db.clock_offset;
}

void db_jump(struct sim *sim, int64_t us)
{
    for (size_t i = 0; i < MEMBERS; i++) /* a lease that had run out may seem alive again */
        if (sim->db.members[i].lease_until <= db_wall(sim))
            sim->db.members[i].since = sim->now;
    sim->db.clock_offset += us;
    sim_trace(sim, "PostgreSQL's clock jumps by %lld ms", (long long)(us / MS));
}

struct db_run *db_find(struct sim *sim, struct run_id id)
{
    return map_get(sim->db.by_id, key_of(&id));
}

struct db_run *db_run_add(struct sim *sim, struct run_id id, const struct db_workflow *workflow, int32_t version)
{
    struct db *db = &sim->db;
    struct db_run *run = sim_new(sim, struct db_run);

    if (db->run_count == db->run_cap) {
        struct db_run **grown;

        db->run_cap = db->run_cap == 0 ? 16 : 2 * db->run_cap;
        grown = arena_array(sim->arena, db->run_cap, sizeof(struct db_run *));
        if (db->run_count > 0)
            memcpy(grown, db->runs, db->run_count * sizeof(struct db_run *));
        db->runs = grown;
    }
    run->number = db->run_count;
    run->id = id;
    run->shard = (int16_t)(run_id_slot(id) % SHARDS);
    run->workflow = workflow;
    run->version = version;
    run->plan = workflow->plans[version - 1];
    run->priority = PRIORITY_NORMAL;
    (void)map_put(db->by_id, key_of(&id), run);
    db->runs[db->run_count++] = run;
    return run;
}

struct db_workflow *db_workflow_find(struct sim *sim, struct str name)
{
    for (uint32_t i = 0; i < sim->db.workflow_count; i++)
        if (str_is(name, sim->db.workflows[i].name))
            return &sim->db.workflows[i];
    return NULL;
}

static int64_t add_command(struct sim *sim, struct db_command command)
{
    struct db *db = &sim->db;

    if (db->command_count == db->command_cap) {
        struct db_command *grown;

        db->command_cap = db->command_cap == 0 ? 16 : 2 * db->command_cap;
        grown = arena_array(sim->arena, db->command_cap, sizeof(*grown));
        if (db->command_count > 0)
            memcpy(grown, db->commands, db->command_count * sizeof(*grown));
        db->commands = grown;
    }
    command.id = (int64_t)db->command_count + 1;
    db->commands[db->command_count++] = command;
    db->changed = true;
    return command.id;
}

int64_t db_command_add(struct sim *sim, uint32_t run, const char *kind, struct str body, struct str reply_to)
{
    return add_command(
        sim, (struct db_command){
                 .shard = sim->db.runs[run]->shard, .run = run, .kind = kind, .body = body, .reply_to = reply_to});
}

int64_t db_key_command_add(struct sim *sim, struct run_id key, const char *kind, struct str body)
{
    return add_command(
        sim, (struct db_command){
                 .shard = (int16_t)(run_id_slot(key) % SHARDS), .run = NO_RUN, .key = key, .kind = kind, .body = body});
}

bool db_key_is_asked(const struct sim *sim, struct run_id key)
{
    for (size_t i = 0; i < sim->db.command_count; i++) {
        const struct db_command *command = &sim->db.commands[i];

        if (!command->deleted && command->run == NO_RUN && run_id_eq(command->key, key))
            return true;
    }
    return false;
}

/* ---- reads: read at one moment, answered at another ---- */
#define COMMANDS_MAX 4000 /* of one answer: of each shard its part */

struct question {
    struct node *node;
    uint64_t number;
    size_t count, aside_count;
    int16_t *shards;
    int16_t shard;
    int64_t epoch;
    struct run_id *ids;
    struct sched_body_want *bodies;
    struct sched_plan_want *plans;
    /* answers */
    bool failed, complete;
    struct sched_command *commands;
    size_t row_count;
    struct sched_work_row *work;
    struct run_id *quarantined;
    size_t quarantined_count;
    struct sched_loaded_run *runs;
    struct sched_body *texts;
    struct sched_plan_loaded *documents;
};

static void ask(struct node *node, struct question *q, sim_fn read)
{
    struct sim *sim = node->sim;

    q->node = node;
    sim_after(sim, 100, 2 * MS, node, read, q);
}

static bool read_fails(struct sim *sim)
{
    return sim->db.down_until > sim->now || sim_chances(sim, DECIDE_READ, sim->fail_load);
}

static void answer(struct sim *sim, struct question *q, sim_fn fn)
{
    /* Now and then an answer takes so long that the world has moved on. */
    if (sim_chances(sim, DECIDE_LATE, sim->late_answers))
        sim_at(sim, sim->now + rng_between(&sim->streams[DECIDE_LATE], 10 * MS, 8 * SEC), q->node, fn, q);
    else
        sim_after(sim, 50, 2 * MS, q->node, fn, q);
}

static void commands_answered(struct sim *sim, void *what)
{
    struct question *q = what;

    (void)sim;
    sched_on_commands(q->node->sched, q->number, q->commands, q->row_count, q->complete, q->failed);
    node_turn(q->node);
}

static bool is_aside(const struct question *q, struct run_id run)
{
    for (size_t i = 0; i < q->aside_count; i++)
        if (run_id_eq(q->ids[i], run))
            return true;
    return false;
}

static void commands_read(struct sim *sim, void *what)
{
    struct question *q = what;

    size_t part = (COMMANDS_MAX + q->count - 1) / q->count, counts[SHARDS] = {0};

    q->failed = read_fails(sim);
    q->complete = true;
    while (sim->db.command_first < sim->db.command_count && sim->db.commands[sim->db.command_first].deleted)
        sim->db.command_first++;
    q->commands = arena_array(sim->arena, sim->db.command_count - sim->db.command_first, sizeof(*q->commands));
    for (size_t i = sim->db.command_first; i < sim->db.command_count && !q->failed; i++) {
        const struct db_command *c = &sim->db.commands[i];
        struct run_id run = c->run == NO_RUN ? c->key : sim->db.runs[c->run]->id;

        if (is_aside(q, run))
            continue;
        for (size_t s = 0; s < q->count; s++) {
            if (q->shards[s] != c->shard || c->deleted || c->held || counts[c->shard] == part)
                continue;
            if (++counts[c->shard] == part)
                q->complete = false;
            q->commands[q->row_count++] = (struct sched_command){.shard = c->shard,
                                                                 .id = c->id,
                                                                 .organisation = 1,
                                                                 .run = run,
                                                                 .kind = str_of(c->kind),
                                                                 .body = c->body,
                                                                 .reply_to = c->reply_to};
        }
    }
    answer(sim, q, commands_answered);
}

static void fetch_commands(void *ctx, uint64_t fetch, const struct sched_command_want *want)
{
    struct node *node = ctx;
    struct question *q = sim_new(node->sim, struct question);

    q->number = fetch;
    q->count = want->shard_count;
    q->shards = arena_array(node->sim->arena, q->count, sizeof(int16_t));
    memcpy(q->shards, want->shards, q->count * sizeof(int16_t));
    q->aside_count = want->aside_count;
    q->ids = arena_array(node->sim->arena, q->aside_count, sizeof(struct run_id));
    if (q->aside_count > 0)
        memcpy(q->ids, want->asides, q->aside_count * sizeof(struct run_id));
    ask(node, q, commands_read);
}

static size_t read_work(const struct db_run *run, struct sched_work_row *rows)
{
    size_t n = 0;

    for (size_t i = 0; i < run->work_count; i++) {
        const struct sched_open_row *row = &run->work[i].row;

        if (!run->work[i].open)
            continue;
        rows[n++] = (struct sched_work_row){.run = run->id,
                                            .seq = row->seq,
                                            .organisation = 1,
                                            .weight = 1,
                                            .kind = row->kind,
                                            .step = row->step,
                                            .attempt = row->attempt,
                                            .dispatch = row->dispatch,
                                            .pool = row->pool,
                                            .priority = row->priority,
                                            .due_at = row->due_at};
    }
    return n;
}

static void shard_answered(struct sim *sim, void *what)
{
    struct question *q = what;

    (void)sim;
    sched_on_open_work(q->node->sched, q->shard, q->epoch, q->work, q->row_count, q->quarantined, q->quarantined_count,
                       true, q->failed);
    node_turn(q->node);
}

static void shard_read(struct sim *sim, void *what)
{
    struct question *q = what;
    size_t rows = 0;

    q->failed = read_fails(sim);
    for (uint32_t i = 0; i < sim->db.run_count; i++)
        rows += sim->db.runs[i]->work_count;
    q->work = arena_array(sim->arena, rows, sizeof(*q->work));
    q->quarantined = arena_array(sim->arena, sim->db.run_count, sizeof(struct run_id));
    for (uint32_t i = 0; i < sim->db.run_count && !q->failed; i++) {
        const struct db_run *run = sim->db.runs[i];

        if (run->shard != q->shard)
            continue;
        q->row_count += read_work(run, q->work + q->row_count);
        if (run->quarantined)
            q->quarantined[q->quarantined_count++] = run->id;
    }
    answer(sim, q, shard_answered);
}

static void load_shard(void *ctx, int16_t shard, int64_t epoch)
{
    struct node *node = ctx;
    struct question *q = sim_new(node->sim, struct question);

    q->shard = shard;
    q->epoch = epoch;
    ask(node, q, shard_read);
}

static void runs_answered(struct sim *sim, void *what)
{
    struct question *q = what;

    (void)sim;
    sched_on_loaded(q->node->sched, q->number, q->runs, q->count);
    node_turn(q->node);
}

static void read_run(struct sim *sim, const struct db_run *run, struct sched_loaded_run *ret)
{
    struct sched_event_loaded *events = arena_array(sim->arena, run->event_count, sizeof(*events));
    struct sched_work_row *work = arena_array(sim->arena, run->work_count, sizeof(*work));

    for (size_t i = 0; i < run->event_count; i++)
        events[i] = (struct sched_event_loaded){.seq = run->events[i].seq,
                                                .type = run->events[i].type,
                                                .at = {run->events[i].at},
                                                .step = run->events[i].step,
                                                .attempt = run->events[i].attempt,
                                                .data = run->events[i].data,
                                                .output_bytes = (uint32_t)run->events[i].output.len};
    *ret = (struct sched_loaded_run){.id = run->id,
                                     .found = true,
                                     .organisation = 1,
                                     .organisation_name = STR("default"),
                                     .weight = 1,
                                     .workflow = str_of(run->workflow->name),
                                     .version = run->version,
                                     .priority = run->priority,
                                     .created_at = {run->created_at},
                                     .input = run->input,
                                     .trigger = run->trigger,
                                     .has_parent = run->parent != NULL,
                                     .parent_step = run->parent_step,
                                     .depth = run->depth,
                                     .limits = sim->db.limits,
                                     .outgoing = 1,
                                     .event_count = run->event_count,
                                     .events = events,
                                     .work_count = read_work(run, work),
                                     .work = work};
    if (run->parent != NULL)
        ret->parent = run->parent->id;
}

static void runs_read(struct sim *sim, void *what)
{
    struct question *q = what;
    bool failed = read_fails(sim);

    q->runs = arena_array(sim->arena, q->count, sizeof(*q->runs));
    for (size_t i = 0; i < q->count; i++) {
        const struct db_run *run = db_find(sim, q->ids[i]);

        q->runs[i] = (struct sched_loaded_run){.id = q->ids[i], .failed = failed};
        if (run != NULL && run->created_at != 0 && !failed)
            read_run(sim, run, &q->runs[i]);
    }
    answer(sim, q, runs_answered);
}

static void load_runs(void *ctx, uint64_t load, const struct run_id *ids, size_t count)
{
    struct node *node = ctx;
    struct question *q = sim_new(node->sim, struct question);

    q->number = load;
    q->count = count;
    q->ids = arena_array(node->sim->arena, count, sizeof(struct run_id));
    memcpy(q->ids, ids, count * sizeof(struct run_id));
    ask(node, q, runs_read);
}

static void bodies_answered(struct sim *sim, void *what)
{
    struct question *q = what;

    (void)sim;
    sched_on_bodies(q->node->sched, q->texts, q->count);
    node_turn(q->node);
}

static void bodies_read(struct sim *sim, void *what)
{
    struct question *q = what;
    bool failed = read_fails(sim);

    q->texts = arena_array(sim->arena, q->count, sizeof(*q->texts));
    for (size_t i = 0; i < q->count; i++) {
        const struct db_run *run = db_find(sim, q->bodies[i].run);
        const struct db_event *event;
        uint32_t seq = q->bodies[i].seq;

        q->texts[i] = (struct sched_body){.run = q->bodies[i].run, .seq = seq, .failed = failed};
        if (run == NULL || failed)
            continue;
        if (seq == 0)
            q->texts[i].body = run->input;
        else if ((event = db_find_event(run, seq)) != NULL)
            q->texts[i].body = event->output;
    }
    answer(sim, q, bodies_answered);
}

static void load_bodies(void *ctx, const struct sched_body_want *wants, size_t count)
{
    struct node *node = ctx;
    struct question *q = sim_new(node->sim, struct question);

    q->count = count;
    q->bodies = arena_array(node->sim->arena, count, sizeof(*wants));
    memcpy(q->bodies, wants, count * sizeof(*wants));
    ask(node, q, bodies_read);
}

static void plans_answered(struct sim *sim, void *what)
{
    struct question *q = what;

    (void)sim;
    sched_on_plans(q->node->sched, q->documents, q->count);
    node_turn(q->node);
}

static void plans_read(struct sim *sim, void *what)
{
    struct question *q = what;
    bool failed = read_fails(sim);

    q->documents = arena_array(sim->arena, q->count, sizeof(*q->documents));
    for (size_t i = 0; i < q->count; i++) {
        const struct db_workflow *workflow = db_workflow_find(sim, q->plans[i].workflow);
        int32_t version = q->plans[i].version;

        q->documents[i] = (struct sched_plan_loaded){.key = q->plans[i], .failed = failed};
        if (!failed && workflow != NULL && version >= 1 && version <= workflow->version_count)
            q->documents[i].document = workflow->documents[version - 1];
    }
    answer(sim, q, plans_answered);
}

static void load_plans(void *ctx, const struct sched_plan_want *wants, size_t count)
{
    struct node *node = ctx;
    struct question *q = sim_new(node->sim, struct question);

    q->count = count;
    q->plans = arena_array(node->sim->arena, count, sizeof(*wants));
    memcpy(q->plans, wants, count * sizeof(*wants));
    for (size_t i = 0; i < count; i++)
        q->plans[i].workflow = str_arena(node->sim->arena, wants[i].workflow);
    ask(node, q, plans_read);
}

void db_make_scheduler_ports(struct sched_ports *ports)
{
    ports->fetch_commands = fetch_commands;
    ports->load_shard = load_shard;
    ports->load_runs = load_runs;
    ports->load_bodies = load_bodies;
    ports->load_plans = load_plans;
    ports->look_back = db_look_back;
}
