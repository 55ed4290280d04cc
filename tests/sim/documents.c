/* Workflows of chance: every call of the language, loops in loops, children of children. Expressions are those that
 * model_jq.c understands. */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

#define STEPS_MAX 7
#define STEPS_NUMBERED 128 /* of a version: later ones cannot be left out */
#define LOOPS_MAX 2        /* inside each other */

enum shape { PLAIN, TWO_WAYS, THREE_WAYS, LOOP };

struct writer {
    struct sim *sim;
    struct rng *rng;
    struct buf doc;
    uint32_t depth;  /* of a child's document: what it may call is deeper */
    bool calls;      /* a child run is begun somewhere in it */
    unsigned loops;  /* around what is written */
    uint32_t needed; /* a step that the one at hand needs */
    uint32_t first_number, steps;
    uint64_t seed; /* of this text; each step has its own */
    enum shape shapes[LOOPS_MAX + 1][STEPS_MAX];
    bool written[LOOPS_MAX + 1][STEPS_MAX]; /* not left out */
};

static bool maybe(struct writer *w, uint32_t of_ten_thousand)
{
    return rng_chance(w->rng, of_ten_thousand);
}

static char letter(const struct writer *w)
{
    return (char)(w->loops == 0 ? 's' : 'a' + (int)w->loops - 1);
}

/* ---- what a step needs ---- */

/* The step itself, or, when it was left out, one before it; NO_NODE: none is left. */
static uint32_t left_of(const struct writer *w, uint32_t step)
{
    const bool *written = w->written[w->loops];

    while (step > 0 && !written[step])
        step--;
    return written[step] ? step : NO_NODE;
}

/* False: nothing is left that it could need. */
static bool put_needs(struct writer *w, uint32_t step)
{
    const enum shape *shapes = w->shapes[w->loops];
    uint32_t shape = rng_below(w->rng, 4);
    uint32_t first = left_of(w, shape == 0 ? step - 1 : rng_below(w->rng, step));
    uint32_t second = left_of(w, rng_below(w->rng, step));
    static const char *const ways[] = {"true", "false", "p", "q", "r"};
    char c = letter(w);

    if (first == NO_NODE || second == NO_NODE)
        return false;
    w->needed = first;
    if (shapes[first] == TWO_WAYS || shapes[first] == THREE_WAYS) {
        const char *way = shapes[first] == TWO_WAYS ? ways[rng_below(w->rng, 2)] : ways[2 + rng_below(w->rng, 3)];
        buf_printf(&w->doc, "\"needs\":{\"%c%u\":[\"%s\"%s]}", c, first, way, maybe(w, 1500) ? ",\"failed\"" : "");
        return true;
    }
    if (shape == 1 && second != first && shapes[second] != TWO_WAYS && shapes[second] != THREE_WAYS) {
        buf_printf(&w->doc, "\"needs\":[\"%c%u\",\"%c%u\"]", c, first, c, second); /* a diamond's lower end */
        return true;
    }
    if (shape == 2) {
        buf_printf(&w->doc, "\"needs\":{\"%c%u\":[\"succeeded\",\"failed\",\"skipped\"%s]},\"join\":\"any\"", c, first,
                   maybe(w, 3000) ? ",\"timed_out\",\"outcome_unknown\"" : "");
        return true;
    }
    buf_printf(&w->doc, "\"needs\":[\"%c%u\"]", c, first);
    return true;
}

/* ---- calls ---- */

static const char *const number_paths[] = {".input.x", ".item", ".index"};

static const char *a_number(struct writer *w)
{
    return number_paths[w->loops == 0 ? 0 : rng_below(w->rng, 3)];
}

/* check_data.c knows what it must give. */
static void put_echo(struct writer *w, bool needs)
{
    buf_append_str(&w->doc, STR("\"call\":\"transform\",\"with\":{\"value\":"));
    if (needs && maybe(w, 5000)) {
        buf_printf(&w->doc, "\"${ .steps.%c%u.output }\"}", letter(w), w->needed);
        return;
    }
    buf_append_str(&w->doc, STR("{\"x\":\"${ .input.x }\",\"run\":\"${ .run.id }\""));
    if (w->loops > 0)
        buf_append_str(&w->doc, STR(",\"item\":\"${ .item }\",\"index\":\"${ .index }\""));
    buf_append_str(&w->doc, STR("}}"));
}

static void put_switch(struct writer *w)
{
    buf_printf(
        &w->doc,
        "\"call\":\"switch\",\"with\":{\"cases\":[{\"name\":\"p\",\"if\":\"${ %s > %u }\"},{\"name\":\"q\",\"if\":%s}]",
        a_number(w), rng_below(w->rng, 5), maybe(w, 3000) ? "false" : "\"${ .input.x > 1 }\"");
    buf_append_str(&w->doc, STR(",\"default\":\"r\"}"));
}

static void put_signal(struct writer *w)
{
    static const char *const names[] = {"go", "go", "stop", "n-${ .input.x }"};
    bool once = maybe(w, 2500);

    buf_printf(&w->doc, "\"call\":\"wait_signal\",\"with\":{\"signal\":\"%s\"",
               once ? "only" : names[rng_below(w->rng, 4)]);
    if (once)
        buf_append_str(&w->doc, STR(",\"once\":true"));
    if (once || maybe(w, 5000)) /* who waits without end gets one from a person some day */
        buf_printf(&w->doc, ",\"timeout\":\"%us\"", 1 + rng_below(w->rng, 20));
    buf_append_char(&w->doc, '}');
}

/* Chance of its own: documents without it are as they were. */
static bool put_event(struct writer *w)
{
    static const char *const filters[] = {"", "", ",\"filter\":\"${ .event.data.n == .input.x }\"",
                                          ",\"filter\":\"${ .event.data.n == .index }\"",
                                          ",\"filter\":\"${ .event.data.n }\""};
    static const char *const look_backs[] = {"", "", ",\"look_back\":\"0s\"", ",\"look_back\":\"2s\""};
    struct rng rng = {w->rng->s ^ UINT64_C(0x2545f4914f6cdd1d)};

    if (!rng_chance(&rng, 4500))
        return false;
    buf_printf(&w->doc, "\"call\":\"wait_event\",\"with\":{\"type\":\"%s\"%s%s%s",
               rng_chance(&rng, 5000) ? "paid" : "sent", rng_chance(&rng, 2500) ? ",\"source\":\"/s1\"" : "",
               filters[rng_below(&rng, 5)], look_backs[rng_below(&rng, 4)]);
    if (rng_chance(&rng, 4000)) /* who waits without end is sent one by a person some day */
        buf_printf(&w->doc, ",\"timeout\":\"%us\"", 1 + rng_below(&rng, 20));
    buf_append_char(&w->doc, '}');
    return true;
}

static void put_poll(struct writer *w)
{
    buf_printf(&w->doc,
               "\"call\":\"poll\",\"with\":{\"call\":\"http\",\"with\":{\"url\":\"https://p.example/${ .input.x }\"},"
               "\"until\":\"${ .output.body.n >= %u }\",\"interval\":\"%ums\",\"timeout\":\"%us\"}",
               1 + rng_below(w->rng, 4), 100 + rng_below(w->rng, 2000), 1 + rng_below(w->rng, 30));
}

static void put_child(struct writer *w)
{
    static const char *const odd[] = {"missing", "off"};

    if (maybe(w, 1500))
        buf_printf(&w->doc, "\"call\":\"workflow\",\"with\":{\"name\":\"%s\"", odd[rng_below(w->rng, 2)]);
    else
        buf_printf(&w->doc, "\"call\":\"workflow\",\"with\":{\"name\":\"c%u\"", w->depth);
    w->calls = true;
    if (maybe(w, 3000))
        buf_printf(&w->doc, ",\"version\":%u", 1 + rng_below(w->rng, VERSIONS_MAX + 1));
    if (maybe(w, 9000))
        buf_printf(&w->doc, ",\"input\":{\"x\":\"${ %s }\",\"list\":[7,8]}", a_number(w));
    buf_append_char(&w->doc, '}');
}

static void put_steps(struct writer *w, uint32_t count);

static void put_items(struct writer *w)
{
    switch (rng_below(w->rng, 8)) {
    case 0:
        buf_append_str(&w->doc, STR("[]"));
        break;
    case 1:
        buf_append_str(&w->doc, STR("\"${ .input.none }\""));
        break;
    case 2:
        buf_append_str(&w->doc, STR("\"${ .input.x }\"")); /* no list */
        break;
    case 3:
        buf_append_str(&w->doc, w->loops > 0 ? STR("\"${ .item }\"") : STR("[[1,2],[],[3],\"four\"]"));
        break;
    case 4:
        buf_append_str(&w->doc, STR("\"${ [range(.input.x)] }\""));
        break;
    case 5:
        buf_append_str(&w->doc, STR("\"${ .input.list }\""));
        break;
    default:
        buf_append_str(&w->doc, w->loops > 0 ? STR("[1,\"b\"]") : STR("[1,\"two\",{\"three\":3},[4],null,6.50]"));
        break;
    }
}

/* More items than one transaction may begin, each of which is done at once. */
static void put_long_loop(struct writer *w)
{
    buf_printf(
        &w->doc,
        "\"call\":\"foreach\",\"with\":{\"items\":\"${ [range(%u)] }\",\"concurrency\":%u,\"steps\":{\"a0\":{\"call\":"
        "\"transform\",\"with\":{\"value\":%s}}}}",
        200 + rng_below(w->rng, 500), 1 + rng_below(w->rng, 500), maybe(w, 5000) ? "1" : "\"${ .item }\"");
}

static void put_loop(struct writer *w)
{
    if (w->loops == 0 && maybe(w, 100)) {
        put_long_loop(w);
        return;
    }
    buf_append_str(&w->doc, STR("\"call\":\"foreach\",\"with\":{\"items\":"));
    put_items(w);
    if (maybe(w, 7000))
        buf_printf(&w->doc, ",\"concurrency\":%u", 1 + rng_below(w->rng, 3));
    if (maybe(w, 5000))
        buf_append_str(&w->doc, STR(",\"on_item_failure\":\"continue\""));
    buf_append_str(&w->doc, STR(",\"steps\":{"));
    w->loops++;
    put_steps(w, 1 + rng_below(w->rng, 3));
    buf_append_char(&w->doc, '}');
    if (w->written[w->loops][0] && maybe(w, 2000))
        buf_printf(&w->doc, ",\"output\":\"${ .steps.%c0.output }\"", letter(w));
    else if (maybe(w, 1500))
        buf_append_str(&w->doc, STR(",\"output\":{\"i\":\"${ .index }\",\"more\":\"${ .index + 1 }\"}"));
    w->loops--;
    buf_append_char(&w->doc, '}');
}

static void put_task(struct writer *w, uint32_t kind)
{
    switch (kind) {
    case 0:
        buf_append_str(
            &w->doc, STR("\"call\":\"http\",\"delivery\":\"at_most_once\",\"with\":{\"url\":\"https://a.example/\"}"));
        if (maybe(w, 4000))
            buf_append_str(&w->doc, STR(",\"on_unknown\":\"wait\""));
        break;
    case 1:
    case 2:
        buf_printf(&w->doc,
                   "\"call\":\"http\",\"with\":{\"url\":\"https://a.example/\",\"query\":{\"q\":\"${ .input.x }\"}}");
        break;
    case 3:
        buf_append_str(&w->doc, STR("\"call\":\"http\",\"timeout\":\"10s\",\"with\":{\"url\":\"https://b.example/\"}"));
        break;
    default:
        buf_append_str(&w->doc, STR("\"call\":\"noop\""));
        break;
    }
    if (kind < 4 && maybe(w, 1500))
        buf_append_str(&w->doc, STR(",\"idempotency\":{\"key\":\"k-${ .input.x }\"}"));
    else if (kind < 4 && maybe(w, 1000))
        buf_append_str(&w->doc, STR(",\"idempotency\":{\"per\":\"step\"}"));
}

static void put_retry(struct writer *w)
{
    static const char *const on[] = {"", ",\"on\":[\"http_503\"]", ",\"on\":[\"http_5xx\",\"connect\"]",
                                     ",\"on\":[\"timeout\"]"};

    buf_printf(&w->doc, ",\"retry\":{\"max_attempts\":%u,\"initial\":\"100ms\",\"factor\":2,\"max\":\"5s\"%s}",
               1 + rng_below(w->rng, 4), on[rng_below(w->rng, 4)]);
}

static void put_compensate(struct writer *w)
{
    static const char *const on[] = {"", "", ",\"on\":[\"succeeded\",\"timed_out\",\"outcome_unknown\"]",
                                     ",\"on\":[\"succeeded\",\"failed\",\"cancelled\"]"};

    buf_append_str(&w->doc, STR(",\"compensate\":{"));
    buf_append_str(&w->doc, maybe(w, 5000)
                                ? STR("\"call\":\"noop\"")
                                : STR("\"call\":\"http\",\"with\":{\"url\":\"https://u.example/${ .input.x }\"}"));
    if (maybe(w, 5000))
        put_retry(w);
    buf_printf(&w->doc, "%s}", on[rng_below(w->rng, 4)]);
}

static void put_rest(struct writer *w, bool is_task, bool branches)
{
    static const char *const priorities[] = {"critical", "high", "normal", "low"};

    if (is_task && maybe(w, 3000))
        put_retry(w);
    if (maybe(w, 2500))
        buf_append_str(&w->doc, STR(",\"on_failure\":\"continue\""));
    if (maybe(w, 500))
        buf_printf(&w->doc, ",\"deadline\":\"%us\"", 1 + rng_below(w->rng, 20));
    if (is_task && maybe(w, 500))
        buf_printf(&w->doc, ",\"priority\":\"%s\"", priorities[rng_below(w->rng, 4)]);
    if (!branches && maybe(w, 1200))
        put_compensate(w);
    if (maybe(w, 600))
        buf_printf(&w->doc, ",\"when\":\"${ %s > %u }\"", a_number(w), rng_below(w->rng, 3));
}

static void put_step(struct writer *w, uint32_t step)
{
    enum shape *shape = &w->shapes[w->loops][step];
    uint32_t kind = rng_below(w->rng, 17);
    bool needs = step > 0 && maybe(w, 9000);

    *shape = PLAIN;
    buf_printf(&w->doc, "\"%c%u\":{", letter(w), step);
    needs = needs && put_needs(w, step);
    if (needs)
        buf_append_char(&w->doc, ',');
    if (w->depth > 0 && w->loops == 0 && maybe(w, 1500))
        kind = 11;
    if (kind == 11 && (w->depth > 3 || w->loops == LOOPS_MAX)) /* they would be too many */
        kind = 16;
    if ((kind == 12 || kind == 13) && w->loops == LOOPS_MAX)
        kind = 5;
    switch (kind) {
    case 5:
    case 6:
        put_echo(w, needs);
        break;
    case 7:
        *shape = TWO_WAYS;
        buf_printf(&w->doc, "\"call\":\"condition\",\"with\":{\"if\":\"${ %s > 1 }\"}", a_number(w));
        break;
    case 8:
        *shape = THREE_WAYS;
        put_switch(w);
        break;
    case 9:
        buf_printf(&w->doc, "\"call\":\"delay\",\"with\":{\"duration\":\"%ums\"}", 1 + rng_below(w->rng, 5000));
        break;
    case 10:
        put_poll(w);
        break;
    case 11:
        put_child(w);
        break;
    case 12:
    case 13:
        *shape = LOOP;
        put_loop(w);
        break;
    case 14:
        if (!put_event(w))
            put_signal(w);
        break;
    default:
        put_task(w, kind < 5 ? kind : 4);
        break;
    }
    put_rest(w, kind < 5 || kind > 14 || kind == 10, *shape == TWO_WAYS || *shape == THREE_WAYS);
    buf_append_char(&w->doc, '}');
}

/* Steps that are left out leave the others as they are: each follows from its own number. */
static void put_steps(struct writer *w, uint32_t count)
{
    struct rng *before = w->rng;
    bool any = false;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = w->steps++;
        struct rng own = {w->seed + number * UINT64_C(0xaf251af3b0f025b5)};
        bool kept = number >= STEPS_NUMBERED || sim_keeps(w->sim, DECIDE_STEP, w->first_number + number);

        w->written[w->loops][i] = kept || (i + 1 == count && !any);
        if (!w->written[w->loops][i])
            continue;
        if (any)
            buf_append_char(&w->doc, ',');
        any = true;
        sim_happened(w->sim, DECIDE_STEP, 0);
        w->rng = &own;
        put_step(w, i);
        w->rng = before;
    }
}

/* That step of the workflow, or the next that was not left out, whichever way. */
static uint32_t last_written(const struct writer *w, uint32_t step, uint32_t count)
{
    uint32_t left = left_of(w, step);

    while (left == NO_NODE && step + 1 < count)
        left = left_of(w, ++step);
    return left;
}

/* Chance of its own: documents without it are as they were. */
static void put_concurrency(struct writer *w)
{
    static const char *const on_limit[] = {"queue", "queue", "skip", "cancel_oldest"};
    static const char *const keys[] = {"",
                                       "",
                                       "\"key\":\"${ .input.x }\",",
                                       "\"key\":\"k-${ .input.x }\",",
                                       "\"key\":\"${ .input.x + 1 }\",",
                                       "\"key\":\"all\",",
                                       "\"key\":\"${ .input.nothing }\","};
    struct rng rng = {w->seed ^ UINT64_C(0x5bd1e995a3c59ac3)};

    if (!rng_chance(&rng, 2500))
        return;
    buf_printf(&w->doc, "\"concurrency\":{%s\"limit\":%u,\"on_limit\":\"%s\"},",
               keys[rng_chance(&rng, 500) ? 6 : rng_below(&rng, 6)], 1 + rng_below(&rng, 3),
               on_limit[rng_below(&rng, 4)]);
}

static struct str write_document(struct sim *sim, const char *name, uint32_t depth, struct rng *rng,
                                 uint32_t first_number, bool *ret_calls)
{
    struct writer w = {.sim = sim, .rng = rng, .depth = depth, .first_number = first_number, .seed = rng_next(rng)};
    uint32_t steps = 1 + rng_below(rng, depth == 0 ? STEPS_MAX : 4);
    struct str text;

    buf_init(&w.doc, (size_t)1 << 20);
    buf_printf(&w.doc, "{\"name\":\"%s\",", name);
    if (maybe(&w, 1000))
        buf_printf(&w.doc, "\"timeout\":\"%us\",", 5 + rng_below(w.rng, 30));
    if (maybe(&w, 1000))
        buf_append_str(&w.doc, STR("\"on_failure\":\"continue\","));
    if (maybe(&w, 1000))
        buf_append_str(&w.doc,
                       STR("\"on_failure_notify\":{\"call\":\"http\",\"with\":{\"url\":\"https://n.example/\"}},"));
    if (depth > 0 && maybe(&w, 2000))
        buf_append_str(&w.doc,
                       STR("\"input_schema\":{\"type\":\"object\",\"required\":[\"x\"],\"properties\":{\"x\":{\"type\":"
                           "\"integer\"}}},"));
    put_concurrency(&w);
    buf_append_str(&w.doc, STR("\"steps\":{"));
    put_steps(&w, steps);
    buf_append_char(&w.doc, '}');
    if (maybe(&w, 3000))
        buf_append_str(&w.doc, STR(",\"output\":\"${ {x: .input.x} }\""));
    else if (maybe(&w, 6000))
        buf_printf(&w.doc, ",\"output\":\"${ .steps.s%u.output }\"", last_written(&w, rng_below(w.rng, steps), steps));
    buf_append_char(&w.doc, '}');
    text = str_arena(sim->arena, buf_str(&w.doc));
    buf_deinit(&w.doc);
    *ret_calls = w.calls;
    return text;
}

static struct plan *compile(struct sim *sim, struct str document)
{
    struct plan_faults faults = {.arena = sim->arena};
    struct plan *plan = sim_plan_compile(document, &PLAN_LIMITS_DEFAULT, &faults);

    /* chance may join what cannot meet, or read what is not upstream */
    if (plan == NULL && strcmp(faults.items[0].code, "unreachable_step") != 0 &&
        strcmp(faults.items[0].code, "not_upstream") != 0)
        sim_fail(sim, "generated a workflow that does not compile: %s " STR_FMT " in " STR_FMT, faults.items[0].code,
                 STR_ARG(faults.items[0].pointer), STR_ARG(document));
    return plan;
}

/* Does it begin child runs? */
static bool make_workflow(struct sim *sim, const char *name, uint32_t depth, int32_t versions)
{
    uint32_t number = sim->db.workflow_count++;
    struct db_workflow *workflow = &sim->db.workflows[number];
    bool any_calls = false, calls = false;

    workflow->name = name;
    workflow->version_count = versions;
    for (int32_t v = 0; v < versions && !sim->failed; v++) {
        uint32_t first = (number * VERSIONS_MAX + (uint32_t)v) * STEPS_NUMBERED;
        struct rng rng = sim_rng(sim, DECIDE_STEP, first);

        do {
            workflow->documents[v] = write_document(sim, name, depth, &rng, first, &calls);
            workflow->plans[v] = compile(sim, workflow->documents[v]);
        } while (workflow->plans[v] == NULL && !sim->failed);
        any_calls = any_calls || calls;
    }
    return any_calls;
}

void documents_add(struct sim *sim, const char *name, struct str document)
{
    struct db_workflow *workflow = &sim->db.workflows[sim->db.workflow_count++];

    *workflow = (struct db_workflow){.name = name, .version_count = 1, .documents = {document}};
    workflow->plans[0] = compile(sim, document);
    if (workflow->plans[0] == NULL)
        sim_fail(sim, "'%s' does not compile", name);
}

/* w0, w1, ... are started by clients. They call c0, that calls c1, ...: the last of them is a level too deep. */
void documents_make(struct sim *sim)
{
    struct rng rng = sim_rng(sim, DECIDE_STEP, UINT32_MAX);
    uint32_t count = 1 + rng_below(&rng, 3);
    struct rng limits = sim_rng(sim, DECIDE_STEP, UINT32_MAX - 1);
    struct db_workflow *off;
    bool calls = false;

    operators_make_limits(sim, &limits);
    for (uint32_t i = 0; i < count; i++)
        calls = make_workflow(sim, arena_printf(sim->arena, "w%u", i), 0, 1) || calls;
    for (uint32_t i = 0; i < 4 && calls; i++)
        calls =
            make_workflow(sim, arena_printf(sim->arena, "c%u", i), i + 1, 1 + (int32_t)rng_below(&rng, VERSIONS_MAX));
    off = &sim->db.workflows[sim->db.workflow_count++];
    off->name = "off";
    off->disabled = true;
}
