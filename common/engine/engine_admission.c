/* How a run begins, and the slots of concurrency keys that it needs for that. A key belongs to the shard of its slot,
 * not to that of the run: asking and giving back are effects, which become commands for the key's owner, and what the
 * owner grants comes back as one. Nothing in here knows who else holds a slot. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"
#include <inttypes.h>

static const char *const on_limit_names[] = {
    [ON_LIMIT_QUEUE] = "queue", [ON_LIMIT_SKIP] = "skip", [ON_LIMIT_CANCEL_OLDEST] = "cancel_oldest"};

/* The same for all who name the same key, whatever their version of the workflow. Its slot is of the hash, too. */
static struct run_id key_id(const struct run_state *state, enum admission_scope scope, bool has_name, struct str name)
{
    struct run_id id;
    uint8_t digest[32];
    struct buf seed;

    buf_init(&seed, SIZE_MAX / 2);
    buf_printf(&seed, "%" PRId32 "/%s/", state->organisation, admission_scope_names[scope]);
    if (scope == ADMISSION_WORKFLOW)
        buf_append_str(&seed, state->plan->name);
    if (has_name) {
        buf_append_char(&seed, '/');
        buf_append_str(&seed, name);
    }
    sha256(buf_str(&seed), digest);
    buf_deinit(&seed);
    memcpy(id.bytes, digest, sizeof(id.bytes));
    id.bytes[6] = (uint8_t)(0x80 | (id.bytes[6] & 0x0f)); /* a UUID of version 8: no run has one */
    id.bytes[8] = (uint8_t)(0x80 | (id.bytes[8] & 0x3f));
    return id;
}

bool engine_has_asked(const struct run_state *state)
{
    return state->admissions[ADMISSION_WORKFLOW].known || state->admissions[ADMISSION_ORGANISATION].known;
}

static void ask(struct ctx *c, enum admission_scope scope, struct run_id key, struct event event, uint32_t limit)
{
    char text[UUID_TEXT_SIZE];

    run_id_format(key, text);
    event.type = EVENT_RUN_QUEUED;
    event.waits = str_of(admission_scope_names[scope]);
    event.key = str_of(arena_dup(c->fx->arena, text, strlen(text)));
    event.count = limit;
    engine_emit(c, event);
    if (c->rc != ERR_OK)
        return;
    GROW(c, c->fx->admissions, c->fx->admission_count, c->fx->admission_cap);
    c->fx->admissions[c->fx->admission_count++] = (struct effect_admission){
        .key = key, .seq = c->state->last_seq, .scope = scope, .limit = limit, .as = event.as, .name = event.name};
    if (c->state->admission_seq != 0)
        engine_open_work_row(
            c, (struct effect_work_open){.seq = c->state->admission_seq, .kind = WORK_ADMISSION, .node = NO_NODE});
}

static void begin(struct ctx *c)
{
    const struct run_state *state = c->state;
    struct str fault;
    bool waited = engine_has_asked(state);

    /* what it waited for others does not count */
    engine_emit(
        c, (struct event){.type = EVENT_RUN_STARTED, .due_at = engine_timeout(c, waited ? c->now : state->created_at)});
    if (c->rc != ERR_OK)
        return;
    c->fx->status_changed = true;
    engine_open_timeout(c);
    fault = engine_give(c);
    if (fault.ptr != NULL) {
        engine_end_refused(c, fault);
        return;
    }
    for (uint32_t i = 0; c->rc == ERR_OK && i < state->plan->root_count; i++)
        if (run_step(c->state, i)->status == STEP_PENDING && run_step(c->state, i)->waiting_for == 0)
            engine_ready(c, i);
}

/* It cannot even begin: started, and ended at once. */
static void refuse(struct ctx *c, struct str message)
{
    engine_emit(c, (struct event){.type = EVENT_RUN_STARTED, .due_at = engine_timeout(c, c->state->created_at)});
    if (c->rc != ERR_OK)
        return;
    engine_open_timeout(c);
    engine_end_refused(c, message);
}

/* Its organisation has a limit, or had one when it was asked before: then the key says that there is room. */
static bool must_ask_organisation(const struct ctx *c)
{
    const struct admission *admission = &c->state->admissions[ADMISSION_ORGANISATION];

    return !admission->asked && (c->input->bounded || admission->known);
}

/* All that bounds the workflow has admitted it; its organisation may have a bound, too. One slot after the other, and
 * in this order for all runs: so nobody waits in a circle. */
static void admit_to_organisation(struct ctx *c)
{
    if (must_ask_organisation(c))
        ask(c, ADMISSION_ORGANISATION, key_id(c->state, ADMISSION_ORGANISATION, false, STR_NONE),
            (struct event){.as = STR("queue")}, c->input->standard);
    else
        begin(c);
}

static void ask_for_key(struct ctx *c, bool has_name, struct str name)
{
    const struct plan_concurrency *bound = &c->state->plan->concurrency;

    ask(c, ADMISSION_WORKFLOW, key_id(c->state, ADMISSION_WORKFLOW, has_name, name),
        (struct event){.as = str_of(on_limit_names[bound->on_limit]), .name = name}, bound->limit);
}

/* A value as the key: text as it is, all else as its JSON. NULL, or what is wrong with it. */
static const char *key_text(struct ctx *c, struct str value, struct str *ret)
{
    *ret = value;
    if (jt_type(value) == JT_STRING && !jt_string(value, c->fx->arena, ret))
        return "what is no text";
    if (jt_type(value) == JT_NULL || ret->len == 0)
        return "nothing";
    return ret->len > CONCURRENCY_KEY_MAX ? "more than 1024 bytes" : NULL;
}

static void key_value(struct ctx *c, struct str value)
{
    struct str text;
    const char *fault = key_text(c, value, &text);

    if (fault == NULL)
        ask_for_key(c, true, text);
    else
        refuse(c, str_of(arena_printf(c->fx->arena, "'concurrency.key' gave %s: it must be a value", fault)));
}

void engine_admission_value(struct ctx *c)
{
    if (c->input->failed)
        refuse(c, str_of(arena_printf(c->fx->arena, "'concurrency.key': " STR_FMT, STR_ARG(c->input->message))));
    else
        key_value(c, c->input->value);
}

void engine_start(struct ctx *c)
{
    const struct run_state *state = c->state;
    const struct plan_concurrency *bound = &state->plan->concurrency;
    bool waits = bound->limit != 0 || c->input->bounded;
    struct str fault = c->input->refused;

    if (state->started || run_ended((enum run_status)state->status) || state->cancelling || engine_has_asked(state)) {
        c->fx->ignored = true;
        return;
    }
    if (fault.ptr == NULL && waits) /* the command is gone by the time that it is admitted */
        fault = engine_give(c);
    if (fault.ptr != NULL)
        refuse(c, fault);
    else if (bound->limit == 0)
        admit_to_organisation(c);
    else if (!bound->has_key)
        ask_for_key(c, false, STR_NONE);
    else if (bound->key.constant)
        key_value(c, bound->key.literal);
    else
        engine_ask(c, NO_NODE, EVAL_ADMISSION, 0, &bound->key);
}

/* What it waited for others does not count: with the last slot its timeout begins. */
static void admitted_again(struct ctx *c, uint32_t seq)
{
    struct run_state *state = c->state;
    bool last = !must_ask_organisation(c), timed = last && state->timeout_waits;

    engine_emit(c, (struct event){.type = EVENT_RUN_ADMITTED,
                                  .ref = seq,
                                  .due_at = timed ? engine_timeout(c, c->now) : (struct wall_us){0}});
    if (c->rc != ERR_OK)
        return;
    engine_close_seq(c, seq);
    if (timed)
        engine_open_timeout(c);
    if (!last) {
        admit_to_organisation(c);
        return;
    }
    for (uint32_t i = 0; i < state->plan->root_count; i++)
        if (engine_is_ready(state, i))
            engine_ready(c, i);
}

/* The owner of the key has decided. What comes twice, or late, is for a run that does not wait any more: its end has
 * given back whatever it had. */
void engine_admitted(struct ctx *c)
{
    const struct run_state *state = c->state;
    uint32_t seq = state->admission_seq;

    if (c->input->seq > state->last_seq) {
        c->fx->stale_cache = true;
        return;
    }
    if (seq == 0 || c->input->seq != seq || (state->cancelling && !state->started)) {
        c->fx->ignored = true;
        return;
    }
    if (c->input->failed) {
        engine_emit(c, (struct event){.type = EVENT_RUN_CANCELLING,
                                      .code = STR("concurrency_limit"),
                                      .message = STR("no slot was free, and 'on_limit' is 'skip'")});
        engine_stop_frame(c, c->state->root);
        return;
    }
    if (state->started) {
        admitted_again(c, seq);
        return;
    }
    engine_emit(c, (struct event){.type = EVENT_RUN_ADMITTED, .ref = seq});
    if (c->rc != ERR_OK)
        return;
    engine_close_seq(c, seq);
    admit_to_organisation(c);
}

static void queue_again(struct ctx *c, enum admission_scope scope, struct run_id key, uint32_t limit)
{
    uint32_t timeout_seq = c->state->timeout_seq;

    ask(c, scope, key, (struct event){.as = STR("queue")}, limit);
    if (c->rc == ERR_OK && timeout_seq != 0)
        engine_close_seq(c, timeout_seq);
}

/* What is only known better now ends in the same input, unless it has to be undone. */
static bool has_something_to_do(const struct run_state *state)
{
    return state->timeout_seq != 0 || state->compensating ||
           (state->compensate_wanted && engine_has_to_undo(state, false));
}

/* Whatever its workflow does with those that find no slot: somebody has asked for this one, and it waits. */
void engine_ask_again(struct ctx *c)
{
    const struct run_state *state = c->state;
    const struct admission *own = &state->admissions[ADMISSION_WORKFLOW];

    if (c->rc != ERR_OK || !c->reopened || !has_something_to_do(state))
        return;
    if (own->known && !own->asked)
        queue_again(c, ADMISSION_WORKFLOW, own->key, state->plan->concurrency.limit);
    else if (must_ask_organisation(c))
        queue_again(c, ADMISSION_ORGANISATION, key_id(state, ADMISSION_ORGANISATION, false, STR_NONE),
                    c->input->standard);
}

void engine_release(struct ctx *c, const struct admission before[ADMISSION_SCOPES])
{
    for (int scope = 0; scope < ADMISSION_SCOPES && c->rc == ERR_OK; scope++) {
        if (!before[scope].asked)
            continue;
        GROW(c, c->fx->admissions, c->fx->admission_count, c->fx->admission_cap);
        c->fx->admissions[c->fx->admission_count++] = (struct effect_admission){
            .release = true, .key = before[scope].key, .seq = c->state->last_seq, .scope = (enum admission_scope)scope};
    }
}
