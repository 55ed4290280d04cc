/* What a jq program reads of the document, and words it may not use. A token at a time, without a parse tree: it is
 * enough to know whether `.` still is the whole document there. It may say that more is read than is true, never less.
 *
 * `.` is the document at the start, inside brackets that open where it is, and behind the pipe of `E as $x |` and
 * `label $x |`. Behind any other pipe it is a part of the document, unless the left side took the whole, which has been
 * seen by then. */
#include "common/expr/expr_internal.h"

#include "common/base/banned.h"

struct frame {
    char open;       /* ( [ { or i for if ... end */
    bool start, now; /* is `.` the document where the frame began, and here */
    bool binding;    /* the next pipe belongs to `as` or `label` */
    bool reduce_body;
    enum { NO_REDUCE, REDUCE_SOURCE, REDUCE_PATTERN } reduce;
};

struct refs {
    struct arena *arena;
    const struct expr_tokens *tokens;
    struct expr *expr;
    struct expr_problem *problem;
    size_t step_cap;
    size_t depth;
    struct frame frames[2 * JQ_DEPTH_MAX + 2];
};

static const struct refused {
    const char *word, *hint;
} refused_words[] = {
    {"now", "use .run.created_at"},
    {"localtime", "use gmtime, which does not depend on the machine"},
    {"strflocaltime", "use strftime, which does not depend on the machine"},
    {"input", "the run's input is .input"},
    {"inputs", "the run's input is .input"},
    {"env", "there is no environment; pass values by the run's input"},
    {"import", "there are no modules"},
    {"include", "there are no modules"},
    {"module", "there are no modules"},
    {"modulemeta", "there are no modules"},
    {"get_search_list", "there are no modules"},
    {"get_jq_origin", "there are no modules"},
    {"get_prog_origin", "there are no modules"},
    {"debug", "there is nobody to read it"},
    {"stderr", "there is nobody to read it"},
    {"halt", "use empty or error(\"...\")"},
    {"halt_error", "use error(\"...\")"},
    {"input_line_number", NULL},
    {"input_filename", NULL},
};

static const char *const refused_variables[] = {"ENV", "__loc__", "__prog_args"};

/* Functions that do not read `.` themselves; with arguments these are evaluated where the function stands. */
static const char *const values[] = {"null", "true", "false", "empty", "nan", "infinite"};
static const char *const argument_only[] = {"range", "limit", "first", "last", "isempty", "error",
                                            "pow",   "fmin",  "fmax",  "fmod", "atan2"};

#define IS_ONE_OF(text, list) is_one_of((text), (list), sizeof(list) / sizeof((list)[0]))

static bool is_one_of(struct str text, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (str_is(text, list[i]))
            return true;
    }
    return false;
}

static struct jq_token token_at(const struct refs *r, size_t i)
{
    return i < r->tokens->count ? r->tokens->items[i] : (struct jq_token){JQ_END, STR_NONE};
}

static bool token_is(struct jq_token token, enum jq_kind kind, const char *text)
{
    return token.kind == kind && str_is(token.text, text);
}

static bool is_keyword(struct str text)
{
    static const char *const keywords[] = {"def",   "if", "then",   "else",    "elif",   "end",
                                           "and",   "or", "reduce", "foreach", "try",    "catch",
                                           "label", "as", "import", "include", "module", "__loc__"};

    return IS_ONE_OF(text, keywords);
}

/* Does the token before `i` end a term, so that what stands at `i` may be its suffix? */
static bool is_suffix(const struct refs *r, size_t i)
{
    struct jq_token before = i > 0 ? token_at(r, i - 1) : (struct jq_token){JQ_END, STR_NONE};

    switch (before.kind) {
    case JQ_FIELD:
    case JQ_NUMBER:
    case JQ_FORMAT:
    case JQ_UNQUOTE:
    case JQ_CLOSE:
        return true;
    case JQ_IDENT:
        return str_is(before.text, "end") || !is_keyword(before.text) ||
               (i > 1 && (token_is(token_at(r, i - 2), JQ_OP, "$")));
    case JQ_OP:
        return str_is(before.text, ".") || str_is(before.text, "..") || str_is(before.text, "?");
    case JQ_END:
    case JQ_STOP:
    case JQ_BAD:
    case JQ_QUOTE:
    case JQ_TEXT:
    case JQ_OPEN:
        return false;
    }
    return false;
}

static void reads_whole(struct refs *r)
{
    r->expr->all_steps = true;
    r->expr->uses_input = true;
    r->expr->uses_trigger = true;
    r->expr->uses_item = true;
    r->expr->uses_output = true;
    r->expr->uses_event = true;
}

static void reads_step(struct refs *r, struct str name)
{
    struct expr *expr = r->expr;

    for (size_t i = 0; i < expr->step_count; i++) {
        if (str_eq(expr->steps[i], name))
            return;
    }
    if (expr->step_count == r->step_cap) {
        struct str *grown = arena_array(r->arena, r->step_cap = r->step_cap * 2 + 4, sizeof(*grown));

        if (expr->step_count > 0)
            memcpy(grown, expr->steps, expr->step_count * sizeof(*grown));
        expr->steps = grown;
    }
    expr->steps[expr->step_count++] = name;
}

/* A member of the document is read; tokens from `next` on may say more. */
static bool reads_member(struct refs *r, struct str name, size_t next)
{
    struct expr_path_part part;

    if (str_is(name, "input")) {
        r->expr->uses_input = true;
    } else if (str_is(name, "trigger")) {
        r->expr->uses_trigger = true;
    } else if (str_is(name, "item")) {
        r->expr->uses_item = true;
    } else if (str_is(name, "output")) {
        r->expr->uses_output = true;
    } else if (str_is(name, "event")) {
        r->expr->uses_event = true;
    } else if (str_is(name, "steps")) {
        if (expr_path_part_at(r->arena, r->tokens, next, false, &part) > 0 && !part.is_index)
            reads_step(r, part.key);
        else
            r->expr->all_steps = true;
    } else if (str_is(name, "secrets")) {
        *r->problem = (struct expr_problem){"a secret can only be a whole string", "write \"${ .secrets.NAME }\""};
        return false;
    }
    return true;
}

/* Something at `i` starts from `.`, which may be the document. */
static bool reads_from_here(struct refs *r, size_t i)
{
    struct expr_path_part part;
    size_t used;

    if (!r->frames[r->depth].now)
        return true;
    used = expr_path_part_at(r->arena, r->tokens, i, true, &part);
    if (used > 0 && !part.is_index)
        return reads_member(r, part.key, i + used);
    reads_whole(r);
    return true;
}

static bool push(struct refs *r, char open)
{
    struct frame *outer = &r->frames[r->depth];
    struct frame inner = {.open = open, .start = outer->now, .now = outer->now};

    if (r->depth + 1 == sizeof(r->frames) / sizeof(r->frames[0])) {
        *r->problem = (struct expr_problem){"it is nested too deeply", NULL};
        return false;
    }
    if (open == '(' && outer->reduce == REDUCE_PATTERN) {
        inner.reduce_body = true;
        outer->reduce = NO_REDUCE;
    }
    r->frames[++r->depth] = inner;
    return true;
}

static void pop(struct refs *r)
{
    if (r->depth > 0)
        r->depth--;
}

static bool refuse(struct refs *r, struct str word, const char *mark, const char *hint)
{
    r->problem->message =
        arena_printf(r->arena, "'%s" STR_FMT "' cannot be used in an expression", mark, STR_ARG(word));
    r->problem->hint = hint;
    return false;
}

static bool on_keyword(struct refs *r, struct str word)
{
    struct frame *top = &r->frames[r->depth];

    if (str_is(word, "def")) {
        reads_whole(r); /* whatever its body may be called on */
    } else if (str_is(word, "if")) {
        return push(r, 'i');
    } else if (str_is(word, "then") || str_is(word, "elif") || str_is(word, "else")) {
        top->now = top->start;
        top->binding = false;
    } else if (str_is(word, "end")) {
        if (top->open == 'i')
            pop(r);
    } else if (str_is(word, "as")) {
        if (top->reduce == REDUCE_SOURCE)
            top->reduce = REDUCE_PATTERN;
        else
            top->binding = true;
    } else if (str_is(word, "label")) {
        top->binding = true;
    } else if (str_is(word, "reduce") || str_is(word, "foreach")) {
        if (top->reduce != NO_REDUCE)
            reads_whole(r);
        top->reduce = REDUCE_SOURCE;
    }
    return true;
}

/* Is `i` where an object expects a key? Only then a comma or the brace is before it: values take no bare commas. */
static bool is_key(const struct refs *r, size_t i)
{
    struct jq_token before = i > 0 ? token_at(r, i - 1) : (struct jq_token){JQ_END, STR_NONE};

    return r->frames[r->depth].open == '{' && (token_is(before, JQ_OPEN, "{") || token_is(before, JQ_OP, ","));
}

static bool on_ident(struct refs *r, size_t i)
{
    struct jq_token token = token_at(r, i);
    struct jq_token after = token_at(r, i + 1);
    bool calls = token_is(after, JQ_OPEN, "(");

    if (i > 0 && token_is(token_at(r, i - 1), JQ_OP, "$"))
        return !IS_ONE_OF(token.text, refused_variables) || refuse(r, token.text, "$", NULL);
    if (is_key(r, i)) { /* {input: 1}, or {input}, which is {input: .input} */
        if (token_is(after, JQ_OP, ":") || !r->frames[r->depth].now)
            return true;
        return reads_member(r, token.text, r->tokens->count);
    }
    for (size_t w = 0; w < sizeof(refused_words) / sizeof(refused_words[0]); w++) {
        if (str_is(token.text, refused_words[w].word))
            return refuse(r, token.text, "", refused_words[w].hint);
    }
    if (is_keyword(token.text))
        return on_keyword(r, token.text);
    if (r->frames[r->depth].now && !IS_ONE_OF(token.text, values) && !(calls && IS_ONE_OF(token.text, argument_only)))
        reads_whole(r);
    return true;
}

/* The token behind the string that opens at `i`. */
static size_t behind_string(const struct refs *r, size_t i)
{
    size_t depth = 0;

    for (; i < r->tokens->count; i++) {
        enum jq_kind kind = token_at(r, i).kind;

        depth += kind == JQ_QUOTE ? 1 : 0;
        if (kind == JQ_UNQUOTE && --depth == 0)
            return i + 1;
    }
    return i;
}

/* A string that is a key without a value, {"input"}, reads that member; @format before it is not looked into. */
static bool on_quote(struct refs *r, size_t i)
{
    size_t behind;
    struct str name;

    if (!r->frames[r->depth].now || !is_key(r, i))
        return true;
    behind = behind_string(r, i);
    if (token_is(token_at(r, behind), JQ_OP, ":"))
        return true;
    name = behind == i + 3 ? token_at(r, i + 1).text : STR("");
    if (behind > i + 3 || (name.len > 0 && memchr(name.ptr, '\\', name.len) != NULL)) {
        reads_whole(r);
        return true;
    }
    return reads_member(r, name, r->tokens->count);
}

static bool on_operator(struct refs *r, size_t i)
{
    static const char *const assignments[] = {"=", "|=", "+=", "-=", "*=", "/=", "%=", "//="};
    struct str op = token_at(r, i).text;
    struct frame *top = &r->frames[r->depth];

    if (str_is(op, "|")) {
        top->now = top->binding && top->now;
        top->binding = false;
    } else if (str_is(op, ",")) {
        if (top->open == '{')
            top->now = top->start;
    } else if (str_is(op, ";")) {
        top->start = top->start && !top->reduce_body;
        top->now = top->start;
        top->binding = false;
    } else if (str_is(op, ".")) {
        bool message = i > 0 && token_is(token_at(r, i - 1), JQ_IDENT, "catch"); /* `.` is what was caught */

        return message || is_suffix(r, i) || reads_from_here(r, i);
    } else if (top->now && (str_is(op, "..") || IS_ONE_OF(op, assignments))) {
        reads_whole(r);
    }
    return true;
}

static bool on_token(struct refs *r, size_t i)
{
    struct jq_token token = token_at(r, i);

    switch (token.kind) {
    case JQ_FIELD: /* behind a lone dot it has been seen to */
        return is_suffix(r, i) || reads_from_here(r, i);
    case JQ_IDENT:
        return on_ident(r, i);
    case JQ_FORMAT:
        if (r->frames[r->depth].now && (token_at(r, i + 1).kind != JQ_QUOTE || is_key(r, i)))
            reads_whole(r);
        return true;
    case JQ_QUOTE:
        return on_quote(r, i);
    case JQ_OPEN:
        return push(r, *token.text.ptr);
    case JQ_CLOSE:
        while (r->depth > 1 && r->frames[r->depth].open == 'i')
            pop(r); /* an if without end: libjq will refuse it */
        pop(r);
        return true;
    case JQ_OP:
        return on_operator(r, i);
    case JQ_END:
    case JQ_STOP:
    case JQ_BAD:
    case JQ_NUMBER:
    case JQ_TEXT:
    case JQ_UNQUOTE:
        return true;
    }
    return true;
}

bool expr_refs_find(struct arena *arena, const struct expr_tokens *tokens, struct expr *expr,
                    struct expr_problem *problem)
{
    struct refs r = {.arena = arena, .tokens = tokens, .expr = expr, .problem = problem};

    r.frames[0] = (struct frame){.open = '\0', .start = true, .now = true};
    for (size_t i = 0; i < tokens->count; i++) {
        if (!on_token(&r, i))
            return false;
    }
    return true;
}
