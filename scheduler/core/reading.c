/* What an expression reads: the document of its run, as the step that asks sees it. Bodies that are not at hand are
 * asked for, all that are missing at once. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

/* From the events of the batch, and put together of them: in no cache before it is committed. */
struct made {
    struct made *next;
    uint32_t seq;
    struct str text;
    struct element *elements; /* of a list, when somebody asked for one */
    uint32_t element_count;
};

static struct str quoted(struct arena *arena, struct str text)
{
    CLEANUP(buf_deinit) struct buf buf = {0};

    buf_init(&buf, 4096);
    json_quote(&buf, text);
    return str_arena(arena, buf_str(&buf));
}

static struct str error_json(struct arena *arena, const struct step_error *error)
{
    CLEANUP(buf_deinit) struct buf buf = {0};
    struct jw w;

    buf_init(&buf, 4096);
    w = jw_to(&buf);
    jw_obj(&w);
    jw_kcstr(&w, "code", error->code);
    jw_kcstr(&w, "message", error->message);
    jw_end_obj(&w);
    return str_arena(arena, buf_str(&buf));
}

/* ---- bodies ---- */

static bool is_committed(const struct work *work, uint32_t seq)
{
    return work->fx.event_count == 0 || seq < work->fx.events[0].seq;
}

/* An output that this very batch has made is in its events only. */
static bool find_output(const struct reader *reader, uint32_t seq, struct str *ret)
{
    const struct work *work = reader->work;

    if (is_committed(work, seq))
        return body_get(reader->sched, work->entry->id, seq, ret);
    *ret = work->fx.events[seq - work->fx.events[0].seq].output;
    return true;
}

static struct made *find_made(const struct work *work, uint32_t seq)
{
    struct made *made = work->made;

    while (made != NULL && made->seq != seq)
        made = made->next;
    return made;
}

static struct made *make(struct work *work, uint32_t seq, struct str text)
{
    struct made *made = arena_alloc(work->arena, sizeof(*made));

    made->seq = seq;
    made->text = text;
    made->next = work->made;
    work->made = made;
    return made;
}

/* Element `index` of a list that is the body of an event. */
static bool find_element(const struct reader *reader, uint32_t seq, uint32_t index, struct str *ret)
{
    struct work *work = reader->work;
    struct made *made;

    if (is_committed(work, seq))
        return body_get_element(reader->sched, work->entry->id, seq, index, ret);
    made = find_made(work, seq);
    if (made == NULL) {
        made = make(work, seq, work->fx.events[seq - work->fx.events[0].seq].output);
        made->element_count = (uint32_t)jt_count(made->text);
        made->elements = arena_array(work->arena, made->element_count, sizeof(*made->elements));
        elements_find(made->text, made->elements);
    }
    *ret = index < made->element_count ? element_of(made->text, made->elements[index]) : STR_NONE;
    return true;
}

/* ---- loops ---- */

/* Is all of it here? Asks for what is not. */
static bool outputs_here(const struct reader *reader, const struct step_extra *extra, size_t *ret_bytes)
{
    bool here = true;
    struct str text;

    *ret_bytes = 2;
    for (uint32_t i = 0; i < extra->count; i++) {
        text = STR_NONE;
        if (extra->items[i].output_seq != 0 && !find_output(reader, extra->items[i].output_seq, &text))
            here = false;
        *ret_bytes += 1 + (text.ptr == NULL ? 4 : text.len);
    }
    return here;
}

static size_t put_outputs(const struct reader *reader, const struct step_extra *extra, char *to)
{
    size_t len = 0;

    to[len++] = '[';
    for (uint32_t i = 0; i < extra->count; i++) {
        struct str text = STR_NONE;
        bool here = extra->items[i].output_seq == 0 || find_output(reader, extra->items[i].output_seq, &text);

        ENSURE(here);
        if (text.ptr == NULL)
            text = STR("null");
        if (i > 0)
            to[len++] = ',';
        memcpy(to + len, text.ptr, text.len);
        len += text.len;
    }
    to[len++] = ']';
    return len;
}

/* The list is kept as the outputs of its items and put together where it is read, once: of a loop whose end is
 * committed in the cache, in place of its parts, as the body of the event that ended it, which has none of its own. */
static bool loop_output(struct reader *reader, const struct step_state *loop, struct str *ret)
{
    struct work *work = reader->work;
    struct run_id run = work->entry->id;
    const struct step_extra *extra = loop->extra;
    bool committed = is_committed(work, loop->ended_seq);
    const struct made *made = committed ? NULL : find_made(work, loop->ended_seq);
    size_t bytes;
    char *text;

    if (made != NULL)
        *ret = made->text;
    if (made != NULL || (committed && body_peek(reader->sched, run, loop->ended_seq, ret)))
        return true;
    if (!reader->expr->native && extra->output_bytes > reader->sched->set.document_max_bytes) {
        reader->too_large = true;
        return false;
    }
    if (!outputs_here(reader, extra, &bytes))
        return false;
    text = committed ? mem_alloc(bytes) : arena_alloc(work->arena, bytes);
    *ret = (struct str){text, put_outputs(reader, extra, text)};
    if (!committed) {
        (void)make(work, loop->ended_seq, *ret);
        return true;
    }
    for (uint32_t i = 0; i < extra->count; i++)
        if (extra->items[i].output_seq != 0)
            body_drop(reader->sched, run, extra->items[i].output_seq);
    body_put_own(reader->sched, run, loop->ended_seq, *ret);
    return true;
}

static struct str failed_items(struct arena *arena, const struct step_extra *extra)
{
    CLEANUP(buf_deinit) struct buf buf = {0};
    struct jw w;

    buf_init(&buf, (size_t)LOOP_ITEMS_MAX * 6 + 2);
    w = jw_to(&buf);
    jw_arr(&w);
    for (uint32_t i = 0; extra != NULL && i < extra->count; i++)
        if (extra->items[i].status == STEP_FAILED)
            jw_i64(&w, i);
    jw_end_arr(&w);
    return str_arena(arena, buf_str(&buf));
}

/* ---- steps ---- */

/* A plain path that names another part has no use for this one. */
static bool wants(const struct expr *expr, const char *part)
{
    return !expr->native || expr->part_count < 3 || expr->parts[2].is_index || str_is(expr->parts[2].key, part);
}

static bool step_output(struct reader *reader, uint32_t node, struct str *ret)
{
    const struct step_state *step = run_step(reader->work->entry->run, node);

    if (reader->job->purpose == EVAL_UNTIL && node == reader->job->node) {
        *ret = reader->answer;
        return true;
    }
    if (step->extra != NULL && step->extra->items != NULL)
        return !step_ended((enum step_status)step->status) || loop_output(reader, step, ret);
    return step->output_seq == 0 || find_output(reader, step->output_seq, ret);
}

static bool read_step(void *ctx, struct str name, struct expr_step *ret)
{
    struct reader *reader = ctx;
    struct arena *arena = reader->work->arena;
    const struct run_state *run = reader->work->entry->run;
    uint32_t node = run_find_visible(run, reader->job->frame, name);
    const struct plan_step *step;
    const struct step_state *state;

    if (node == NO_NODE)
        return true;
    step = run_plan_step(run, node);
    state = run_step(run, node);
    ret->status = quoted(arena, str_of(step_status_name((enum step_status)state->status)));
    if (state->branch != NO_BRANCH)
        ret->branch = quoted(arena, step->branches[state->branch]);
    if (state->error != NULL && state->status != STEP_SUCCEEDED)
        ret->error = error_json(arena, state->error);
    if (step->kind == CALL_FOREACH && wants(reader->expr, "failed"))
        ret->failed = failed_items(arena, state->extra);
    return !wants(reader->expr, "output") || step_output(reader, node, &ret->output);
}

static void list_names(struct reader *reader)
{
    const struct eval_job *job = reader->job;
    const struct effect_eval eval = {
        .node = job->node, .purpose = job->purpose, .index = job->index, .frame = job->frame};

    reader->names = run_visible_names(reader->work->entry->run, &eval, reader->work->arena, &reader->name_count);
}

static bool name_step(void *ctx, size_t index, struct str *ret)
{
    struct reader *reader = ctx;

    if (reader->names == NULL)
        list_names(reader);
    if (index >= reader->name_count)
        return false;
    *ret = reader->names[index];
    return true;
}

/* ---- the rest of the document ---- */

static void put_run(struct jw *w, const struct run_entry *entry)
{
    char id[UUID_TEXT_SIZE], created[WALL_TEXT_SIZE];

    run_id_format(entry->id, id);
    wall_format(entry->run->created_at, created);
    jw_kcstr(w, "id", id);
    jw_kstr(w, "workflow", entry->plan->workflow);
    jw_ki64(w, "version", entry->plan->version);
    jw_kcstr(w, "created_at", created);
}

/* Whoever is told that the run did not go well is told how it ends, too. */
static struct str ending_document(const struct work *work)
{
    CLEANUP(buf_deinit) struct buf buf = {0};
    const struct event *ending = work->entry->run->ending;
    struct jw w = jw_to(&buf);

    buf_init(&buf, 16384);
    jw_obj(&w);
    put_run(&w, work->entry);
    jw_kcstr(&w, "status", event_type_name(ending->type) + sizeof("run.") - 1);
    jw_key(&w, "error");
    jw_obj(&w);
    jw_kstr(&w, "code", ending->code);
    jw_kstr(&w, "message", ending->message);
    jw_kstr(&w, "step", ending->step);
    jw_end_obj(&w);
    jw_end_obj(&w);
    return str_arena(work->arena, buf_str(&buf));
}

static struct str run_document(const struct reader *reader)
{
    struct run_entry *entry = reader->work->entry;
    uint32_t node = reader->job->node;
    struct buf buf;
    struct jw w;
    size_t len;

    if (node != NO_NODE && run_plan_step(entry->run, node)->role == ROLE_NOTIFY)
        return ending_document(reader->work);
    if (entry->document.ptr != NULL)
        return entry->document;
    buf_init(&buf, 4096);
    w = jw_to(&buf);
    jw_obj(&w);
    put_run(&w, entry);
    jw_end_obj(&w);
    entry->document.ptr = buf_take(&buf, &len);
    entry->document.len = len;
    return entry->document;
}

bool reading_begin(struct reader *reader, struct expr_doc *ret)
{
    struct work *work = reader->work;
    const struct run_state *run = work->entry->run;
    uint32_t loop, index;

    *ret = (struct expr_doc){.trigger = work->entry->trigger,
                             .run = run_document(reader),
                             .index = -1,
                             .step = read_step,
                             .step_name = name_step,
                             .ctx = reader};
    if (reader->expr->uses_input && !body_get(reader->sched, work->entry->id, 0, &ret->input))
        return false;
    if (reader->job->purpose == EVAL_UNTIL) {
        const struct str *answer = run_step(run, reader->job->node)->pending;

        reader->answer = answer == NULL || answer->ptr == NULL ? STR("null") : *answer;
        ret->output = reader->answer;
    }
    if (reader->job->purpose == EVAL_FILTER)
        ret->event = *(const struct str *)run_step(run, reader->job->node)->pending;
    if (!run_item_of(run, reader->job->frame, &loop, &index))
        return true;
    ret->index = index;
    return !reader->expr->uses_item || find_element(reader, run_step(run, loop)->input_seq, index, &ret->item);
}
