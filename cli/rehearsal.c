/* See rehearsal.h: the runs, and what comes next. */
#include "cli/rehearsal_internal.h"
#include "common/base/ensure.h"

#include "common/base/banned.h"

#define INPUTS_MAX 200000

struct rehearsal *rehearsal_new(const struct rehearsal_port *port, struct sandbox *sandbox, uv_loop_t *loop,
                                struct wall_us now, struct str seed)
{
    struct arena *arena = arena_new(1 << 16);
    struct rehearsal *world = arena_alloc(arena, sizeof(*world));

    *world = (struct rehearsal){
        .arena = arena, .port = *port, .engine = {sandbox, loop}, .now = now, .began = now, .seed = seed};
    world->last_event = &world->events;
    return world;
}

void rehearsal_free(struct rehearsal *world)
{
    if (world == NULL)
        return;
    for (struct rehearsed *run = world->runs; run != NULL; run = run->next) {
        run_state_free(run->state);
        mem_free(run->history);
        mem_free(run->rows);
    }
    arena_free(world->arena);
}

struct arena *rehearsal_arena(struct rehearsal *world)
{
    return world->arena;
}

struct wall_us rehearsal_now(const struct rehearsal *world)
{
    return world->now;
}

void rehearsal_let_wait(struct rehearsal *world)
{
    world->may_wait = true;
}

int64_t rehearsal_took_us(const struct rehearsal *world)
{
    return world->now.us - world->began.us;
}

struct rehearsed *rehearsal_runs(const struct rehearsal *world)
{
    return world->runs;
}

struct rehearsed *rehearsal_root(const struct rehearsal *world)
{
    return world->root;
}

struct rehearsal_engine rehearsal_sandbox(const struct rehearsal *world)
{
    return world->engine;
}

struct coming *rehearsal_add_coming(struct rehearsal *world, struct rehearsed *run, struct wall_us at,
                                    const struct engine_input *input)
{
    struct coming *coming = arena_alloc(world->arena, sizeof(*coming));

    *coming = (struct coming){.next = world->coming, .at = at, .order = ++world->orders, .run = run, .input = *input};
    world->coming = coming;
    return coming;
}

void rehearsal_plan(struct rehearsal *world, int64_t after_us, const struct engine_input *input, struct str what)
{
    struct coming *coming = rehearsal_add_coming(world, NULL, (struct wall_us){world->began.us + after_us}, input);

    coming->input.command = (int64_t)coming->order;
    coming->wanted = true;
    coming->what = what;
}

/* ---- runs ---- */

/* The same seed gives the same id, and so the same jitter: what passes today passes tomorrow. */
static struct run_id first_id(const struct rehearsal *world)
{
    struct run_id id = run_id_make(world->now, 0);
    uint8_t digest[32];

    sha256(world->seed, digest);
    memcpy(id.bytes + 6, digest, sizeof(id.bytes) - 6);
    id.bytes[6] = (uint8_t)(0x70 | (digest[0] & 0x0f)); /* version and variant of a UUIDv7 */
    id.bytes[8] = (uint8_t)(0x80 | (digest[2] & 0x3f));
    return id;
}

static struct str run_json(struct rehearsal *world, const struct document *document, struct run_id id)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    char text[UUID_TEXT_SIZE], created[WALL_TEXT_SIZE];
    struct jw w = jw_to(&out);

    run_id_format(id, text);
    wall_format(world->now, created);
    buf_init(&out, 4096);
    jw_obj(&w);
    jw_kcstr(&w, "id", text);
    jw_kstr(&w, "workflow", document->name);
    jw_ki64(&w, "version", 1);
    jw_kcstr(&w, "created_at", created);
    jw_end_obj(&w);
    return str_arena(world->arena, buf_str(&out));
}

struct rehearsed *rehearsal_add_run(struct rehearsal *world, const struct document *document, struct run_id id,
                                    struct str input)
{
    struct rehearsed *run = arena_alloc(world->arena, sizeof(*run));

    *run = (struct rehearsed){.next = world->runs, .world = world, .document = document, .input = input};
    run->state = run_state_new(id, 1, document->plan, world->now);
    run->run_json = run_json(world, document, id);
    world->runs = run;
    return run;
}

/* Slots of concurrency limits are always free: nobody else runs here. */
static void admit(struct rehearsed *run)
{
    for (size_t i = 0; i < run->fx.admission_count; i++) {
        const struct effect_admission *asked = &run->fx.admissions[i];

        if (!asked->release && !str_is(asked->as, "take"))
            (void)rehearsal_add_coming(run->world, run, run->world->now,
                                       &(struct engine_input){.kind = IN_ADMIT, .seq = asked->seq});
    }
}

static enum err_code apply(struct rehearsed *run, const struct engine_input *input, struct err *err)
{
    enum err_code rc;

    effects_init(&run->fx, run->world->arena);
    rc = engine_apply(run->state, input, run->world->now, &run->fx, err);
    for (size_t i = 0; rc == ERR_OK && i < run->fx.eval_count; i++) {
        struct effect_eval eval = run->fx.evals[i]; /* the list grows */

        rc = rehearsal_answer_eval(run, &eval, err);
    }
    if (rc != ERR_OK)
        return rc;
    rehearsal_commit(run);
    admit(run);
    return ERR_OK;
}

/* ---- what comes next ---- */

static bool is_wanted_left(const struct rehearsal *world)
{
    const struct coming *coming = world->coming;

    while (coming != NULL && !coming->wanted)
        coming = coming->next;
    return coming != NULL;
}

static struct coming *next_coming(const struct rehearsal *world)
{
    struct coming *best = NULL;

    for (struct coming *coming = world->coming; coming != NULL; coming = coming->next) {
        if (best == NULL || coming->at.us < best->at.us ||
            (coming->at.us == best->at.us && coming->order < best->order))
            best = coming;
    }
    return best;
}

static struct rehearsed_row *next_timer(const struct rehearsal *world, struct rehearsed **ret_run)
{
    struct rehearsed_row *best = NULL;

    for (struct rehearsed *run = world->runs; run != NULL; run = run->next) {
        for (size_t i = 0; i < run->row_count; i++) {
            struct rehearsed_row *row = &run->rows[i];

            if (row->due_at.us == 0 || row->heard_us == row->due_at.us)
                continue;
            if (world->may_wait && run == world->root && row->kind == WORK_RUN_TIMEOUT)
                continue;
            if (best == NULL || row->due_at.us < best->due_at.us) {
                best = row;
                *ret_run = run;
            }
        }
    }
    return best;
}

static void move_clock(struct rehearsal *world, struct wall_us to)
{
    if (to.us > world->now.us)
        world->now = to;
}

static enum err_code say(struct rehearsal *world, struct coming *coming, struct err *err)
{
    struct coming **at = &world->coming;
    enum err_code rc;

    while (*at != NULL && *at != coming)
        at = &(*at)->next;
    ENSURE(*at == coming);
    *at = coming->next;
    move_clock(world, coming->at);
    if (coming->wanted && coming->input.kind == IN_EVENT) {
        rehearsal_event_comes(world, coming->input.value);
        return ERR_OK;
    }
    world->said = coming->wanted ? coming : NULL;
    rc = apply(coming->run == NULL ? world->root : coming->run, &coming->input, err);
    world->said = NULL;
    return rc;
}

/* What comes at the same time as a timer comes before it: an answer in time is in time. */
static enum err_code step_on(struct rehearsal *world, bool *ret_more, struct err *err)
{
    struct rehearsed *run = NULL;
    struct coming *coming = next_coming(world);
    struct rehearsed_row *row = next_timer(world, &run);

    *ret_more = coming != NULL || row != NULL;
    if (coming != NULL && (row == NULL || coming->at.us <= row->due_at.us))
        return say(world, coming, err);
    if (row == NULL)
        return ERR_OK;
    move_clock(world, row->due_at);
    row->heard_us = row->due_at.us;
    return apply(run, &(struct engine_input){.kind = IN_TIMER, .seq = row->seq}, err);
}

bool rehearsal_run(struct rehearsal *world, const struct document *document, struct str input, struct err *err)
{
    enum err_code rc;
    bool more = true;

    world->root = rehearsal_add_run(world, document, first_id(world), input);
    rc = apply(world->root, &(struct engine_input){.kind = IN_START}, err);
    while (rc == ERR_OK && more && !world->over) {
        if (run_ended((enum run_status)world->root->state->status) && !is_wanted_left(world))
            break;
        if (++world->inputs > INPUTS_MAX) {
            rc = err_set(err, ERR_TOO_LARGE, "after %d answers and timers it has not ended: does it ever?", INPUTS_MAX);
            break;
        }
        rc = step_on(world, &more, err);
    }
    return rc == ERR_OK && !world->over;
}
