/* What a plain scalar means in YAML 1.2's core schema (1.2.2, 10.3.2), as JSON. */
#include "cli/yaml_scalar.h"
#include "cli/yaml.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

static bool is_one_of(struct str s, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (str_is(s, *words))
            return true;
    }
    return false;
}

static struct str take_digits(struct str *rest)
{
    struct str digits = {rest->ptr, 0};

    while (rest->len > 0 && rest->ptr[0] >= '0' && rest->ptr[0] <= '9') {
        digits.len++;
        rest->ptr++;
        rest->len--;
    }
    return digits;
}

static bool take_char(struct str *rest, const char *any)
{
    if (rest->len == 0 || rest->ptr[0] == '\0' || strchr(any, rest->ptr[0]) == NULL)
        return false;
    rest->ptr++;
    rest->len--;
    return true;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?  (YAML 1.2.2, 10.3.2), written as JSON has it: no
 * plus sign before, no zeros before the whole part, digits on both sides of the point. */
static bool decimal_to_json(struct str s, struct buf *number)
{
    bool negative = s.len > 0 && s.ptr[0] == '-';
    struct str whole, fraction = STR("");

    (void)take_char(&s, "-+");
    whole = take_digits(&s);
    if (take_char(&s, "."))
        fraction = take_digits(&s);
    if (whole.len == 0 && fraction.len == 0)
        return false;
    while (whole.len > 1 && whole.ptr[0] == '0')
        whole = (struct str){whole.ptr + 1, whole.len - 1};
    buf_append_str(number, negative ? STR("-") : STR(""));
    buf_append_str(number, whole.len == 0 ? STR("0") : whole);
    if (fraction.len > 0) {
        buf_append_char(number, '.');
        buf_append_str(number, fraction);
    }
    if (s.len == 0)
        return true;
    buf_append_str(number, s);
    if (!take_char(&s, "eE"))
        return false;
    (void)take_char(&s, "-+");
    return take_digits(&s).len > 0 && s.len == 0;
}

/* 0o17 and 0x1F: true when it is one; *ret_large when it has more than 64 bits. */
static bool other_base_to_json(struct str s, struct buf *number, bool *ret_large)
{
    unsigned base = str_starts(s, "0o") ? 8 : 16;
    uint64_t n = 0;

    *ret_large = false;
    if (s.len < 3 || (base == 16 && !str_starts(s, "0x")))
        return false;
    for (size_t i = 2; i < s.len; i++) {
        char lower = (char)(s.ptr[i] | 0x20);
        unsigned digit = 99;

        if (s.ptr[i] >= '0' && s.ptr[i] <= '9')
            digit = (unsigned)(s.ptr[i] - '0');
        else if (lower >= 'a' && lower <= 'f')
            digit = (unsigned)(lower - 'a') + 10;
        if (digit >= base)
            return false;
        *ret_large = *ret_large || n > (UINT64_MAX - digit) / base;
        n = n * base + digit;
    }
    buf_printf(number, "%llu", (unsigned long long)n);
    return true;
}

static const char *put_number(struct str number, struct buf *out)
{
    struct err err;

    if (jt_check(number, &JT_LIMITS_API, &err) != ERR_OK)
        return "the number is beyond what JSON can carry";
    buf_append_str(out, number);
    return NULL;
}

const char *yaml_plain_scalar(struct str s, struct buf *out)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    static const char *const no_json[] = {".inf",  ".Inf",  ".INF", "+.inf", "+.Inf", "+.INF", "-.inf",
                                          "-.Inf", "-.INF", ".nan", ".NaN",  ".NAN",  NULL};
    CLEANUP(buf_deinit) struct buf number = {0};
    bool large;

    buf_init(&number, YAML_MAX_BYTES);
    if (is_one_of(s, nulls))
        buf_append_str(out, STR("null"));
    else if (is_one_of(s, trues))
        buf_append_str(out, STR("true"));
    else if (is_one_of(s, falses))
        buf_append_str(out, STR("false"));
    else if (is_one_of(s, no_json))
        return "infinity and NaN have no place in JSON";
    else if (other_base_to_json(s, &number, &large))
        return large ? "the number has more than 64 bits" : put_number(buf_str(&number), out);
    else if (buf_reset(&number), decimal_to_json(s, &number))
        return put_number(buf_str(&number), out);
    else
        json_quote(out, s);
    return NULL;
}
