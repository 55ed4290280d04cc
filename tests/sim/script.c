/* Plays directed histories: script.h. */
#include "tests/sim/script.h"
#include <stdarg.h>

#include "common/base/banned.h"

#define START_US (1 * SEC)

/* ---- tables ---- */

void script_each(void (*fn)(void *ctx, const struct script *script), void *ctx)
{
    const struct script *const tables[] = {histories_workers,  histories_schedulers, histories_language,
                                           histories_services, histories_retry,      histories_pause,
                                           histories_admission};

    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
        for (const struct script *s = tables[t]; s->name != NULL; s++)
            fn(ctx, s);
}

struct search {
    const char *name;
    const struct script *found;
};

static void compare(void *ctx, const struct script *script)
{
    struct search *search = ctx;

    if (strcmp(search->name, script->name) == 0)
        search->found = script;
}

const struct script *script_find(const char *name)
{
    struct search search = {name, NULL};

    script_each(compare, &search);
    return search.found;
}

/* ---- what is done ---- */

static struct node *node_of(struct sim *sim, enum who who, struct node *here)
{
    struct node *owner = db_owner(sim, sim->db.runs[0]->shard);

    if (owner == NULL) /* among faults of chance */
        owner = &sim->nodes[0];

    switch (who) {
    case THE_ONE:
        return here;
    case THE_OTHER:
        return here->kind == NODE_SCHEDULER ? &sim->nodes[1 - here->index] : &sim->nodes[SCHEDULERS + 1 - here->index];
    case OWNER:
        return owner;
    case NOT_OWNER:
        return &sim->nodes[1 - owner->index];
    case W0:
        return &sim->nodes[SCHEDULERS];
    case W1:
        return &sim->nodes[SCHEDULERS + 1];
    case S0:
        return &sim->nodes[0];
    case S1:
        return &sim->nodes[1];
    }
    return here;
}

static void to_process(struct sim *sim, const struct rule *rule, struct node *node)
{
    switch ((int)rule->what) {
    case DECIDE_CRASH:
        node_crash(sim, node);
        if (rule->us > 0)
            sim_at(sim, sim->now + rule->us, NULL, node_start, node);
        break;
    case DECIDE_FREEZE:
        node_freeze(sim, node, rule->us);
        break;
    case DECIDE_LINK:
        node->link_until = sim->now + rule->us;
        node_disconnect(sim, node);
        break;
    case DECIDE_CLOCK:
        node->wall_skew = rule->us;
        break;
    default:
        if (!node->alive)
            break;
        scheduler_hand_over(node, sim->db.runs[0]->shard);
        break;
    }
}

static void to_service(struct sim *sim, const struct rule *rule)
{
    struct rng rng = sim_rng(sim, rule->what, 0);

    switch ((int)rule->what) {
    case DECIDE_DATABASE:
        sim->db.down_until = sim->now + rule->us;
        break;
    case DECIDE_BROKER:
        broker_restart(sim, rule->us);
        break;
    case DECIDE_ALARM:
        broker_block(sim, rule->us);
        break;
    case DECIDE_CACHE:
        sim->cache_down_until = sim->now + rule->us;
        break;
    case DECIDE_FLUSH:
        cache_flush(sim);
        break;
    case DECIDE_PURGE:
        broker_purge(sim, &rng, true);
        break;
    case DECIDE_STALE:
        cache_fail_over(sim, rule->us);
        break;
    case DECIDE_JUMP:
        db_jump(sim, rule->us);
        break;
    case DECIDE_REQUEST:
        load_request(sim, sim->db.runs[rule->run], rule->kind, rule->text == NULL ? STR_NONE : str_of(rule->text));
        break;
    case DECIDE_DATA:
        db_damage(sim, sim->db.runs[rule->run], rule->kind);
        break;
    case DECIDE_NONSENSE:
        stranger_sends(sim, sim->db.runs[rule->run], rule->kind, rule->text);
        break;
    default:
        sim_fail(sim, "the script does what cannot be done: %s", decision_names[rule->what]);
    }
}

struct deed {
    const struct rule *rule;
    struct node *node;
};

static void perform(struct sim *sim, void *what)
{
    const struct deed *deed = what;
    const struct rule *rule = deed->rule;

    sim_trace(sim, "script: %s %s", decision_names[rule->what], rule->on == NULL ? "" : rule->on);
    sim_happened(sim, rule->what, sim->now + (rule->us > 0 ? rule->us : 0));
    switch ((int)rule->what) {
    case DECIDE_CRASH:
    case DECIDE_FREEZE:
    case DECIDE_LINK:
    case DECIDE_CLOCK:
    case DECIDE_HANDOVER:
        to_process(sim, rule, node_of(sim, rule->who, deed->node));
        break;
    default:
        to_service(sim, rule);
        break;
    }
}

static void plan_deed(struct sim *sim, const struct rule *rule, struct node *node, int64_t at)
{
    struct deed *deed = sim_new(sim, struct deed);

    *deed = (struct deed){rule, node};
    sim_at(sim, at, NULL, perform, deed);
}

/* ---- points ---- */

/* What is decided at the point itself. False: it is an action of its own. */
static bool decide_here(struct sim *sim, const struct rule *rule, struct point *point)
{
    switch ((int)rule->what) {
    case DECIDE_LOSS:
        point->lost = true;
        break;
    case DECIDE_DUPLICATE:
        point->doubled = true;
        break;
    case DECIDE_LATE:
        point->late_us = rule->us;
        break;
    case DECIDE_UNCONFIRMED:
        point->unconfirmed = true;
        break;
    case DECIDE_UNKNOWN:
        point->unknown = true;
        point->undone = rule->text != NULL;
        break;
    case DECIDE_CONFLICT:
        point->conflict = true;
        break;
    case DECIDE_UNAVAILABLE:
        point->unavailable = true;
        break;
    default:
        return false;
    }
    sim_happened(sim, rule->what, sim->now + rule->us);
    sim_trace(sim, "script: %s %s", decision_names[rule->what], rule->on);
    return true;
}

static struct point on_point(struct sim *sim, struct node *node, const char *text)
{
    const struct script *script = sim->play->script;
    struct point point = {0};

    for (size_t i = 0; i < RULES_MAX; i++) {
        const struct rule *rule = &script->rules[i];
        size_t len = rule->on == NULL ? 0 : strlen(rule->on);

        if (len == 0 || strncmp(text, rule->on, len) != 0 ||
            (text[len] != '\0' && text[len] != ' ' && text[len] != '/'))
            continue;
        if (rule->nth >= 0 && sim->points[i]++ != (uint32_t)rule->nth)
            continue;
        if (!decide_here(sim, rule, &point))
            plan_deed(sim, rule, node, sim->now + rule->after);
    }
    return point;
}

const struct script_answer *script_answer(struct sim *sim, struct str run_step, unsigned nth)
{
    static const struct script_answer good = {.takes = 10 * MS};
    const struct script *script = sim->play->script;
    struct str step = run_step;
    struct run_id id;

    if (!run_id_parse(str_cut(&step, '/'), &id))
        return &good;
    for (size_t i = 0; i < sizeof(script->answers) / sizeof(script->answers[0]); i++) {
        const struct script_answer *answer = &script->answers[i];
        const char *name = arena_printf(sim->arena, "%u:" STR_FMT, db_find(sim, id)->number, STR_ARG(step));

        if (answer->step != NULL && strcmp(answer->step, name) == 0 &&
            (answer->nth < 0 || (unsigned)answer->nth == nth))
            return answer;
    }
    return &good;
}

/* ---- begin ---- */

/* All in one shard. */
static struct run_id id_of(uint32_t number)
{
    struct run_id id = {{0}};

    id.bytes[0] = 1;
    id.bytes[6] = 0x70;
    id.bytes[8] = 0x80;
    id.bytes[15] = (uint8_t)(number * SHARDS);
    return id;
}

static void begin_with(struct sim *sim, void *run)
{
    load_request(sim, run, "begin", str_of(sim->play->script->begin));
}

void script_plan(struct sim *sim)
{
    const struct script *script = sim->play->script;
    uint32_t runs = script->runs == 0 ? 1 : script->runs;

    sim->on_point = on_point;
    for (int i = 0; i < 2; i++)
        if (script->documents[i] != NULL)
            documents_add(sim, i == 0 ? "w0" : "c0", str_of(script->documents[i]));
    for (uint32_t n = 0; n < runs && !sim->failed; n++) {
        struct db_run *run = db_run_add(sim, id_of(n), &sim->db.workflows[0], 1);

        run->input = str_of(script->input == NULL ? "{\"x\":1}" : script->input);
        run->refuses = strcmp(script->of, "B6b") == 0 && n == 0;
        sim_at(sim, START_US, NULL, n + 1 == runs && script->begin != NULL ? begin_with : load_start, run);
    }
    for (size_t i = 0; i < RULES_MAX; i++)
        if (script->rules[i].on == NULL && script->rules[i].what != 0)
            plan_deed(sim, &script->rules[i], NULL, script->rules[i].after);
}

/* ---- end ---- */

int64_t script_rests_at(const struct sim *sim)
{
    return START_US + sim->play->script->lasts;
}

static void tell_event(struct sim *sim, const struct db_event *event, struct buf *out)
{
    struct str code = STR_NONE;

    if (out->len > 0)
        buf_append_str(out, STR(", "));
    buf_append_str(out, str_of(event_type_name((enum event_type)event->type)));
    if (event->step.len > 0)
        buf_printf(out, " " STR_FMT, STR_ARG(event->step));
    if (event->attempt > 0)
        buf_printf(out, "/%u", event->attempt);
    if (jt_string(jt_get(event->data, "code"), sim->arena, &code))
        buf_printf(out, " " STR_FMT, STR_ARG(code));
}

static bool is_one_of(struct str text, const char *expected)
{
    struct str rest = str_of(expected);
    bool found;

    do
        found = str_eq(text, str_trim(str_cut(&rest, '|')));
    while (rest.len > 0 && !found);
    return found;
}

static void check_history(struct sim *sim, const struct db_run *run, const char *expected)
{
    struct buf text;

    buf_init(&text, (size_t)1 << 20);
    for (size_t i = 0; i < run->event_count; i++)
        tell_event(sim, &run->events[i], &text);
    if (!is_one_of(buf_str(&text), expected))
        sim_fail(sim, "run %u should be [%s] and is [" STR_FMT "]", run->number, expected, STR_ARG(buf_str(&text)));
    buf_deinit(&text);
}

static void check_sent(struct sim *sim, const char *expected)
{
    struct buf text;

    buf_init(&text, (size_t)1 << 20);
    world_tell_sends(sim, &text);
    if (!str_is(buf_str(&text), expected == NULL ? "" : expected))
        sim_fail(sim, "sent should be [%s] and is [" STR_FMT "]", expected == NULL ? "" : expected,
                 STR_ARG(buf_str(&text)));
    buf_deinit(&text);
}

void script_check(struct sim *sim)
{
    const struct script *script = sim->play->script;
    const struct db_run *first = sim->db.runs[0];

    for (uint32_t n = 0; n < RUNS_MAX; n++) {
        if (script->histories[n] == NULL)
            continue;
        if (n < sim->db.run_count)
            check_history(sim, sim->db.runs[n], script->histories[n]);
        else
            sim_fail(sim, "run %u was never begun", n);
    }
    check_sent(sim, script->sent);
    if (script->within > 0 && sim->now > START_US + script->within)
        sim_fail(sim, "it took %lld ms", (long long)((sim->now - START_US) / MS));
    if (sim->db.dead_letters != script->dead_letters)
        sim_fail(sim, "%zu dead letters, not %u", sim->db.dead_letters, script->dead_letters);
    for (uint32_t n = 0; script->ends_first > 0 && n < sim->db.run_count; n++)
        if (n + 1 != script->ends_first &&
            sim->db.runs[n]->closed_at <= sim->db.runs[script->ends_first - 1]->closed_at)
            sim_fail(sim, "run %u should have ended before run %u", script->ends_first - 1, n);
    if (first->quarantined != script->quarantined)
        sim_fail(sim, "run 0 is%s in quarantine", first->quarantined ? "" : " not");
}
