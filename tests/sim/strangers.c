/* What comes from outside our own programs: a worker that others wrote, and messages that nobody should have sent. */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

/* The word of an attempt that history does not know holds up its run for a minute, each after the other, and there may
 * be many: longer than claims are kept. */
#define HELD_UP_US (4 * 3600 * SEC)

static const struct str KEY = {"the key of the simulation", 25};

static struct str result(struct sim *sim, struct str task_id, struct str token, const char *status)
{
    static const char *const error =
        ",\"error\":{\"class\":\"transient\",\"code\":\"rate_limited\",\"retry_after\":\"700ms\"}";
    bool with_error = strcmp(status, "deferred") == 0 || strcmp(status, "failed") == 0;

    return str_of(arena_printf(sim->arena,
                               "{\"v\":1,\"results\":[{\"task_id\":\"" STR_FMT "\",\"token\":\"" STR_FMT
                               "\",\"worker\":\"stranger\",\"status\":\"%s\"%s}]}",
                               STR_ARG(task_id), STR_ARG(token), status, with_error ? error : ""));
}

static struct str text(struct sim *sim, struct str message, const char *key)
{
    struct str ret = STR_NONE;

    if (!jt_string(jt_get(message, key), sim->arena, &ret))
        sim_fail(sim, "a task without %s", key);
    return ret;
}

/* A worker of others: no cache, no leases; it does at once what it can do, or says that it cannot yet. */
bool stranger_takes(struct node *node, struct sim_delivery *delivery)
{
    struct sim *sim = node->sim;
    struct str body = delivery->message.body;
    uint32_t luck = rng_below(&sim->streams[DECIDE_FOREIGN], 10);
    const char *status = luck < 5 ? "deferred" : luck < 7 ? "abandoned" : luck < 8 ? "failed" : "succeeded";
    struct str reply_to;

    if (delivery->message.redelivered || !sim_chances(sim, DECIDE_FOREIGN, sim->strangers))
        return false;
    if (str_is(text(sim, body, "delivery"), "at_most_once") && luck >= 7)
        status = "deferred"; /* it has not asked */
    reply_to = text(sim, body, "reply_to");
    broker_put(sim, arena_dup(sim->arena, reply_to.ptr, reply_to.len), "result", "r",
               result(sim, text(sim, body, "task_id"), text(sim, body, "token"), status));
    broker_settle(sim, delivery, false);
    return true;
}

/* Messages that must change nothing, and harm nobody. */
static void nonsense(struct sim *sim, void *what)
{
    struct rng *rng = what;
    const struct db_run *run = sim->db.runs[rng_below(rng, sim->db.run_count)];
    char *queue = arena_printf(sim->arena, "ropewalk.inbox.%u", rng_below(rng, SHARDS));
    char id[UUID_TEXT_SIZE], token[SCHED_TOKEN_SIZE];
    struct str task_id;

    run_id_format(run->id, id);
    switch (rng_below(rng, 6)) {
    case 0:
        broker_put(sim, queue, "result", "not a task id", STR("{\"v\":1,\"results\":[{\"task_id\":"));
        break;
    case 1:
        broker_put(sim, queue, "gossip", "g", STR("{\"v\":1}"));
        break;
    case 2: /* forged: the token is not ours */
        task_id = str_of(arena_printf(sim->arena, "%s/s0/1/1", id));
        broker_put(
            sim, queue, "result", "f",
            result(sim, task_id, STR("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"), "succeeded"));
        break;
    case 3: /* of an attempt that never was, with the right token */
        task_id = str_of(arena_printf(sim->arena, "%s/s0/900/1", id));
        sched_task_token(KEY, 1, task_id, token);
        broker_put(sim, queue, "result", "n", result(sim, task_id, str_of(token), "succeeded"));
        break;
    case 4: /* of a run that never was */
        id[9] = id[9] == '0' ? '1' : '0';
        task_id = str_of(arena_printf(sim->arena, "%s/s0/1/1", id));
        sched_task_token(KEY, 1, task_id, token);
        broker_put(sim, queue, "result", "n", result(sim, task_id, str_of(token), "succeeded"));
        break;
    default:
        if (run->created_at == 0)
            break;
        db_command_add(sim, run->number, "sing", STR("{}"), STR_NONE);
        break;
    }
}

void stranger_sends(struct sim *sim, const struct db_run *run, const char *kind, const char *task)
{
    char *queue = arena_printf(sim->arena, "ropewalk.inbox.%d", run->shard);
    char id[UUID_TEXT_SIZE], token[SCHED_TOKEN_SIZE];
    struct str task_id;

    run_id_format(run->id, id);
    task_id = str_of(arena_printf(sim->arena, "%s/%s", id, task));
    if (strcmp(kind, "garbage") == 0) {
        broker_put(sim, queue, "result", task_id.ptr, STR("{\"v\":1,\"results\":[{\"task_id\":"));
        return;
    }
    sched_task_token(KEY, strcmp(kind, "restored") == 0 ? 2 : 1, task_id, token);
    broker_put(
        sim, queue, "result", task_id.ptr,
        result(sim, task_id, str_arena(sim->arena, str_of(token)), strcmp(kind, "restored") == 0 ? "failed" : kind));
}

void strangers_plan(struct sim *sim)
{
    struct rng rng = sim_rng(sim, DECIDE_NONSENSE, UINT32_MAX);
    uint32_t count = rng_chance(&rng, 1500) ? rng_below(&rng, 4) : 0;

    if (rng_chance(&rng, 3000))
        sim->strangers = rng_below(&rng, 3000);
    for (uint32_t i = 0; i < count; i++) {
        struct rng *own = sim_new(sim, struct rng);
        int64_t at = rng_between(&rng, SEC, 30 * SEC);

        *own = sim_rng(sim, DECIDE_NONSENSE, i);
        if (!sim_decides(sim, DECIDE_NONSENSE))
            continue;
        sim_happened(sim, DECIDE_NONSENSE, at + HELD_UP_US);
        sim_at(sim, at, NULL, nonsense, own);
    }
}
