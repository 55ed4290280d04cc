/* Values for a rehearsal: what an expression reads, put together of the events that are at hand, and evaluated as the
 * scheduler does: plain paths here, everything else by jq in the sandbox. */
#include "cli/rehearsal.h"
#include "cli/yaml.h"

#include "common/base/banned.h"

#define DOCUMENT_MAX_BYTES ((size_t)4 << 20) /* these three as in scheduler/core */
#define VALUE_MAX_BYTES ((size_t)1 << 20)
#define SOURCE_TOLD_BYTES 120
#define LISTS_MAX_BYTES ((size_t)256 << 20) /* how large a loop's may be, the engine knows */

struct reader {
    struct rehearsed *run;
    const struct effect_eval *eval;
    struct arena *arena;
    struct str *names;
    size_t name_count;
};

struct str rehearsed_body(const struct rehearsed *run, uint32_t seq)
{
    const struct effects *fx = &run->fx;

    if (seq == 0)
        return STR_NONE;
    if (seq <= run->history_count)
        return run->history[seq - 1].output;
    return seq - run->history_count <= fx->event_count ? fx->events[seq - run->history_count - 1].output : STR_NONE;
}

struct str rehearsed_output(const struct rehearsed *run, uint32_t node)
{
    const struct step_state *state = run_step(run->state, node);
    const struct step_extra *extra = state->extra;
    CLEANUP(buf_deinit) struct buf list = {0};

    if (extra == NULL || extra->items == NULL)
        return rehearsed_body(run, state->output_seq);
    if (!step_ended((enum step_status)state->status))
        return STR_NONE;
    buf_init(&list, LISTS_MAX_BYTES);
    for (uint32_t i = 0; i < extra->count; i++) {
        struct str item = rehearsed_body(run, extra->items[i].output_seq);

        buf_append_char(&list, i == 0 ? '[' : ',');
        buf_append_str(&list, item.ptr == NULL ? STR("null") : item);
    }
    buf_append_str(&list, extra->count == 0 ? STR("[]") : STR("]"));
    return str_arena(rehearsal_arena(run->world), buf_str(&list));
}

static struct str quoted(struct arena *arena, struct str text)
{
    CLEANUP(buf_deinit) struct buf buf = {0};

    buf_init(&buf, 1 << 16);
    json_quote(&buf, text);
    return str_arena(arena, buf_str(&buf));
}

static struct str error_json(struct arena *arena, struct str code, struct str message)
{
    return str_of(arena_printf(arena, "{\"code\":" STR_FMT ",\"message\":" STR_FMT "}", STR_ARG(quoted(arena, code)),
                               STR_ARG(quoted(arena, message))));
}

static struct str failed_items(struct arena *arena, const struct step_extra *extra)
{
    CLEANUP(buf_deinit) struct buf buf = {0};
    struct jw w = jw_to(&buf);

    buf_init(&buf, (size_t)LOOP_ITEMS_MAX * 6 + 2);
    jw_arr(&w);
    for (uint32_t i = 0; extra != NULL && i < extra->count; i++) {
        if (extra->items[i].status == STEP_FAILED)
            jw_i64(&w, i);
    }
    jw_end_arr(&w);
    return str_arena(arena, buf_str(&buf));
}

/* A poll's try, while `until` is asked of it; an event, while `filter` is. */
static struct str answer_of(const struct reader *reader)
{
    const struct str *answer = run_step(reader->run->state, reader->eval->node)->pending;

    return answer == NULL || answer->ptr == NULL ? STR("null") : *answer;
}

static bool read_step(void *ctx, struct str name, struct expr_step *ret)
{
    const struct reader *reader = ctx;
    const struct run_state *run = reader->run->state;
    uint32_t node = run_find_visible(run, reader->eval->frame, name);
    const struct plan_step *step;
    const struct step_state *state;

    if (node == NO_NODE)
        return true;
    step = run_plan_step(run, node);
    state = run_step(run, node);
    ret->status = quoted(reader->arena, str_of(step_status_name((enum step_status)state->status)));
    if (state->branch != NO_BRANCH)
        ret->branch = quoted(reader->arena, step->branches[state->branch]);
    if (state->error != NULL && state->status != STEP_SUCCEEDED)
        ret->error = error_json(reader->arena, str_of(state->error->code), str_of(state->error->message));
    if (step->kind == CALL_FOREACH)
        ret->failed = failed_items(reader->arena, state->extra);
    ret->output = reader->eval->purpose == EVAL_UNTIL && node == reader->eval->node
                      ? answer_of(reader)
                      : rehearsed_output(reader->run, node);
    return true;
}

static bool name_step(void *ctx, size_t index, struct str *ret)
{
    struct reader *reader = ctx;

    if (reader->names == NULL)
        reader->names = run_visible_names(reader->run->state, reader->eval, reader->arena, &reader->name_count);
    if (index >= reader->name_count)
        return false;
    *ret = reader->names[index];
    return true;
}

/* Whoever is told that the run did not go well is told how it ends, too. */
static struct str run_document(const struct reader *reader)
{
    const struct rehearsed *run = reader->run;
    const struct event *ending = run->state->ending;
    uint32_t node = reader->eval->node;
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w = jw_to(&out);

    if (node == NO_NODE || run_plan_step(run->state, node)->role != ROLE_NOTIFY || ending == NULL)
        return run->run_json;
    buf_init(&out, 1 << 16);
    jw_obj(&w);
    for (size_t i = 0; i < 4; i++) {
        static const char *const members[] = {"id", "workflow", "version", "created_at"};

        jw_kraw(&w, members[i], jt_get(run->run_json, members[i]));
    }
    jw_kcstr(&w, "status", event_type_name(ending->type) + sizeof("run.") - 1);
    jw_key(&w, "error");
    jw_obj(&w);
    jw_kstr(&w, "code", ending->code);
    jw_kstr(&w, "message", ending->message);
    jw_kstr(&w, "step", ending->step);
    jw_end_obj(&w);
    jw_end_obj(&w);
    return str_arena(reader->arena, buf_str(&out));
}

static struct expr_doc document_of(struct reader *reader)
{
    const struct rehearsed *run = reader->run;
    struct expr_doc doc = {.input = run->input,
                           .run = run_document(reader),
                           .index = -1,
                           .step = read_step,
                           .step_name = name_step,
                           .ctx = reader};
    uint32_t loop = NO_NODE, index = 0;

    if (reader->eval->purpose == EVAL_UNTIL)
        doc.output = answer_of(reader);
    if (reader->eval->purpose == EVAL_FILTER)
        doc.event = answer_of(reader);
    if (run_item_of(run->state, reader->eval->frame, &loop, &index)) {
        doc.item = jt_at(rehearsed_body(run, run_step(run->state, loop)->input_seq), index);
        doc.index = index;
    }
    return doc;
}

/* ---- the sandbox ---- */

struct question {
    struct arena *arena;
    bool answered;
    enum sandbox_status status;
    struct str value;
    const char *message;
};

static void on_answer(void *ctx, enum sandbox_status status, struct str value, const char *message)
{
    struct question *question = ctx;

    question->answered = true;
    question->status = status;
    question->value = str_arena(question->arena, value);
    question->message = message == NULL ? "" : arena_dup(question->arena, message, strlen(message));
}

static void wait_for(const struct question *question, uv_loop_t *loop)
{
    while (!question->answered)
        (void)uv_run(loop, UV_RUN_ONCE);
}

static bool ask_jq(const struct reader *reader, const struct expr *expr, const struct expr_doc *doc, struct str *ret,
                   struct err *err)
{
    struct rehearsal_engine engine = rehearsal_sandbox(reader->run->world);
    struct question question = {.arena = reader->arena};
    CLEANUP(buf_deinit) struct buf text = {0};

    buf_init(&text, DOCUMENT_MAX_BYTES);
    if (expr_document(expr, doc, DOCUMENT_MAX_BYTES, &text, err) != EXPR_OK)
        return false;
    sandbox_eval(engine.sandbox, 1, expr->source, buf_str(&text), on_answer, &question);
    wait_for(&question, engine.loop);
    if (question.status != SANDBOX_OK) {
        (void)err_set(err, ERR_INVALID, "%s", question.message);
        return false;
    }
    *ret = question.value;
    return true;
}

static bool evaluate(const struct reader *reader, const struct expr *expr, const struct expr_doc *doc, struct str *ret,
                     struct str *ret_message)
{
    struct err err = {.code = ERR_OK};
    struct str source = utf8_prefix(expr->source, SOURCE_TOLD_BYTES);

    if (expr->secret)
        return true; /* stays in its place */
    if (expr->native ? expr_eval_native(expr, doc, reader->arena, ret, &err) == EXPR_OK
                     : ask_jq(reader, expr, doc, ret, &err))
        return true;
    *ret_message = str_of(arena_printf(reader->arena, "%s, in ${ " STR_FMT "%s }", err.message, STR_ARG(source),
                                       source.len < expr->source.len ? " ..." : ""));
    return false;
}

enum err_code rehearsal_answer_eval(struct rehearsed *run, const struct effect_eval *eval, struct err *err)
{
    struct arena *arena = rehearsal_arena(run->world);
    const struct template *template = eval->template;
    struct reader reader = {.run = run, .eval = eval, .arena = arena};
    struct expr_doc doc = document_of(&reader);
    struct str *values = arena_array(arena, template->expr_count + 1, sizeof(*values));
    struct engine_input in = {.kind = IN_VALUE,
                              .node = eval->node,
                              .purpose = eval->purpose,
                              .index = eval->index,
                              .question = eval->question};
    CLEANUP(buf_deinit) struct buf out = {0};
    struct err fault = {.code = ERR_OK};

    for (size_t i = 0; i < template->expr_count && !in.failed; i++)
        in.failed = !evaluate(&reader, &template->exprs[i], &doc, &values[i], &in.message);
    buf_init(&out, VALUE_MAX_BYTES);
    if (!in.failed && template_render(template, values, arena, &out, &fault) != ERR_OK) {
        in.failed = true;
        in.message = str_arena(arena, str_of(fault.message));
    }
    if (!in.failed)
        in.value = str_arena(arena, buf_str(&out));
    return engine_apply(run->state, &in, rehearsal_now(run->world), &run->fx, err);
}

/* ---- before anything runs ---- */

struct checking {
    const struct document *document;
    struct sandbox *sandbox;
    uv_loop_t *loop;
    size_t faults;
};

static void check_template(void *ctx, const struct template *t, struct str pointer)
{
    struct checking *checking = ctx;
    const struct source *source = &checking->document->source;

    for (size_t i = 0; i < t->expr_count; i++) {
        const struct expr *expr = &t->exprs[i];
        CLEANUP(arena_cleanup) struct arena *arena = arena_new(1024);
        struct question question = {.arena = arena};
        struct str place = str_of(arena_printf(arena, STR_FMT STR_FMT, STR_ARG(pointer), STR_ARG(expr->pointer)));

        if (expr->native || expr->secret)
            continue;
        sandbox_check(checking->sandbox, 1, expr->source, on_answer, &question);
        wait_for(&question, checking->loop);
        if (question.status == SANDBOX_OK)
            continue;
        checking->faults++;
        fprintf(stderr, "ropewalk: %s:%d: " STR_FMT ": ", source->path,
                yaml_line((struct str){source->text, source->len}, place), STR_ARG(place));
        print_clean(stderr, question.message);
        (void)fputs(question.status == SANDBOX_BAD_PROGRAM ? " (bad_expression)\n" : "\n", stderr);
    }
}

bool rehearsal_check_expressions(const struct document *document, struct sandbox *sandbox, uv_loop_t *loop)
{
    struct checking checking = {.document = document, .sandbox = sandbox, .loop = loop};

    plan_each_template(document->plan, check_template, &checking);
    return checking.faults == 0;
}
