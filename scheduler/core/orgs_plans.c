/* Organisations and compiled workflow versions: shared by runs, few, and immutable but for an organisation's
 * weight and limits. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define PLANS_KEPT 512
#define PLAN_AGAIN_US (200 * US_PER_MS)

struct org *org_get(struct sched *sched, int32_t id, struct str name, uint32_t weight)
{
    struct str key = {(const char *)&id, sizeof(id)};
    struct org *org = map_get(sched->orgs, key);

    if (org == NULL) {
        org = mem_alloc(sizeof(*org));
        org->id = id;
        org->weight = 1;
        org_set_limits(sched, org, STR_NONE);
        map_put(sched->orgs, key, org);
    }
    if (name.ptr != NULL)
        snprintf(org->name, sizeof(org->name), STR_FMT, STR_ARG(name));
    if (weight > 0)
        org->weight = weight;
    return org;
}

void org_set_limits(struct sched *sched, struct org *org, struct str own)
{
    org->limited = jt_count(own) > 0;
    limits_of(&sched->set.limits, own, &org->limits);
}

bool sched_on_organisations(struct sched *sched, const struct sched_organisation *rows, size_t count)
{
    bool more = false;

    for (size_t i = 0; i < count; i++) {
        struct org *org = map_get(sched->orgs, (struct str){(const char *)&rows[i].id, sizeof(rows[i].id)});

        int64_t before = org == NULL ? 0 : org->limits.of[LIMIT_RUNNING_RUNS];

        if (org == NULL) { /* its first run brings it all; its key may be of a shard of ours all the same */
            more = true;
            continue;
        }
        org->weight = rows[i].weight;
        org_set_limits(sched, org, rows[i].limits);
        org_note_outgoing(org, rows[i].outgoing);
        more = more || org->limits.of[LIMIT_RUNNING_RUNS] > before;
    }
    return more;
}

static uint64_t plan_hash(int32_t organisation, struct str workflow, int32_t version)
{
    return hash_u64(str_hash(workflow) ^ ((uint64_t)(uint32_t)organisation << 32) ^ (uint32_t)version);
}

static struct plan_info *plan_find_info(const struct sched *sched, int32_t organisation, struct str workflow,
                                        int32_t version)
{
    uint64_t hash = plan_hash(organisation, workflow, version);

    for (struct hnode *n = htable_chain(&sched->plans, hash); n != NULL; n = n->next) {
        struct plan_info *info = CONTAINER(n, struct plan_info, node);

        if (n->hash == hash && info->organisation == organisation && info->version == version &&
            str_eq(info->workflow, workflow))
            return info;
    }
    return NULL;
}

struct plan_info *plan_get(struct sched *sched, int32_t organisation, struct str workflow, int32_t version)
{
    struct plan_info *info = plan_find_info(sched, organisation, workflow, version);

    if (info == NULL) {
        info = mem_alloc(sizeof(*info));
        info->organisation = organisation;
        info->version = version;
        info->workflow = (struct str){mem_dup(workflow.ptr, workflow.len), workflow.len};
        list_init(&info->users);
        list_init(&info->in_lru);
        list_init(&info->in_wanted);
        htable_add(&sched->plans, &info->node, plan_hash(organisation, workflow, version));
        sched->plan_count++;
    }
    list_del(&info->in_lru);
    list_add_tail(&sched->plans_lru, &info->in_lru);
    return info;
}

/* The loop whose item a step of the scope sees; NO_NODE. */
static uint32_t loop_around(const struct plan *plan, uint32_t scope)
{
    while (scope != 0 && plan->scopes[scope].role != ROLE_STEP)
        scope = plan->scopes[scope].parent;
    return scope == 0 ? NO_NODE : plan->scopes[scope].owner;
}

static void note_template(struct plan_info *info, uint32_t scope, const struct template *template)
{
    uint32_t loop = loop_around(info->plan, scope);

    for (size_t i = 0; i < template->expr_count; i++) {
        const struct expr *expr = &template->exprs[i];

        info->input_read |= expr->uses_input;
        if (loop != NO_NODE)
            info->item_read[loop] |= expr->uses_item;
        for (size_t s = 0; s < info->plan->step_count && expr->all_steps; s++)
            info->output_read[s] = true;
        for (size_t s = 0; s < expr->step_count; s++) {
            uint32_t step = plan_find_visible(info->plan, scope, expr->steps[s]);

            if (step != NO_NODE)
                info->output_read[step] = true;
        }
    }
}

static void note_step(struct plan_info *info, const struct plan_step *step)
{
    note_template(info, step->scope, &step->when);
    note_template(info, step->scope, &step->with);
    note_template(info, step->scope, &step->until);
    note_template(info, step->scope, &step->event.filter);
    note_template(info, step->scope, &step->idempotency_key);
    for (size_t c = 0; c < step->case_count; c++)
        note_template(info, step->scope, &step->cases[c]);
    if (step->body != NO_NODE && step->item_output_of == NO_NODE)
        note_template(info, step->body, &step->item_output);
}

/* An inner step whose output is that of its iteration as it stands, and somebody reads the loop's. */
static bool is_read_of_item(const struct plan_info *info, uint32_t step)
{
    uint32_t loop = info->plan->scopes[info->plan->steps[step].scope].owner;

    return loop != NO_NODE && info->plan->steps[loop].item_output_of == step && info->output_read[loop];
}

/* Outputs that nobody reads need no place in the cache of bodies. */
static void note_what_is_read(struct plan_info *info)
{
    const struct plan *plan = info->plan;

    info->output_read = mem_array(plan->step_count, sizeof(bool));
    info->item_read = mem_array(plan->step_count, sizeof(bool));
    for (size_t i = 0; i < plan->step_count; i++)
        note_step(info, &plan->steps[i]);
    if (plan->has_output)
        note_template(info, 0, &plan->output);
    for (uint32_t i = 0; i < plan->step_count; i++)
        info->signal_read |= plan->steps[i].kind == CALL_SIGNAL && (info->output_read[i] || is_read_of_item(info, i));
}

/* The step that a path leads to in the plan, also when it is not in the state any more. ret_item: an iteration of it.
 * NO_NODE: an action, whose output nobody reads. */
static uint32_t step_of_path(const struct plan *plan, struct str path, bool *ret_item)
{
    uint32_t scope = 0, step = NO_NODE;

    while (path.len > 0 && scope != NO_NODE) {
        struct str part = str_cut(&path, '.');
        size_t name = 0;

        while (name < part.len && part.ptr[name] != '[' && part.ptr[name] != ':')
            name++;
        if (name < part.len && part.ptr[name] == ':')
            return NO_NODE;
        step = plan_find_in(plan, scope, (struct str){part.ptr, name});
        if (step == NO_NODE)
            return NO_NODE;
        *ret_item = name < part.len;
        scope = plan->steps[step].body;
    }
    return step;
}

bool plan_reads(const struct plan_info *info, const struct run_state *run, const struct event *event)
{
    uint32_t step;
    bool item = false;

    if (event->type == EVENT_SIGNAL_RECEIVED)
        return info->signal_read;
    if (event->type != EVENT_STEP_WAITING && event->type != EVENT_STEP_SUCCEEDED && event->type != EVENT_STEP_SETTLED &&
        event->type != EVENT_STEP_GIVEN)
        return false;
    step = step_of_path(info->plan, event->step, &item);
    if (step == NO_NODE)
        return false;
    if (event->type == EVENT_STEP_WAITING)
        return info->item_read[step];
    if (item)
        return info->output_read[step];
    if (is_read_of_item(info, step))
        return true;
    /* what else was in an iteration that is over is seen by nobody */
    return info->output_read[step] && run_find_step(run, event->step, NULL) != NO_NODE;
}

static void compile(struct plan_info *info, struct str document)
{
    struct arena *arena = arena_new(4096);
    struct plan_faults faults = {.arena = arena};
    struct plan_limits limits = PLAN_LIMITS_DEFAULT;

    /* It was checked when it was saved, under the limits of then. */
    limits.max_steps = UINT32_MAX;
    limits.max_depth = UINT32_MAX;
    limits.max_run_us = INT64_MAX;
    limits.max_items = UINT32_MAX;
    info->plan = plan_compile(document, &limits, &faults);
    if (info->plan == NULL) {
        info->absent = info->unreadable = true;
        log_event(LOG_ERROR, "plan.not_compiled", log_str("workflow", info->workflow),
                  log_i64("version", info->version), log_i64("organisation_id", info->organisation),
                  log_cstr("code", faults.count > 0 ? faults.items[0].code : ""),
                  log_str("reason", faults.count > 0 ? faults.items[0].message : STR_NONE));
    } else {
        note_what_is_read(info);
    }
    arena_free(arena);
}

void sched_on_plans(struct sched *sched, const struct sched_plan_loaded *plans, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sched_plan_want *key = &plans[i].key;
        struct plan_info *info = plan_find_info(sched, key->organisation, key->workflow, key->version);

        if (info == NULL || info->plan != NULL)
            continue;
        sched->now = sched->ports.mono(sched->ports.ctx);
        info->asked = false;
        if (plans[i].failed) {
            info->ask_at = mono_after(sched->now, PLAN_AGAIN_US);
            continue;
        }
        list_del(&info->in_wanted);
        if (plans[i].document.ptr == NULL)
            info->absent = true;
        else
            compile(info, plans[i].document);
        for (LIST_EACH(&info->users, at))
            run_plan_here(sched, CONTAINER(at, struct run_entry, waits_plan));
        info->absent = info->unreadable = false; /* asked for again by the next that wants it */
    }
}

static void plan_free(struct sched *sched, struct plan_info *info)
{
    htable_del(&sched->plans, &info->node);
    list_del(&info->in_lru);
    list_del(&info->in_wanted);
    sched->plan_count--;
    plan_unref(info->plan);
    arena_free(info->schema_arena);
    mem_free(info->output_read);
    mem_free(info->item_read);
    mem_free((void *)(uintptr_t)info->workflow.ptr);
    mem_free(info);
}

static void evict(struct sched *sched)
{
    for (struct link *at = sched->plans_lru.next; at != &sched->plans_lru && sched->plan_count > PLANS_KEPT;) {
        struct plan_info *info = CONTAINER(at, struct plan_info, in_lru);

        at = at->next;
        if (info->entries == 0 && list_empty(&info->users))
            plan_free(sched, info);
    }
}

void plan_wait(struct sched *sched, struct plan_info *info, struct run_entry *entry)
{
    list_add_tail(&info->users, &entry->waits_plan);
    if (list_empty(&info->in_wanted))
        list_add_tail(&sched->plans_wanted, &info->in_wanted);
}

void plans_tick(struct sched *sched)
{
    struct sched_plan_want wants[16];
    size_t n = 0;

    for (LIST_EACH(&sched->plans_wanted, at)) {
        struct plan_info *info = CONTAINER(at, struct plan_info, in_wanted);

        if (info->asked || n == 16)
            continue;
        if (info->ask_at.us > sched->now.us) {
            wake_by(sched, info->ask_at);
            continue;
        }
        info->asked = true;
        wants[n++] = (struct sched_plan_want){info->organisation, info->workflow, info->version};
    }
    if (n > 0) {
        sched->ports.load_plans(sched->ports.ctx, wants, n);
        evict(sched);
    }
}

void plans_free(struct sched *sched)
{
    size_t pos = 0;
    struct str key;
    void *org;

    for (LIST_EACH(&sched->plans_lru, at))
        plan_free(sched, CONTAINER(at, struct plan_info, in_lru));
    htable_deinit(&sched->plans);
    while (map_next(sched->orgs, &pos, &key, &org))
        mem_free(org);
    map_free(sched->orgs);
}
