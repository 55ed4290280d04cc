/* What happens in a history: workflows of chance, starts and cancels, and faults. */
#include "common/base/ensure.h"
#include "tests/sim/sim.h"

#include "common/base/banned.h"

#define STEPS_MAX 9

static void put_needs(struct sim *sim, struct buf *doc, uint32_t step, bool *is_condition)
{
    uint32_t shape = rng_below(&sim->rng, 4);
    uint32_t first = shape == 0 ? step - 1 : rng_below(&sim->rng, step);
    uint32_t second = rng_below(&sim->rng, step);

    if (is_condition[first]) {
        buf_printf(doc, "\"needs\":{\"s%u\":[\"%s\"]}", first, rng_chance(&sim->rng, 5000) ? "true" : "false");
        return;
    }
    if (shape == 1 && second != first && !is_condition[second]) { /* a diamond's lower end */
        buf_printf(doc, "\"needs\":[\"s%u\",\"s%u\"]", first, second);
        return;
    }
    if (shape == 2) {
        buf_printf(doc, "\"needs\":{\"s%u\":[\"succeeded\",\"failed\",\"skipped\"]},\"join\":\"any\"", first);
        return;
    }
    buf_printf(doc, "\"needs\":[\"s%u\"]", first);
}

static void put_step(struct sim *sim, struct buf *doc, uint32_t step, bool *is_condition)
{
    struct rng *rng = &sim->rng;
    uint32_t kind = rng_below(rng, 9);
    bool is_http = kind >= 3 && kind <= 6;

    buf_printf(doc, "%s\"s%u\":{", step == 0 ? "" : ",", step);
    if (step > 0 && rng_chance(rng, 9000)) {
        put_needs(sim, doc, step, is_condition);
        buf_append_char(doc, ',');
    }
    switch (rng_below(rng, 9)) {
    case 0:
        buf_append_str(
            doc, STR("\"call\":\"transform\",\"with\":{\"value\":{\"x\":\"${ .input.x }\",\"y\":\"${ .run.id }\"}}"));
        break;
    case 1:
        is_condition[step] = true;
        buf_append_str(doc, STR("\"call\":\"condition\",\"with\":{\"if\":\"${ .input.x > 1 }\"}"));
        break;
    case 2:
        buf_printf(doc, "\"call\":\"delay\",\"with\":{\"duration\":\"%ums\"}", rng_below(rng, 5000));
        break;
    case 3:
        buf_append_str(
            doc, STR("\"call\":\"http\",\"delivery\":\"at_most_once\",\"with\":{\"url\":\"https://a.example/\"}"));
        break;
    case 4:
    case 5:
        buf_append_str(
            doc,
            STR("\"call\":\"http\",\"with\":{\"url\":\"https://a.example/\",\"query\":{\"q\":\"${ .input.x }\"}}"));
        break;
    case 6:
        buf_append_str(doc, STR("\"call\":\"http\",\"timeout\":\"10s\",\"with\":{\"url\":\"https://b.example/\"}"));
        break;
    default:
        buf_append_str(doc, STR("\"call\":\"noop\""));
        break;
    }
    if (!is_condition[step] && rng_chance(rng, 3000))
        buf_append_str(doc, STR(",\"retry\":{\"max_attempts\":3,\"initial\":\"100ms\",\"factor\":2,\"max\":\"5s\"}"));
    if (is_http && rng_chance(rng, 1500))
        buf_append_str(doc, STR(",\"idempotency\":{\"key\":\"k-${ .input.x }\"}"));
    if (rng_chance(rng, 2500))
        buf_append_str(doc, STR(",\"on_failure\":\"continue\""));
    if (rng_chance(rng, 500))
        buf_append_str(doc, STR(",\"deadline\":\"20s\""));
    buf_append_char(doc, '}');
}

static struct str make_document(struct sim *sim)
{
    uint32_t steps = 1 + rng_below(&sim->rng, STEPS_MAX);
    bool is_condition[STEPS_MAX] = {false};
    struct buf doc;
    struct str text;

    buf_init(&doc, 65536);
    buf_append_str(&doc, STR("{\"name\":\"w\","));
    if (rng_chance(&sim->rng, 1000))
        buf_append_str(&doc, STR("\"timeout\":\"30s\","));
    buf_append_str(&doc, STR("\"steps\":{"));
    for (uint32_t i = 0; i < steps; i++)
        put_step(sim, &doc, i, is_condition);
    buf_append_char(&doc, '}');
    if (rng_chance(&sim->rng, 5000))
        buf_append_str(&doc, STR(",\"output\":\"${ {x: .input.x} }\""));
    else if (rng_chance(&sim->rng, 5000))
        buf_append_str(&doc, STR(",\"output\":\"${ .steps.s0.output }\""));
    buf_append_char(&doc, '}');
    text = str_arena(sim->arena, buf_str(&doc));
    buf_deinit(&doc);
    return text;
}

static struct plan *compile(struct sim *sim, struct str document)
{
    struct plan_faults faults = {.arena = sim->arena};
    struct plan *plan = plan_compile(document, &PLAN_LIMITS_DEFAULT, &faults);

    if (plan == NULL && !(faults.count > 0 && strcmp(faults.items[0].code, "unreachable_step") == 0))
        sim_fail(sim, "the generator made what does not compile: %s " STR_FMT " in " STR_FMT, faults.items[0].code,
                 STR_ARG(faults.items[0].pointer), STR_ARG(document));
    return plan;
}

static void nudge(struct sim *sim, int16_t shard)
{
    broker_put(sim, arena_printf(sim->arena, "ropewalk.inbox.%d", shard), "nudge", "n",
               str_of(arena_printf(sim->arena, "{\"v\":1,\"shard\":%d}", shard)));
}

struct request {
    uint32_t run;
    const char *kind;
};

/* The gateway's transaction: from here on the run is acknowledged. */
static void accept(struct sim *sim, void *what)
{
    struct request *r = what;
    struct db_run *run = &sim->db.runs[r->run];

    if (sim->db.down_until > sim->now) {
        sim_at(sim, sim->db.down_until + MS, NULL, accept, r);
        return;
    }
    if (strcmp(r->kind, "start") != 0 && run->created_at == 0)
        return; /* 404 */
    if (strcmp(r->kind, "start") == 0)
        run->created_at = sim->start_wall + sim->now;
    if (strcmp(r->kind, "cancel") == 0)
        run->cancel_asked = true;
    db_command_add(sim, r->run, r->kind, STR_NONE, rng_chance(&sim->rng, 3000) ? STR("gateway.1") : STR_NONE);
    nudge(sim, run->shard);
}

static void request(struct sim *sim, uint32_t run, const char *kind, int64_t at)
{
    struct request *r = sim_new(sim, struct request);

    r->run = run;
    r->kind = kind;
    sim_at(sim, at, NULL, accept, r);
}

static void watch(struct sim *sim, void *what)
{
    const struct db_run *run = what;
    char id[UUID_TEXT_SIZE];

    run_id_format(run->id, id);
    broker_put(
        sim, arena_printf(sim->arena, "ropewalk.inbox.%d", run->shard), "watch", "x",
        str_of(arena_printf(sim->arena, "{\"v\":1,\"run_id\":\"%s\",\"reply_to\":\"gateway.1\",\"from_seq\":0}", id)));
}

void generate_runs(struct sim *sim)
{
    uint32_t count = 1 + rng_below(&sim->rng, 6);

    for (uint32_t i = 0; i < count; i++) {
        struct db_run *run = &sim->db.runs[i];
        int64_t at = rng_between(&sim->rng, 0, 15 * SEC);
        uint64_t bits[2] = {rng_next(&sim->rng), rng_next(&sim->rng)};

        memcpy(run->id.bytes, bits, 16);
        run->id.bytes[6] = (uint8_t)((run->id.bytes[6] & 0x0F) | 0x70);
        run->id.bytes[8] = (uint8_t)((run->id.bytes[8] & 0x3F) | 0x80);
        run->shard = (int16_t)(run_id_slot(run->id) % SHARDS);
        do {
            run->document = make_document(sim);
            run->plan = compile(sim, run->document);
        } while (run->plan == NULL && !sim->failed);
        run->input = str_of(arena_printf(sim->arena, "{\"x\":%u}", rng_below(&sim->rng, 5)));
        run->refuses = rng_chance(&sim->rng, 200);
        sim->db.run_count++;
        request(sim, i, "start", at);
        if (rng_chance(&sim->rng, 1000))
            request(sim, i, "cancel", at + rng_between(&sim->rng, 0, 10 * SEC));
        if (rng_chance(&sim->rng, 1000))
            sim_at(sim, at + rng_between(&sim->rng, 0, 5 * SEC), NULL, watch, run);
        if ((run->refuses && rng_chance(&sim->rng, 5000)) || rng_chance(&sim->rng, 100))
            request(sim, i, "release", at + rng_between(&sim->rng, 5 * SEC, 25 * SEC));
    }
}

/* ---- faults ---- */

static void fault(struct sim *sim, void *what)
{
    struct node *node = &sim->nodes[rng_below(&sim->rng, SCHEDULERS + WORKERS)];

    (void)what;
    if (sim->healed)
        return;
    switch (rng_below(&sim->rng, 12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        node_crash(sim, node);
        sim_after(sim, 10 * MS, 8 * SEC, NULL, node_start, node);
        break;
    case 4:
    case 5:
        node_freeze(sim, node, rng_between(&sim->rng, 100 * MS, 20 * SEC));
        break;
    case 6:
        sim->db.down_until = sim->now + rng_between(&sim->rng, 100 * MS, 6 * SEC);
        sim->stats->outages++;
        break;
    case 7:
        broker_restart(sim, rng_between(&sim->rng, 100 * MS, 8 * SEC));
        if (rng_chance(&sim->rng, 3000))
            broker_purge(sim, true);
        break;
    case 8:
        broker_purge(sim, rng_chance(&sim->rng, 3000));
        break;
    case 9:
        cache_flush(sim);
        break;
    case 10:
        sim->cache_down_until = sim->now + rng_between(&sim->rng, 100 * MS, 10 * SEC);
        break;
    default:
        node_disconnect(sim, node);
        break;
    }
}

void faults_plan(struct sim *sim)
{
    uint32_t badness = rng_below(&sim->rng, 4);
    uint32_t faults = badness == 0 ? 0 : rng_below(&sim->rng, 4 * badness);

    sim->suspect = badness > 0 && rng_chance(&sim->rng, 300) ? 500 : 0;
    sim->lose = badness * rng_below(&sim->rng, 150);
    sim->duplicate = badness * rng_below(&sim->rng, 300);
    sim->reorder = badness * rng_below(&sim->rng, 500);
    sim->unknown_commit = badness * rng_below(&sim->rng, 100);
    sim->refuse_commit = badness * rng_below(&sim->rng, 50);
    sim->fail_load = badness * rng_below(&sim->rng, 50);
    for (uint32_t i = 0; i < faults; i++)
        sim_after(sim, 0, 35 * SEC, NULL, fault, NULL);
}

/* The end of all faults: everybody comes back, nothing is lost any more, and all must come to its end. */
void sim_heal(struct sim *sim)
{
    sim->lose = sim->duplicate = sim->reorder = sim->unknown_commit = sim->refuse_commit = sim->fail_load = 0;
    sim->db.down_until = 0;
    sim->cache_down_until = 0;
    if (sim->broker_down_until > sim->now)
        sim->broker_down_until = sim->now;
    for (int i = 0; i < SCHEDULERS + WORKERS; i++)
        if (!sim->nodes[i].alive)
            sim_after(sim, 0, SEC, NULL, node_start, &sim->nodes[i]);
}
