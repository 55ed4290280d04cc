/* One expression: compiled from jq text, and evaluated natively where it is a plain path. What the native side answers
 * is what libjq 1.6 answers, error texts too; tests/unit/expr/test_differential.c holds it to that. */
#include "common/expr/expr.h"
#include "common/expr/expr_internal.h"

#include "common/base/banned.h"

/* --- compiling --- */

/* The value of a jq string literal without interpolation. Texts that JSON would refuse are left to libjq. */
static bool literal_string(struct arena *arena, struct str raw, struct str *ret)
{
    const struct jt_limits limits = {.max_bytes = EXPR_SOURCE_MAX + 2, .max_depth = 1, .refuse_unstorable = true};
    struct err err;
    char *quoted;

    if (memchr(raw.ptr, '\\', raw.len) == NULL) {
        *ret = raw;
        return true;
    }
    quoted = arena_alloc(arena, raw.len + 2);
    quoted[0] = quoted[raw.len + 1] = '"';
    memcpy(quoted + 1, raw.ptr, raw.len);
    return jt_check((struct str){quoted, raw.len + 2}, &limits, &err) == ERR_OK &&
           jt_string((struct str){quoted, raw.len + 2}, arena, ret);
}

/* "text" at tokens[i]; gives the number of tokens or 0. */
static size_t string_at(struct arena *arena, const struct jq_token *t, struct str *ret)
{
    if (t[0].kind != JQ_QUOTE)
        return 0;
    if (t[1].kind == JQ_UNQUOTE) {
        *ret = STR("");
        return 2;
    }
    if (t[1].kind != JQ_TEXT || t[2].kind != JQ_UNQUOTE || !literal_string(arena, t[1].text, ret))
        return 0;
    return 3;
}

/* 7 or -7; gives the number of tokens or 0. Beyond nine digits libjq's int is near its end: its business. */
static size_t index_at(const struct jq_token *t, int64_t *ret)
{
    bool negative = t[0].kind == JQ_OP && str_is(t[0].text, "-");
    struct str digits = t[negative ? 1 : 0].text;
    int64_t n = 0;

    if (t[negative ? 1 : 0].kind != JQ_NUMBER || digits.len > 9)
        return 0;
    for (size_t i = 0; i < digits.len; i++) {
        if (digits.ptr[i] < '0' || digits.ptr[i] > '9')
            return 0;
        n = n * 10 + (digits.ptr[i] - '0');
    }
    *ret = negative ? -n : n;
    return negative ? 2 : 1;
}

static bool is_token(struct jq_token token, enum jq_kind kind, const char *text)
{
    return token.kind == kind && str_is(token.text, text);
}

/* The list of tokens ends with JQ_END, which no comparison passes: nothing here reads behind it. */
size_t expr_path_part_at(struct arena *arena, const struct expr_tokens *tokens, size_t i, bool root,
                         struct expr_path_part *ret)
{
    const struct jq_token *t = &tokens->items[i];
    size_t used = 0, inner;

    *ret = (struct expr_path_part){0};
    if (i >= tokens->count)
        return 0;
    if (is_token(t[0], JQ_OP, ".")) {
        used = 1;
        inner = string_at(arena, &t[1], &ret->key);
        if (inner > 0)
            return used + inner;
        if (!root) /* .a.["b"] is no jq 1.6 */
            return 0;
    }
    if (t[used].kind == JQ_FIELD) {
        ret->key = t[used].text;
        return used + 1;
    }
    if (!is_token(t[used], JQ_OPEN, "[") || (root && used == 0))
        return 0;
    used++;
    inner = string_at(arena, &t[used], &ret->key);
    if (inner == 0) {
        ret->is_index = true;
        inner = index_at(&t[used], &ret->index);
    }
    return inner > 0 && is_token(t[used + inner], JQ_CLOSE, "]") ? used + inner + 1 : 0;
}

/* Fills native and parts when the whole program is a plain path. */
static void find_path(struct arena *arena, const struct expr_tokens *tokens, struct expr *expr)
{
    struct expr_path_part *parts = arena_array(arena, tokens->count, sizeof(*parts));
    size_t count = 0, i = 0;

    if (tokens->count == 1 && is_token(tokens->items[0], JQ_OP, ".")) {
        expr->native = true;
        return;
    }
    while (i < tokens->count) {
        size_t used = expr_path_part_at(arena, tokens, i, i == 0, &parts[count]);

        if (used == 0)
            return;
        count++;
        i += used;
    }
    expr->native = true;
    expr->part_count = count;
    expr->parts = parts;
}

static bool find_tokens(struct arena *arena, struct str source, struct expr_tokens *ret, struct expr_problem *problem)
{
    struct jq_lex lex;
    struct jq_token token;

    ret->count = 0;
    ret->items = arena_array(arena, source.len + 1, sizeof(*ret->items)); /* no token is empty, but for the end */
    jq_lex_init(&lex, source);
    while ((token = jq_lex_next(&lex)).kind != JQ_END) {
        if (token.kind == JQ_BAD || token.kind == JQ_STOP) {
            problem->message = token.kind == JQ_STOP ? "a closing bracket does not match" : lex.why;
            return false;
        }
        ret->items[ret->count++] = token;
    }
    ret->items[ret->count] = token;
    return true;
}

bool expr_compile(struct arena *arena, struct str source, enum expr_place place, struct expr *ret,
                  struct expr_problem *problem)
{
    struct expr_tokens tokens;

    *ret = (struct expr){.source = str_trim(source), .place = place};
    *problem = (struct expr_problem){NULL, NULL};
    if (source.len > EXPR_SOURCE_MAX) {
        problem->message = "an expression is longer than 16384 bytes";
        return false;
    }
    if (!find_tokens(arena, ret->source, &tokens, problem))
        return false;
    if (tokens.count == 0) {
        *problem = (struct expr_problem){"there is nothing between the braces", "for a literal \"${\" write \"$${\""};
        return false;
    }
    find_path(arena, &tokens, ret);
    if (ret->native && place == EXPR_WHOLE && ret->part_count == 2 && !ret->parts[0].is_index &&
        str_is(ret->parts[0].key, "secrets") && !ret->parts[1].is_index) {
        ret->secret = true;
        ret->secret_name = ret->parts[1].key;
        return true;
    }
    return expr_refs_find(arena, &tokens, ret, problem);
}

/* --- the document --- */

/* {"status","branch","output","error"} of one step, of a loop also "failed". */
static bool write_step(const struct expr_doc *doc, struct str name, struct jw *w)
{
    struct expr_step step = {0};

    if (!doc->step(doc->ctx, name, &step))
        return false;
    jw_obj(w);
    jw_kraw(w, "status", step.status);
    jw_kraw(w, "branch", step.branch);
    jw_kraw(w, "output", step.output);
    jw_kraw(w, "error", step.error);
    if (step.failed.ptr != NULL)
        jw_kraw(w, "failed", step.failed);
    jw_end_obj(w);
    return true;
}

static bool write_steps(const struct expr *expr, const struct expr_doc *doc, struct jw *w)
{
    struct str name;

    jw_obj(w);
    for (size_t i = 0; expr->all_steps && doc->step_name != NULL && doc->step_name(doc->ctx, i, &name); i++) {
        jw_key_str(w, name);
        if (!write_step(doc, name, w))
            return false;
    }
    for (size_t i = 0; !(expr->all_steps && doc->step_name != NULL) && i < expr->step_count; i++) {
        jw_key_str(w, expr->steps[i]);
        if (!write_step(doc, expr->steps[i], w))
            return false;
    }
    jw_end_obj(w);
    return true;
}

static bool write_document(const struct expr *expr, const struct expr_doc *doc, struct buf *out)
{
    struct jw w = jw_to(out);

    jw_obj(&w);
    if (expr->uses_trigger)
        jw_kraw(&w, "trigger", doc->trigger);
    if (expr->uses_input)
        jw_kraw(&w, "input", doc->input);
    if (expr->all_steps || expr->step_count > 0) {
        jw_key(&w, "steps");
        if (!write_steps(expr, doc, &w))
            return false;
    }
    if (expr->uses_item)
        jw_kraw(&w, "item", doc->item);
    if (expr->uses_output && doc->output.ptr != NULL)
        jw_kraw(&w, "output", doc->output);
    if (expr->uses_event && doc->event.ptr != NULL)
        jw_kraw(&w, "event", doc->event);
    jw_key(&w, "index");
    if (doc->index < 0)
        jw_null(&w);
    else
        jw_i64(&w, doc->index);
    jw_kraw(&w, "run", doc->run);
    jw_end_obj(&w);
    return true;
}

enum expr_status expr_document(const struct expr *expr, const struct expr_doc *doc, size_t max_bytes, struct buf *out,
                               struct err *err)
{
    size_t before = out->len;

    if (!write_document(expr, doc, out))
        return EXPR_NOT_HERE;
    if (out->overflow || out->len - before > max_bytes) {
        (void)err_set(err, ERR_TOO_LARGE, "what the expression reads is larger than %zu bytes%s",
                      max_bytes < out->max ? max_bytes : out->max,
                      expr->all_steps ? "; name the steps it needs, as in .steps.NAME" : "");
        return EXPR_FAILED;
    }
    return EXPR_OK;
}

/* --- plain paths --- */

/* jq's words for a value that cannot be indexed with `part`. */
static enum expr_status cannot_index(enum jt_type type, const struct expr_path_part *part, struct err *err)
{
    const char *kind = jt_type_name(type);

    if (part->is_index)
        (void)err_set(err, ERR_INVALID, "Cannot index %s with number", kind);
    else
        (void)err_set(err, ERR_INVALID, "Cannot index %s with string \"" STR_FMT "\"", kind, STR_ARG(part->key));
    return EXPR_FAILED;
}

/* The last of equal keys, as in jq, and STR_NONE when there is none. */
static struct str member(struct arena *arena, struct str object, struct str key)
{
    struct str found = STR_NONE;
    struct jt_iter it;

    jt_iter_init(&it, object);
    while (jt_next(&it)) {
        if (str_eq(jt_key(&it, arena), key))
            found = it.value;
    }
    return found;
}

/* One step down from `value`; null goes down to null. */
static enum expr_status walk_part(struct arena *arena, const struct expr_path_part *part, struct str *value,
                                  struct err *err)
{
    enum jt_type type = jt_type(*value);
    int64_t index = part->index;

    if (type == JT_NULL || type == JT_NONE) {
        *value = STR("null");
        return EXPR_OK;
    }
    if (type != (part->is_index ? JT_ARRAY : JT_OBJECT))
        return cannot_index(type, part, err);
    if (!part->is_index) {
        *value = member(arena, *value, part->key);
    } else {
        if (index < 0)
            index += (int64_t)jt_count(*value);
        *value = index < 0 ? STR_NONE : jt_at(*value, (size_t)index);
    }
    if (value->ptr == NULL)
        *value = STR("null");
    return EXPR_OK;
}

/* A part of the document that had to be put together: *ret is the arena's copy, unless it is too large. */
static enum expr_status built(const struct buf *buf, bool here, struct arena *arena, struct str *ret, struct err *err)
{
    if (!here)
        return EXPR_NOT_HERE;
    if (buf->overflow) {
        (void)err_set(err, ERR_TOO_LARGE, "what the expression reads is larger than %zu bytes", buf->max);
        return EXPR_FAILED;
    }
    *ret = str_arena(arena, buf_str(buf));
    return EXPR_OK;
}

/* .steps and .steps.NAME[.part]; *used says how many parts of the path are done. */
static enum expr_status eval_steps(const struct expr *expr, const struct expr_doc *doc, struct arena *arena,
                                   struct str *ret, size_t *used, struct err *err)
{
    CLEANUP(buf_deinit) struct buf buf = {0};
    struct expr_step step = {0};
    const struct {
        const char *name;
        const struct str *value;
    } members[] = {{"status", &step.status},
                   {"branch", &step.branch},
                   {"output", &step.output},
                   {"error", &step.error},
                   {"failed", &step.failed}};
    struct jw w = jw_to(&buf);

    buf_init(&buf, expr->all_steps ? EXPR_STEPS_MAX : EXPR_STEP_MAX);
    if (expr->part_count == 1 || expr->parts[1].is_index) {
        if (expr->part_count > 1)
            return cannot_index(JT_OBJECT, &expr->parts[1], err);
        *used = 1;
        return built(&buf, write_steps(expr, doc, &w), arena, ret, err);
    }
    if (expr->part_count == 2 || expr->parts[2].is_index) {
        *used = 2;
        return built(&buf, write_step(doc, expr->parts[1].key, &w), arena, ret, err);
    }
    *used = 3;
    if (!doc->step(doc->ctx, expr->parts[1].key, &step))
        return EXPR_NOT_HERE;
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (str_is(expr->parts[2].key, members[i].name))
            *ret = *members[i].value;
    }
    return EXPR_OK;
}

static struct str root_member(const struct expr_doc *doc, struct str key, struct arena *arena)
{
    if (str_is(key, "trigger"))
        return doc->trigger;
    if (str_is(key, "input"))
        return doc->input;
    if (str_is(key, "item"))
        return doc->item;
    if (str_is(key, "run"))
        return doc->run;
    if (str_is(key, "output"))
        return doc->output;
    if (str_is(key, "event"))
        return doc->event;
    if (str_is(key, "index") && doc->index >= 0)
        return str_of(arena_printf(arena, "%lld", (long long)doc->index));
    return STR_NONE;
}

static enum expr_status eval_whole(const struct expr *expr, const struct expr_doc *doc, struct arena *arena,
                                   struct str *ret, struct err *err)
{
    CLEANUP(buf_deinit) struct buf buf = {0};

    buf_init(&buf, EXPR_STEPS_MAX);
    return built(&buf, write_document(expr, doc, &buf), arena, ret, err);
}

enum expr_status expr_eval_native(const struct expr *expr, const struct expr_doc *doc, struct arena *arena,
                                  struct str *ret, struct err *err)
{
    enum expr_status status = EXPR_OK;
    struct str value = STR_NONE;
    size_t i = 1;

    if (expr->part_count == 0)
        return eval_whole(expr, doc, arena, ret, err);
    if (expr->parts[0].is_index)
        return cannot_index(JT_OBJECT, &expr->parts[0], err);
    if (str_is(expr->parts[0].key, "steps"))
        status = eval_steps(expr, doc, arena, &value, &i, err);
    else
        value = root_member(doc, expr->parts[0].key, arena);
    for (; status == EXPR_OK && i < expr->part_count; i++)
        status = walk_part(arena, &expr->parts[i], &value, err);
    if (status == EXPR_OK)
        *ret = value.ptr == NULL ? STR("null") : value;
    return status;
}
