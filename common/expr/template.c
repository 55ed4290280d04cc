/* Templates: JSON text with ${ jq } in its strings, taken apart into literal text and holes, and put together again.
 * What no hole touches is copied as it was written. */
#include "common/base/ensure.h"
#include "common/expr/expr.h"
#include "common/expr/expr_internal.h"

#include "common/base/banned.h"

struct compiler {
    struct arena *arena;
    const struct template_options *options;
    expr_fault_fn fault;
    void *ctx;
    bool faulty;
    bool changed;       /* some string was written anew */
    struct buf pointer; /* of the value at hand */
    struct buf literal; /* text since the last hole */
    const char *copied; /* the source up to here is in `literal` or in a chunk */
    size_t expr_cap, chunk_cap;
    struct template *t;
};

static void fault(struct compiler *c, const char *message, const char *hint)
{
    c->faulty = true;
    c->fault(c->ctx, "bad_expression", buf_str(&c->pointer), message, hint);
}

/* Room for one more in an array of the arena: doubles, the old one stays behind. */
static void *grown(struct arena *arena, void *items, size_t count, size_t *cap, size_t size)
{
    void *bigger;

    if (count < *cap)
        return items;
    *cap = *cap * 2 + 4;
    bigger = arena_array(arena, *cap, size);
    if (count > 0)
        memcpy(bigger, items, count * size);
    return bigger;
}

static struct expr *add_expr(struct compiler *c)
{
    c->t->exprs = grown(c->arena, c->t->exprs, c->t->expr_count, &c->expr_cap, sizeof(*c->t->exprs));
    return &c->t->exprs[c->t->expr_count];
}

/* Ends the literal text at hand; the value of the newest expression follows it, or nothing. */
static void add_chunk(struct compiler *c, bool hole)
{
    struct template *t = c->t;
    struct str literal = str_arena(c->arena, buf_str(&c->literal));

    if (!hole && literal.len == 0)
        return;
    t->chunks = grown(c->arena, t->chunks, t->chunk_count, &c->chunk_cap, sizeof(*t->chunks));
    t->chunks[t->chunk_count++] =
        (struct template_chunk){.literal = literal, .expr = hole ? (int)t->expr_count - 1 : -1};
    buf_reset(&c->literal);
}

/* Copies the source up to `to` and goes on behind `from`. */
static void copy_source(struct compiler *c, const char *to, const char *from)
{
    buf_append(&c->literal, c->copied, (size_t)(to - c->copied));
    c->copied = from;
}

/* Text as the inside of a JSON string. */
static void append_quoted_inside(struct buf *out, struct str text)
{
    size_t quote = out->len;

    json_quote(out, text);
    if (out->overflow)
        return;
    memmove(out->ptr + quote, out->ptr + quote + 1, out->len - quote - 2);
    out->len -= 2;
    out->ptr[out->len] = '\0';
}

/* Bytes of the expression behind "${", its closing brace not counted; SIZE_MAX when there is none. */
static size_t hole_len(struct str text, const char **why)
{
    struct jq_lex lex;
    struct jq_token token;

    jq_lex_init(&lex, text);
    do {
        token = jq_lex_next(&lex);
    } while (token.kind != JQ_STOP && token.kind != JQ_END && token.kind != JQ_BAD);
    *why = token.kind == JQ_BAD ? lex.why : "an expression is not closed";
    return token.kind == JQ_STOP ? (size_t)(token.text.ptr - text.ptr) : SIZE_MAX;
}

/* The pointer as seen from what the options call the root; STR_NONE outside of it. */
static struct str below_root(const struct compiler *c)
{
    struct str root = str_of(c->options->root == NULL ? "" : c->options->root);

    if (c->pointer.len < root.len || (root.len > 0 && memcmp(c->pointer.ptr, root.ptr, root.len) != 0))
        return STR_NONE;
    if (root.len == 0)
        return buf_str(&c->pointer); /* which has no bytes at the root itself */
    return (struct str){c->pointer.ptr + root.len, c->pointer.len - root.len};
}

static bool secret_allowed(const struct compiler *c)
{
    struct str pointer = below_root(c);

    return c->options->secrets_allowed &&
           (str_starts(pointer, "/headers/") || str_starts(pointer, "/auth/") || str_is(pointer, "/auth"));
}

bool expr_secret_name_is_valid(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char ch = name.ptr[i];
        bool digit = ch >= '0' && ch <= '9';

        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_' || (digit && i > 0)))
            return false;
    }
    return name.len > 0 && name.len <= 63;
}

/* Adds the expression; NULL when it has a fault. */
static const struct expr *compile_hole(struct compiler *c, struct str source, enum expr_place place)
{
    struct expr_problem problem;
    struct expr *expr = add_expr(c);

    if (!expr_compile(c->arena, source, place, expr, &problem)) {
        fault(c, problem.message, problem.hint);
        return NULL;
    }
    if (expr->secret && !secret_allowed(c)) {
        fault(c, "a secret cannot be used here", "secrets go into headers and auth of a call");
        return NULL;
    }
    if (expr->secret && !expr_secret_name_is_valid(expr->secret_name)) {
        fault(c, "no secret can have this name", "names of secrets are ^[A-Za-z_][A-Za-z0-9_]{0,62}$");
        return NULL;
    }
    expr->pointer = str_arena(c->arena, buf_str(&c->pointer));
    c->t->expr_count++;
    return expr;
}

/* Text and holes in turn become the string's new text. */
static void compile_text(struct compiler *c, struct str text)
{
    bool in_url = c->options->url_at_root_url && str_is(below_root(c), "/url");
    size_t done = 0, i = 0, len;
    const char *why;

    buf_append_char(&c->literal, '"');
    while (i + 1 < text.len) {
        if (text.len - i >= 3 && memcmp(text.ptr + i, "$${", 3) == 0) {
            append_quoted_inside(&c->literal, (struct str){text.ptr + done, i - done});
            i += 1;
            done = i; /* without the first dollar */
            i += 2;
        } else if (memcmp(text.ptr + i, "${", 2) == 0) {
            append_quoted_inside(&c->literal, (struct str){text.ptr + done, i - done});
            len = hole_len((struct str){text.ptr + i + 2, text.len - i - 2}, &why);
            if (len == SIZE_MAX) {
                fault(c, why, "an expression ends at its matching brace; for a literal \"${\" write \"$${\"");
                return;
            }
            if (compile_hole(c, (struct str){text.ptr + i + 2, len}, in_url ? EXPR_IN_URL : EXPR_IN_TEXT) != NULL)
                add_chunk(c, true);
            i += len + 3;
            done = i;
        } else {
            i++;
        }
    }
    append_quoted_inside(&c->literal, (struct str){text.ptr + done, text.len - done});
    buf_append_char(&c->literal, '"');
}

/* The string `raw` (with quotes, in the source) stands for `text`, which has a "${" somewhere. */
static void compile_string(struct compiler *c, struct str raw, struct str text)
{
    struct str behind = {text.ptr + 2, text.len - 2};
    const char *why;
    size_t len = str_starts(text, "${") ? hole_len(behind, &why) : SIZE_MAX;
    const struct expr *expr;

    if (len != SIZE_MAX && len + 1 == behind.len) {
        expr = compile_hole(c, (struct str){behind.ptr, len}, EXPR_WHOLE);
        if (expr == NULL || expr->secret)
            return;
        copy_source(c, raw.ptr, raw.ptr + raw.len);
        add_chunk(c, true);
        return;
    }
    copy_source(c, raw.ptr, raw.ptr + raw.len);
    c->changed = true;
    compile_text(c, text);
}

static bool has_dollar_brace(struct str text)
{
    return memmem(text.ptr, text.len, "${", 2) != NULL;
}

static void compile_value(struct compiler *c, struct str value);

static void compile_members(struct compiler *c, struct str container, bool object)
{
    size_t pointer_len = c->pointer.len;
    struct jt_iter it;

    jt_iter_init(&it, container);
    while (jt_next(&it)) {
        if (object)
            jt_pointer_add(&c->pointer, jt_key(&it, c->arena));
        else
            buf_printf(&c->pointer, "/%zu", it.index);
        compile_value(c, it.value);
        c->pointer.len = pointer_len;
        c->pointer.ptr[pointer_len] = '\0';
    }
}

/* As deep as the value, which jt_check has bounded. */
static void compile_value(struct compiler *c, struct str value)
{
    enum jt_type type = jt_type(value);
    struct str text;

    if (type == JT_OBJECT || type == JT_ARRAY) {
        compile_members(c, value, type == JT_OBJECT);
    } else if (type == JT_STRING) {
        if (memchr(value.ptr, '\\', value.len) == NULL && !has_dollar_brace(value))
            return;
        if (jt_string(value, c->arena, &text) && has_dollar_brace(text))
            compile_string(c, str_trim(value), text);
    }
}

bool template_compile(struct arena *arena, struct str value, const struct template_options *options,
                      expr_fault_fn fault_fn, void *ctx, struct template *ret)
{
    struct compiler c = {
        .arena = arena, .options = options, .fault = fault_fn, .ctx = ctx, .copied = value.ptr, .t = ret};

    *ret = (struct template){.source = value};
    buf_init(&c.pointer, EXPR_BUF_MAX);
    buf_init(&c.literal, EXPR_BUF_MAX);
    compile_value(&c, value);
    if (ret->chunk_count == 0 && !c.changed) {
        ret->literal = value;
    } else {
        copy_source(&c, value.ptr + value.len, NULL);
        ret->literal = ret->chunk_count == 0 ? str_arena(arena, buf_str(&c.literal)) : STR_NONE;
        add_chunk(&c, false);
    }
    ret->constant = ret->literal.ptr != NULL;
    buf_deinit(&c.pointer);
    buf_deinit(&c.literal);
    return !c.faulty;
}

bool template_is_expression(const struct template *t)
{
    return t->expr_count == 1 && t->exprs[0].place == EXPR_WHOLE && !t->exprs[0].secret && t->exprs[0].pointer.len == 0;
}

/* JSON text without the white space between its tokens, as jq prints it inside text. */
static void append_compact(struct buf *out, struct str json)
{
    bool in_string = false;

    for (size_t i = 0; i < json.len; i++) {
        char ch = json.ptr[i];

        if (!in_string && (ch == ' ' || ch == '\n' || ch == '\t' || ch == '\r'))
            continue;
        buf_append_char(out, ch);
        if (in_string && ch == '\\' && i + 1 < json.len)
            buf_append_char(out, json.ptr[++i]);
        else if (ch == '"')
            in_string = !in_string;
    }
}

/* Percent-encodes everything but RFC 3986's unreserved characters. */
static void append_url(struct buf *out, struct str text)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < text.len; i++) {
        unsigned char ch = (unsigned char)text.ptr[i];

        if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
            (ch != '\0' && strchr("-._~", ch) != NULL)) {
            buf_append_char(out, (char)ch);
        } else {
            const char encoded[3] = {'%', digits[ch >> 4], digits[ch & 15]};

            buf_append(out, encoded, sizeof(encoded));
        }
    }
}

/* The value as text: null is empty, strings as they are, the rest as JSON. */
static void append_in_text(struct buf *out, struct str value, enum expr_place place, struct arena *arena)
{
    CLEANUP(buf_deinit) struct buf compact = {0};
    struct str trimmed = str_trim(value);
    struct str text;

    if (jt_type(trimmed) == JT_NULL)
        return;
    if (place == EXPR_IN_TEXT && jt_type(trimmed) == JT_STRING && trimmed.len >= 2) {
        buf_append(out, trimmed.ptr + 1, trimmed.len - 2); /* a checked string's inside is right inside another */
        return;
    }
    buf_init(&compact, out->max);
    if (!jt_string(trimmed, arena, &text)) {
        append_compact(&compact, trimmed);
        text = buf_str(&compact);
    }
    if (place == EXPR_IN_URL)
        append_url(out, text);
    else
        append_quoted_inside(out, text);
}

enum err_code template_render(const struct template *t, const struct str *values, struct arena *arena, struct buf *out,
                              struct err *err)
{
    if (t->constant)
        buf_append_str(out, t->literal);
    for (size_t i = 0; i < t->chunk_count && !t->constant; i++) {
        const struct template_chunk *chunk = &t->chunks[i];
        struct str value;

        buf_append_str(out, chunk->literal);
        if (chunk->expr < 0)
            continue;
        ENSURE((size_t)chunk->expr < t->expr_count);
        value = values[chunk->expr].ptr == NULL ? STR("null") : values[chunk->expr];
        if (t->exprs[chunk->expr].place == EXPR_WHOLE)
            buf_append_str(out, value);
        else
            append_in_text(out, value, t->exprs[chunk->expr].place, arena);
    }
    if (out->overflow)
        return err_set(err, ERR_TOO_LARGE, "the text with its values is larger than %zu bytes", out->max);
    return ERR_OK;
}
