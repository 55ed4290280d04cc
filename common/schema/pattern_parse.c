/* The parser of patterns: the regular part of ECMA 262 to a small tree. */
#include "common/schema/pattern_internal.h"

#include "common/base/banned.h"

#define MAX_GROUPS 50
#define MAX_REPEAT 1000
#define CODE_MAX 0x10ffff

enum err_code re_refuse(struct compiler *c, enum err_code rc, const char *what)
{
    return err_set(c->err, rc, "%s at byte %zu of the pattern", what, (size_t)(c->p - c->begin));
}

static void add_range(struct compiler *c, uint32_t low, uint32_t high)
{
    if (c->range_count == c->range_cap) {
        struct pattern_range *grown = arena_array(c->arena, c->range_cap * 2 + 16, sizeof(*grown));

        if (c->range_count > 0)
            memcpy(grown, c->ranges, c->range_count * sizeof(*grown));
        c->ranges = grown;
        c->range_cap = c->range_cap * 2 + 16;
    }
    c->ranges[c->range_count++] = (struct pattern_range){low, high};
}

/* \d \w \s and their complements, as ranges in order. ECMA's white space, ASCII digits and letters. */
static bool add_named_class(struct compiler *c, char name)
{
    static const struct pattern_range digits[] = {{'0', '9'}};
    static const struct pattern_range words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const struct pattern_range spaces[] = {
        {9, 13},          {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680}, {0x2000, 0x200a},
        {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};
    char lower = (char)(name | 0x20);
    const struct pattern_range *ranges = lower == 'd' ? digits : lower == 'w' ? words : spaces;
    size_t count = lower == 'd' ? 1 : lower == 'w' ? 4 : sizeof(spaces) / sizeof(spaces[0]);
    uint32_t from = 0;

    if (lower != 'd' && lower != 'w' && lower != 's')
        return false;
    for (size_t i = 0; i < count; i++) {
        if (name == lower)
            add_range(c, ranges[i].low, ranges[i].high);
        else if (ranges[i].low > from)
            add_range(c, from, ranges[i].low - 1);
        from = ranges[i].high + 1;
    }
    if (name != lower)
        add_range(c, from, CODE_MAX);
    return true;
}

static uint32_t next_code(struct compiler *c)
{
    static const uint8_t masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    size_t len = utf8_len_at(c->p, (size_t)(c->end - c->p));
    uint32_t code;

    if (len == 0) {
        c->p++;
        return 0xfffd;
    }
    code = (uint8_t)c->p[0] & masks[len];
    for (size_t i = 1; i < len; i++)
        code = code << 6 | ((uint8_t)c->p[i] & 0x3f);
    c->p += len;
    return code;
}

/* `digits` hexadecimal digits at c->p. */
static enum err_code parse_hex(struct compiler *c, int digits, uint32_t *ret)
{
    uint32_t code = 0;

    for (int i = 0; i < digits; i++, c->p++) {
        char ch = c->p < c->end ? *c->p : '\0';
        char lower = (char)(ch | 0x20);

        if (ch >= '0' && ch <= '9')
            code = code * 16 + (uint32_t)(ch - '0');
        else if (lower >= 'a' && lower <= 'f')
            code = code * 16 + (uint32_t)(lower - 'a') + 10;
        else
            return re_refuse(c, ERR_INVALID, "not a hexadecimal digit");
    }
    *ret = code;
    return ERR_OK;
}

static enum err_code parse_unicode(struct compiler *c, uint32_t *ret)
{
    enum err_code rc;
    uint32_t low;

    if (c->p < c->end && *c->p == '{') {
        const char *close = memchr(c->p, '}', (size_t)(c->end - c->p));

        if (close == NULL || close - c->p < 2 || close - c->p > 7)
            return re_refuse(c, ERR_INVALID, "not a code point");
        c->p++;
        rc = parse_hex(c, (int)(close - c->p), ret);
        if (rc != ERR_OK)
            return rc;
        c->p = close + 1;
        return *ret > CODE_MAX ? re_refuse(c, ERR_INVALID, "not a code point") : ERR_OK;
    }
    rc = parse_hex(c, 4, ret);
    if (rc == ERR_OK && *ret >= 0xd800 && *ret <= 0xdbff && c->end - c->p >= 6 && c->p[0] == '\\' && c->p[1] == 'u') {
        c->p += 2;
        rc = parse_hex(c, 4, &low);
        if (rc == ERR_OK)
            *ret = 0x10000 + ((*ret - 0xd800) << 10) + ((low - 0xdc00) & 0x3ff);
    }
    return rc;
}

/* What stands behind a backslash and means one character; c->p is at it. */
static enum err_code parse_escape(struct compiler *c, bool in_class, uint32_t *ret)
{
    static const char names[] = "tnvfr";
    static const uint32_t codes[] = {'\t', '\n', '\v', '\f', '\r'};
    char ch = *c->p;
    const char *found = memchr(names, ch, sizeof(names) - 1);

    if (found != NULL) {
        c->p++;
        *ret = codes[found - names];
        return ERR_OK;
    }
    if (ch == 'u' || ch == 'x') {
        c->p++;
        return ch == 'u' ? parse_unicode(c, ret) : parse_hex(c, 2, ret);
    }
    if (ch == 'b' && in_class) {
        c->p++;
        *ret = '\b';
        return ERR_OK;
    }
    if (ch == '0' && (c->end - c->p < 2 || c->p[1] < '0' || c->p[1] > '9')) {
        c->p++;
        *ret = 0;
        return ERR_OK;
    }
    if (ch == 'c' && c->end - c->p >= 2 && ((c->p[1] | 0x20) >= 'a' && (c->p[1] | 0x20) <= 'z')) {
        *ret = (uint32_t)(c->p[1] & 0x1f);
        c->p += 2;
        return ERR_OK;
    }
    if (ch == 'b' || ch == 'B' || ch == 'k' || ch == 'p' || ch == 'P' || (ch >= '1' && ch <= '9'))
        return re_refuse(c, ERR_NOT_AVAILABLE,
                         "word boundaries, back-references and Unicode classes are not supported,");
    if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '0')
        return re_refuse(c, ERR_INVALID, "unknown escape");
    *ret = next_code(c);
    return ERR_OK;
}

/* One end of a range in brackets; *ret_named when it was a whole class (\d), already added. */
static enum err_code parse_class_atom(struct compiler *c, uint32_t *ret, bool *ret_named)
{
    *ret_named = false;
    if (*c->p != '\\') {
        *ret = next_code(c);
        return ERR_OK;
    }
    c->p++;
    if (c->p >= c->end)
        return re_refuse(c, ERR_INVALID, "nothing behind the backslash");
    if (add_named_class(c, *c->p)) {
        c->p++;
        *ret_named = true;
        return ERR_OK;
    }
    return parse_escape(c, true, ret);
}

static enum err_code parse_class(struct compiler *c, struct re_item *item)
{
    item->kind = RE_CLASS;
    item->range_first = c->range_count;
    if (c->p < c->end && *c->p == '^') {
        item->negated = true;
        c->p++;
    }
    while (c->p < c->end && *c->p != ']') {
        uint32_t low = 0, high;
        bool named, high_named;
        enum err_code rc = parse_class_atom(c, &low, &named);

        if (rc != ERR_OK)
            return rc;
        high = low;
        if (!named && c->end - c->p >= 2 && c->p[0] == '-' && c->p[1] != ']') {
            c->p++;
            rc = parse_class_atom(c, &high, &high_named);
            if (rc != ERR_OK)
                return rc;
            if (high_named || high < low)
                return re_refuse(c, ERR_INVALID, "a range that ends before it begins");
        }
        if (!named)
            add_range(c, low, high);
    }
    if (c->p >= c->end)
        return re_refuse(c, ERR_INVALID, "missing ']'");
    c->p++;
    item->range_count = c->range_count - item->range_first;
    return ERR_OK;
}

static enum err_code parse_group(struct compiler *c, struct re_item *item)
{
    enum err_code rc;

    if (c->end - c->p >= 2 && c->p[0] == '?') {
        bool named = c->p[1] == '<' && c->end - c->p >= 3 && c->p[2] != '=' && c->p[2] != '!';
        const char *close = named ? memchr(c->p, '>', (size_t)(c->end - c->p)) : NULL;

        if (c->p[1] != ':' && close == NULL)
            return re_refuse(c, ERR_NOT_AVAILABLE, "look-around is not supported,");
        c->p = close != NULL ? close + 1 : c->p + 2;
    }
    if (++c->depth > MAX_GROUPS)
        return re_refuse(c, ERR_TOO_LARGE, "groups nested too deep");
    item->kind = RE_GROUP;
    rc = re_parse_alternatives(c, &item->alternatives);
    if (rc != ERR_OK)
        return rc;
    c->depth--;
    if (c->p >= c->end)
        return re_refuse(c, ERR_INVALID, "missing ')'");
    c->p++;
    return ERR_OK;
}

static enum err_code parse_atom(struct compiler *c, struct re_item *item)
{
    char ch = *c->p;

    switch (ch) {
    case '^':
    case '$':
        item->kind = ch == '^' ? RE_BEGIN : RE_END;
        c->p++;
        return ERR_OK;
    case '.':
        item->kind = RE_ANY;
        c->p++;
        return ERR_OK;
    case '[':
        c->p++;
        return parse_class(c, item);
    case '(':
        c->p++;
        return parse_group(c, item);
    case '*':
    case '+':
    case '?':
        return re_refuse(c, ERR_INVALID, "nothing to repeat");
    case '\\':
        c->p++;
        if (c->p >= c->end)
            return re_refuse(c, ERR_INVALID, "nothing behind the backslash");
        item->range_first = c->range_count;
        if (add_named_class(c, *c->p)) {
            c->p++;
            item->kind = RE_CLASS;
            item->range_count = c->range_count - item->range_first;
            return ERR_OK;
        }
        item->kind = RE_CHAR;
        return parse_escape(c, false, &item->code);
    default:
        item->kind = RE_CHAR;
        item->code = next_code(c);
        return ERR_OK;
    }
}

/* Reads "{n}", "{n,}" or "{n,m}" at c->p; anything else is no repetition and stays where it is. */
static bool parse_braces(struct compiler *c, uint32_t *min, uint32_t *max)
{
    const char *close = memchr(c->p, '}', (size_t)(c->end - c->p));
    struct str inside, low;

    if (close == NULL)
        return false;
    inside = (struct str){c->p + 1, (size_t)(close - c->p) - 1};
    if (memchr(inside.ptr, ',', inside.len) == NULL) {
        if (!parse_u32(inside, 0, UNBOUNDED - 1, min))
            return false;
        *max = *min;
    } else {
        low = str_cut(&inside, ',');
        if (!parse_u32(low, 0, UNBOUNDED - 1, min))
            return false;
        if (inside.len == 0)
            *max = UNBOUNDED;
        else if (!parse_u32(inside, 0, UNBOUNDED - 1, max))
            return false;
    }
    c->p = close + 1;
    return true;
}

static enum err_code parse_repetition(struct compiler *c, struct re_item *item)
{
    char ch = c->p < c->end ? *c->p : '\0';

    item->min = item->max = 1;
    if (ch == '*' || ch == '+' || ch == '?') {
        item->min = ch == '+' ? 1 : 0;
        item->max = ch == '?' ? 1 : UNBOUNDED;
        c->p++;
    } else if (ch != '{' || !parse_braces(c, &item->min, &item->max)) {
        return ERR_OK;
    }
    if (item->kind == RE_BEGIN || item->kind == RE_END)
        return re_refuse(c, ERR_INVALID, "a repeated anchor");
    if (item->max < item->min)
        return re_refuse(c, ERR_INVALID, "a repetition that ends before it begins");
    if (item->min > MAX_REPEAT || (item->max != UNBOUNDED && item->max > MAX_REPEAT))
        return re_refuse(c, ERR_TOO_LARGE, "too many repetitions");
    /* Lazy or greedy is the same where only the match itself is asked for. */
    if (c->p < c->end && *c->p == '?')
        c->p++;
    return ERR_OK;
}

enum err_code re_parse_alternatives(struct compiler *c, struct re_alternative **ret)
{
    struct re_alternative *alternative = arena_alloc(c->arena, sizeof(*alternative));
    struct re_item **tail = &alternative->first;

    *ret = alternative;
    while (c->p < c->end && *c->p != ')') {
        struct re_item *item;
        enum err_code rc;

        if (*c->p == '|') {
            c->p++;
            alternative->next = arena_alloc(c->arena, sizeof(*alternative));
            alternative = alternative->next;
            tail = &alternative->first;
            continue;
        }
        item = arena_alloc(c->arena, sizeof(*item));
        rc = parse_atom(c, item);
        if (rc == ERR_OK)
            rc = parse_repetition(c, item);
        if (rc != ERR_OK)
            return rc;
        *tail = item;
        tail = &item->next;
    }
    return ERR_OK;
}
