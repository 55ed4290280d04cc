/* The tokens of jq 1.6 (its lexer.l), with one more question answered: where does text that follows "${" end? */
#include "common/expr/jq_lex.h"

#include "common/base/banned.h"

void jq_lex_init(struct jq_lex *lex, struct str text)
{
    lex->pos = text.ptr;
    lex->end = text.ptr + text.len;
    lex->why = NULL;
    lex->depth = 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_name(char c)
{
    return is_name_start(c) || is_digit(c);
}

static struct jq_token bad(struct jq_lex *lex, const char *why)
{
    lex->why = why;
    lex->pos = lex->end;
    return (struct jq_token){JQ_BAD, {lex->end, 0}};
}

/* A token of the next `len` bytes. */
static struct jq_token take(struct jq_lex *lex, enum jq_kind kind, size_t len)
{
    struct jq_token token = {kind, {lex->pos, len}};

    lex->pos += len;
    return token;
}

/* White space is what libjq 1.6 takes for it: no carriage return. A comment goes to the end of its line. */
static void skip_space(struct jq_lex *lex)
{
    while (lex->pos < lex->end) {
        char c = *lex->pos;

        if (c == '#') {
            const char *line = memchr(lex->pos, '\n', (size_t)(lex->end - lex->pos));

            lex->pos = line == NULL ? lex->end : line;
        } else if (c == ' ' || c == '\t' || c == '\n') {
            lex->pos++;
        } else {
            return;
        }
    }
}

static struct jq_token open_bracket(struct jq_lex *lex, enum jq_kind kind, size_t len)
{
    struct jq_token token = take(lex, kind, len);

    if (lex->depth == JQ_DEPTH_MAX)
        return bad(lex, "brackets are too deep inside each other");
    token.text = (struct str){lex->pos - 1, 1};
    lex->open[lex->depth++] = *token.text.ptr;
    return token;
}

static struct jq_token close_bracket(struct jq_lex *lex, char c)
{
    char open = c == ')' ? '(' : c == ']' ? '[' : '{';

    if (lex->depth == 0 && c == '}')
        return take(lex, JQ_STOP, 1);
    if (lex->depth == 0 || lex->open[lex->depth - 1] != open)
        return bad(lex, "a closing bracket does not match");
    lex->depth--;
    return take(lex, JQ_CLOSE, 1);
}

/* Inside a string. Only \( means something here; which other escapes there are is libjq's business. */
static struct jq_token in_string(struct jq_lex *lex)
{
    const char *p = lex->pos;

    if (p < lex->end && *p == '"') {
        lex->depth--;
        return take(lex, JQ_UNQUOTE, 1);
    }
    if (lex->end - p >= 2 && p[0] == '\\' && p[1] == '(')
        return open_bracket(lex, JQ_OPEN, 2);
    while (p < lex->end && *p != '"') {
        if (*p == '\\' && lex->end - p >= 2 && p[1] == '(')
            break;
        p += *p == '\\' && lex->end - p >= 2 ? 2 : 1;
    }
    if (p == lex->end)
        return bad(lex, "a string is not closed");
    return take(lex, JQ_TEXT, (size_t)(p - lex->pos));
}

static size_t name_len(const char *p, const char *end)
{
    size_t len = 0;

    while (p + len < end && is_name(p[len]))
        len++;
    return len;
}

/* name or module::name */
static struct jq_token ident(struct jq_lex *lex)
{
    const char *p = lex->pos + name_len(lex->pos, lex->end);

    while (lex->end - p >= 3 && p[0] == ':' && p[1] == ':' && is_name_start(p[2]))
        p += 2 + name_len(p + 2, lex->end);
    return take(lex, JQ_IDENT, (size_t)(p - lex->pos));
}

static struct jq_token number(struct jq_lex *lex)
{
    const char *p = lex->pos;
    const char *exponent;

    while (p < lex->end && is_digit(*p))
        p++;
    if (p < lex->end && *p == '.')
        p++;
    while (p < lex->end && is_digit(*p))
        p++;
    if (p < lex->end && (*p == 'e' || *p == 'E')) {
        exponent = p + 1;
        if (exponent < lex->end && (*exponent == '+' || *exponent == '-'))
            exponent++;
        if (exponent < lex->end && is_digit(*exponent)) {
            while (exponent < lex->end && is_digit(*exponent))
                exponent++;
            p = exponent;
        }
    }
    return take(lex, JQ_NUMBER, (size_t)(p - lex->pos));
}

static struct jq_token operator(struct jq_lex *lex)
{
    static const char *const operators[] = {
        "?//", "//=", "!=", "==", "//", "|=", "+=", "-=", "*=", "/=", "%=", "<=", ">=", ".."};

    for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++) {
        size_t len = strlen(operators[i]);

        if ((size_t)(lex->end - lex->pos) >= len && memcmp(lex->pos, operators[i], len) == 0)
            return take(lex, JQ_OP, len);
    }
    return take(lex, JQ_OP, 1);
}

struct jq_token jq_lex_next(struct jq_lex *lex)
{
    struct jq_token token;
    char c, next;

    if (lex->depth > 0 && lex->open[lex->depth - 1] == '"')
        return in_string(lex);
    skip_space(lex);
    if (lex->pos == lex->end)
        return lex->depth > 0 ? bad(lex, "a bracket is not closed") : take(lex, JQ_END, 0);
    c = *lex->pos;
    next = lex->end - lex->pos > 1 ? lex->pos[1] : '\0';
    switch (c) {
    case '"':
        return open_bracket(lex, JQ_QUOTE, 1);
    case '(':
    case '[':
    case '{':
        return open_bracket(lex, JQ_OPEN, 1);
    case ')':
    case ']':
    case '}':
        return close_bracket(lex, c);
    case '.':
    case '@':
        if (c == '.' && is_digit(next))
            return number(lex);
        if (c == '.' ? !is_name_start(next) : !is_name(next))
            break;
        lex->pos++;
        token = take(lex, c == '.' ? JQ_FIELD : JQ_FORMAT, name_len(lex->pos, lex->end));
        return token;
    default:
        if (is_digit(c))
            return number(lex);
        if (is_name_start(c))
            return ident(lex);
        break;
    }
    return operator(lex);
}
