/* What happens in a history: starts, signals and all that clients and operators ask for. */
#include "common/base/ensure.h"
#include "tests/sim/sim.h"
#include <inttypes.h>

#include "common/base/banned.h"

void load_nudge(struct sim *sim, int16_t shard)
{
    broker_put(sim, arena_printf(sim->arena, "ropewalk.inbox.%d", shard), "nudge", "n",
               str_of(arena_printf(sim->arena, "{\"v\":1,\"shard\":%d}", shard)));
}

struct request {
    struct db_run *run;
    const char *kind;
    struct str body;
};

static bool is_start(const char *kind)
{
    return strcmp(kind, "start") == 0 || strcmp(kind, "begin") == 0;
}

/* {"type", "source", "data"}: for whoever waits for it. */
static void take_event(struct sim *sim, struct str body)
{
    struct str type, source;

    if (jt_string(jt_get(body, "type"), sim->arena, &type) && jt_string(jt_get(body, "source"), sim->arena, &source))
        db_event_comes(sim, type, source, jt_get(body, "data"));
}

/* The gateway's transaction: from here on the run is acknowledged. */
static void accept(struct sim *sim, void *what)
{
    struct request *r = what;

    if (sim->db.down_until > sim->now) {
        sim_at(sim, sim->db.down_until + MS, NULL, accept, r);
        return;
    }
    if (strcmp(r->kind, "publish") == 0) {
        take_event(sim, r->body);
        return;
    }
    if (!is_start(r->kind) && r->run->created_at == 0)
        return; /* 404 */
    if (is_start(r->kind))
        r->run->created_at = db_wall(sim);
    sim_trace(sim, "somebody asks to %s run %u " STR_FMT, r->kind, r->run->number, STR_ARG(r->body));
    db_command_add(sim, r->run->number, r->kind, r->body,
                   !sim->quiet && rng_chance(&sim->streams[DECIDE_REQUEST], 3000) ? STR("gateway.1") : STR_NONE);
    load_nudge(sim, r->run->shard);
}

static void request(struct sim *sim, struct db_run *run, const char *kind, struct str body, int64_t at)
{
    struct request *r = sim_new(sim, struct request);

    *r = (struct request){run, kind, body};
    sim_at(sim, at, NULL, accept, r);
}

void load_request(struct sim *sim, struct db_run *run, const char *kind, struct str body)
{
    request(sim, run, kind, body, sim->now);
}

void load_start(struct sim *sim, void *run)
{
    request(sim, run, "start", STR_NONE, sim->now);
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

/* ---- what is asked of runs that there are ---- */

static struct str signal_body(struct sim *sim, struct rng *rng, struct str name)
{
    struct str body;
    struct buf text;
    struct jw w;

    buf_init(&text, 65536);
    w = jw_to(&text);
    jw_obj(&w);
    jw_kstr(&w, "name", name); /* perhaps of a value that has quotes */
    jw_kraw(&w, "payload", rng_chance(rng, 2000) ? STR("null") : STR("{\"by\":\"a person\"}"));
    jw_end_obj(&w);
    body = str_arena(sim->arena, buf_str(&text));
    buf_deinit(&text);
    return body;
}

static struct str settle_body(struct sim *sim, struct rng *rng, struct str step)
{
    return str_of(arena_printf(sim->arena, "{\"step\":\"" STR_FMT "\",\"as\":\"%s\",\"output\":{\"settled\":true}}",
                               STR_ARG(step), rng_chance(rng, 6000) ? "succeeded" : "failed"));
}

/* One that a step of this run may wait for, or of another. */
static struct str event_body(struct sim *sim, struct rng *rng, const struct db_run *run, struct str type)
{
    struct str x = jt_get(run->input, "x");
    const char *n = arena_printf(sim->arena, "%u", rng_below(rng, 6));

    if (rng_chance(rng, 2500))
        n = "true";
    else if (rng_chance(rng, 1000))
        n = "null"; /* for who compares it with what is not there */
    else if (rng_chance(rng, 5000) && x.ptr != NULL)
        n = arena_printf(sim->arena, STR_FMT, STR_ARG(x));
    return str_of(arena_printf(sim->arena, "{\"type\":\"" STR_FMT "\",\"source\":\"/s%u\",\"data\":{\"n\":%s}}",
                               STR_ARG(type), rng_below(rng, 2), n));
}

/* A step of it whose outcome nobody knows; STR_NONE: none. */
static struct str unknown_step(const struct db_run *run)
{
    for (size_t i = 0; i < run->event_count; i++)
        if (run->events[i].type == EVENT_STEP_OUTCOME_UNKNOWN)
            return run->events[i].step;
    return STR_NONE;
}

/* Whatever comes to mind, whether it makes sense or not, of runs that are open or have ended. */
static void meddle(struct sim *sim, void *what)
{
    static const char *const names[] = {"go", "stop", "only", "n-1", "n-3", "nobody-waits"};
    struct rng *rng = what;
    struct db_run *run = sim->db.runs[rng_below(rng, sim->db.run_count)];
    struct str unknown = unknown_step(run);

    switch (rng_below(rng, 20)) {
    case 17:
    case 18:
    case 19:
        request(sim, run, "publish", event_body(sim, rng, run, rng_chance(rng, 5000) ? STR("paid") : STR("sent")),
                sim->now);
        break;
    case 16:
        operators_ask_all(sim, rng);
        break;
    case 15:
    case 14:
        operators_rerun(sim, rng, run);
        break;
    case 13:
        operators_change_limits(sim, rng);
        break;
    case 11:
    case 12:
        request(sim, run, "retry", rng_chance(rng, 5000) ? STR("{\"confirm\":true}") : STR_NONE, sim->now);
        break;
    case 8:
        request(sim, run, "pause", rng_chance(rng, 5000) ? STR("{\"by\":\"ann\"}") : STR_NONE, sim->now);
        break;
    case 9:
        request(sim, run, "pause", STR_NONE, sim->now);
        request(sim, run, "resume", STR_NONE, sim->now + rng_between(rng, 0, 5 * SEC));
        break;
    case 10:
        request(sim, run, "resume", STR_NONE, sim->now);
        break;
    case 0:
        for (int i = 0; i < 120 && rng_chance(rng, 9800); i++) /* more than a run keeps, now and then */
            request(sim, run, "signal", signal_body(sim, rng, STR("nobody-waits")), sim->now);
        break;
    case 1:
        request(sim, run, "cancel", rng_chance(rng, 5000) ? STR("{\"compensate\":true}") : STR_NONE, sim->now);
        break;
    case 2:
        request(sim, run, "compensate", STR_NONE, sim->now);
        break;
    case 3:
        request(sim, run, "settle", settle_body(sim, rng, unknown.ptr == NULL ? STR("s0") : unknown), sim->now);
        break;
    default:
        request(sim, run, "signal", signal_body(sim, rng, str_of(names[rng_below(rng, 6)])), sim->now);
        break;
    }
}

/* A person looks after what waits for people without end. */
static void look_after(struct sim *sim, void *what)
{
    struct rng *rng = what;

    for (uint32_t i = 0; i < sim->db.run_count; i++) {
        struct db_run *run = sim->db.runs[i];

        for (size_t w = 0; w < run->work_count; w++) {
            const struct sched_open_row *row = &run->work[w].row;
            struct str name = STR_NONE;

            if (!run->work[w].open || row->due_at.us != 0 || (!sim->healed && rng_chance(rng, 7000)))
                continue;
            if (row->kind == WORK_UNKNOWN)
                request(sim, run, "settle", settle_body(sim, rng, row->step), sim->now);
            if (row->kind == WORK_SIGNAL &&
                jt_string(jt_get(run->events[row->seq - 1].data, "name"), sim->arena, &name))
                request(sim, run, "signal", signal_body(sim, rng, name), sim->now);
            if (row->kind == WORK_EVENT)
                request(sim, run, "publish", event_body(sim, rng, run, row->event_type), sim->now);
        }
        if (run->status == RUN_PAUSED && (sim->healed || rng_chance(rng, 4000)))
            request(sim, run, "resume", STR("{\"by\":\"a person\"}"), sim->now);
        if (run_ended(run->status) && unknown_step(run).ptr != NULL && rng_chance(rng, 500))
            request(sim, run, "settle", settle_body(sim, rng, unknown_step(run)), sim->now);
        if (run_ended(run->status) && run->status != RUN_SUCCEEDED && run->ends < 4 && rng_chance(rng, 500))
            request(sim, run, "retry", STR("{\"confirm\":true}"), sim->now);
        if (!sim->healed && rng_chance(rng, 100))
            operators_rerun(sim, rng, run);
    }
    sim_at(sim, sim->now + rng_between(rng, 3 * SEC, 6 * SEC), NULL, look_after, what);
}

/* Of a UUIDv7 all but the time, which nobody looks at here. */
struct run_id load_make_id(struct rng *rng)
{
    uint64_t bits[2] = {rng_next(rng), rng_next(rng)};
    struct run_id id;

    memcpy(id.bytes, bits, sizeof(id.bytes));
    id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0F) | 0x70);
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3F) | 0x80);
    return id;
}

/* One that may be left out. */
static void maybe_request(struct sim *sim, struct db_run *run, const char *kind, struct str body, int64_t at)
{
    if (!sim_decides(sim, DECIDE_REQUEST))
        return;
    sim_happened(sim, DECIDE_REQUEST, 0);
    request(sim, run, kind, body, at);
}

/* At a step, or with outcomes of some; now and then of one that is not there. */
static struct str begin_body(struct sim *sim, struct rng *rng)
{
    static const char *const outcomes[] = {"succeeded", "succeeded", "skipped", "failed", "timed_out"};
    unsigned first = rng_below(rng, 3);

    if (rng_chance(rng, 4000))
        return str_of(arena_printf(sim->arena, "{\"start_at_step\":\"s%u\"}", first));
    return str_of(arena_printf(sim->arena,
                               "{\"given\":[{\"step\":\"s%u\",\"as\":\"%s\",\"code\":null,\"output\":{\"given\":true}},"
                               "{\"step\":\"s%u\",\"as\":\"succeeded\",\"output\":[1]}]}",
                               first, outcomes[rng_below(rng, 5)], first + 1));
}

static void generate_run(struct sim *sim, const struct db_workflow *workflow)
{
    struct rng own = sim_rng(sim, DECIDE_RUN, sim->db.run_count), *rng = &own;
    struct db_run *run = db_run_add(sim, load_make_id(rng), workflow, 1);
    int64_t at = rng_between(rng, 0, 15 * SEC);

    run->input = str_of(arena_printf(sim->arena, "{\"x\":%u,\"list\":[%s]}", rng_below(rng, 5),
                                     rng_chance(rng, 5000) ? "\"one\",2" : "[1,2],[3]"));
    run->refuses = rng_chance(rng, 200) && sim_decides(sim, DECIDE_DATA);
    run->priority = (uint8_t)rng_below(rng, PRIORITY_COUNT);
    if (run->refuses)
        sim_happened(sim, DECIDE_DATA, 0);
    run->left_out = !sim_decides(sim, DECIDE_RUN);
    if (run->left_out)
        return;
    sim_happened(sim, DECIDE_RUN, 0);
    if (rng_chance(rng, 1000))
        request(sim, run, "begin", begin_body(sim, rng), at);
    else
        request(sim, run, "start", STR_NONE, at);
    if (rng_chance(rng, 1000))
        maybe_request(sim, run, "cancel", rng_chance(rng, 5000) ? STR("{\"compensate\":true}") : STR_NONE,
                      at + rng_between(rng, 0, 10 * SEC));
    if (rng_chance(rng, 1000))
        maybe_request(sim, run, "pause", STR_NONE, at + rng_between(rng, 0, 5 * SEC));
    if (rng_chance(rng, 1000))
        sim_at(sim, at + rng_between(rng, 0, 5 * SEC), NULL, watch, run);
    if ((run->refuses && rng_chance(rng, 5000)) || rng_chance(rng, 100))
        maybe_request(sim, run, "release", STR_NONE, at + rng_between(rng, 5 * SEC, 25 * SEC));
    if (rng_chance(rng, 2000)) /* perhaps before anybody waits for it */
        maybe_request(sim, run, "signal", signal_body(sim, rng, STR("go")), at + rng_between(rng, 0, 2 * SEC));
    for (uint32_t i = rng_chance(rng, 5000) ? rng_below(rng, 6) : 0; i > 0; i--)
        maybe_request(sim, run, "publish", event_body(sim, rng, run, rng_chance(rng, 5000) ? STR("paid") : STR("sent")),
                      at + rng_between(rng, 0, 5 * SEC));
}

static struct rng *keep_rng(struct sim *sim, enum decision kind, uint64_t number)
{
    struct rng *rng = sim_new(sim, struct rng);

    *rng = sim_rng(sim, kind, number);
    return rng;
}

void load_look_after(struct sim *sim)
{
    sim_after(sim, 3 * SEC, 6 * SEC, NULL, look_after, keep_rng(sim, DECIDE_REQUEST, UINT32_MAX));
}

void generate_runs(struct sim *sim)
{
    struct rng rng = sim_rng(sim, DECIDE_RUN, UINT32_MAX);
    uint32_t meddling = rng_chance(&rng, 5000) ? rng_below(&rng, 12) : 0;
    uint32_t workflows = 0;

    while (workflows < sim->db.workflow_count && sim->db.workflows[workflows].name[0] == 'w')
        generate_run(sim, &sim->db.workflows[workflows++]);
    for (uint32_t i = rng_below(&rng, 4); i > 0; i--) /* more of one of them */
        generate_run(sim, &sim->db.workflows[rng_below(&rng, workflows)]);
    for (uint32_t i = 0; i < meddling; i++) {
        int64_t at = rng_between(&rng, 0, 45 * SEC);

        if (!sim_decides(sim, DECIDE_REQUEST))
            continue;
        sim_happened(sim, DECIDE_REQUEST, 0);
        sim_at(sim, at, NULL, meddle, keep_rng(sim, DECIDE_REQUEST, i));
    }
    load_look_after(sim);
}
