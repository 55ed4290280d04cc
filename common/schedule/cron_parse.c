/* Reading cron expressions. Each refusal names the field and the part of it that is wrong. */
#include "common/base/civil.h"
#include "common/schedule/cron.h"

#include "common/base/banned.h"

#define SHOWN_MAX 40 /* bytes of what is wrong, in messages */

struct field {
    const char *name;
    uint32_t min, max; /* max as it is written: 7 is Sunday, too */
    const char *names; /* three letters each, the first is `min` */
};

enum { MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS };

static const struct field fields[FIELDS] = {
    [MINUTE] = {"minute", 0, 59, ""},
    [HOUR] = {"hour", 0, 23, ""},
    [DAY] = {"day of month", 1, 31, ""},
    [MONTH] = {"month", 1, 12, "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC"},
    [WEEKDAY] = {"day of week", 0, 7, "SUNMONTUEWEDTHUFRISAT"},
};

static const struct {
    const char *name, *means;
} shorthands[] = {
    {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"},
    {"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@hourly", "0 * * * *"},
};

struct parse {
    struct cron *cron;
    struct cron_fault *fault;
    const struct field *field;
    struct str part; /* of the list, for messages */
};

static bool refuse(struct parse *p, const char *code, const char *what, const char *hint)
{
    p->fault->code = code;
    p->fault->hint = hint;
    snprintf(p->fault->message, sizeof(p->fault->message), "'" STR_FMT "' %s in the field of the %s",
             STR_ARG(utf8_prefix(p->part, SHOWN_MAX)), what, p->field->name);
    return false;
}

static char upper(char c)
{
    return (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
}

static bool take(struct str *s, char c)
{
    if (s->len == 0 || upper(s->ptr[0]) != c)
        return false;
    s->ptr++;
    s->len--;
    return true;
}

/* Takes a name of the field, if there is one. */
static bool take_name(const struct field *field, struct str *s, uint32_t *ret)
{
    for (uint32_t i = 0; s->len >= 3 && field->names[i * 3] != '\0'; i++) {
        const char *name = field->names + (size_t)i * 3;

        if (upper(s->ptr[0]) == name[0] && upper(s->ptr[1]) == name[1] && upper(s->ptr[2]) == name[2]) {
            s->ptr += 3;
            s->len -= 3;
            *ret = field->min + i;
            return true;
        }
    }
    return false;
}

static bool take_number(struct parse *p, struct str *s, uint32_t min, uint32_t max, uint32_t *ret)
{
    size_t digits = 0;

    while (digits < s->len && s->ptr[digits] >= '0' && s->ptr[digits] <= '9')
        digits++;
    if (digits == 0)
        return refuse(p, "bad_expression", "is not understood",
                      "numbers, names, ranges a-b, steps */n, lists a,b; L, W and # in the fields of days");
    if (digits > 4 || !parse_u32((struct str){s->ptr, digits}, min, max, ret))
        return refuse(p, "out_of_range", "is outside of what there is", NULL);
    s->ptr += digits;
    s->len -= digits;
    return true;
}

static bool take_value(struct parse *p, struct str *s, uint32_t *ret)
{
    return take_name(p->field, s, ret) || take_number(p, s, p->field->min, p->field->max, ret);
}

static void set(struct parse *p, uint32_t value)
{
    switch (p->field - fields) {
    case MINUTE:
        p->cron->minutes |= UINT64_C(1) << value;
        break;
    case HOUR:
        p->cron->hours |= UINT32_C(1) << value;
        break;
    case DAY:
        p->cron->days |= UINT32_C(1) << value;
        break;
    case MONTH:
        p->cron->months = (uint16_t)(p->cron->months | 1U << value);
        break;
    default:
        p->cron->weekdays = (uint8_t)(p->cron->weekdays | 1U << value % 7);
    }
}

static bool set_range(struct parse *p, struct str s, uint32_t from, uint32_t to)
{
    uint32_t step = 1, width = p->field == &fields[WEEKDAY] ? 7 : p->field->max - p->field->min + 1;

    if (take(&s, '/') && !take_number(p, &s, 1, width, &step))
        return false;
    if (s.len > 0)
        return refuse(p, "bad_expression", "is not understood", NULL);
    for (uint32_t value = from; value <= to; value += step)
        set(p, value);
    return true;
}

/* `5L`, `1#2`: true when it was one, or refused. */
static bool weekday_special(struct parse *p, struct str s, uint32_t value, bool *ret_ok)
{
    uint32_t nth;

    if (take(&s, '#')) {
        *ret_ok = take_number(p, &s, 1, 5, &nth);
        if (*ret_ok)
            p->cron->weekdays_nth[value % 7] = (uint8_t)(p->cron->weekdays_nth[value % 7] | 1U << nth);
    } else if (take(&s, 'L')) {
        *ret_ok = true;
        p->cron->weekdays_last = (uint8_t)(p->cron->weekdays_last | 1U << value % 7);
    } else {
        return false;
    }
    if (*ret_ok && s.len > 0)
        *ret_ok = refuse(p, "bad_expression", "is not understood", NULL);
    return true;
}

/* `L`, `L-3`, `LW`, behind the L. */
static bool last_day(struct parse *p, struct str s)
{
    uint32_t before = 0;

    if (take(&s, 'W'))
        p->cron->last_weekday = true;
    else if (take(&s, '-') && !take_number(p, &s, 1, 30, &before))
        return false;
    else
        p->cron->days_last |= UINT32_C(1) << before;
    if (s.len > 0)
        return refuse(p, "bad_expression", "is not understood", NULL);
    return true;
}

static bool parse_part(struct parse *p, struct str s)
{
    const struct field *field = p->field;
    uint32_t from = field->min, to = field->max;
    bool special_ok;

    if (take(&s, '*'))
        return set_range(p, s, from, field == &fields[WEEKDAY] ? 6 : to);
    if (field == &fields[DAY] && take(&s, 'L'))
        return last_day(p, s);
    if (field == &fields[WEEKDAY] && s.len == 1 && upper(s.ptr[0]) == 'L')
        return refuse(p, "bad_expression", "does not say which day", "the last Friday of a month is 5L");
    if (!take_value(p, &s, &from))
        return false;
    if (field == &fields[DAY] && s.len == 1 && take(&s, 'W')) {
        p->cron->days_nearest |= UINT32_C(1) << from;
        return true;
    }
    if (field == &fields[WEEKDAY] && weekday_special(p, s, from, &special_ok))
        return special_ok;
    if (take(&s, '-')) {
        if (!take_value(p, &s, &to))
            return false;
        if (field == &fields[WEEKDAY] && to == 0 && from > 0)
            to = 7; /* until Sunday */
        if (to < from)
            return refuse(p, "out_of_range", "ends before it begins", "write it as a list of two ranges");
    } else if (s.len == 0) {
        to = from;
    } else if (field == &fields[WEEKDAY]) {
        to = 6;
    }
    return set_range(p, s, from, to);
}

static bool parse_field(struct parse *p, struct str text)
{
    bool any = str_is(text, "*") || str_is(text, "?");

    if (str_is(text, "?") && p->field != &fields[DAY] && p->field != &fields[WEEKDAY]) {
        p->part = text;
        return refuse(p, "bad_expression", "is for days only", "write *");
    }
    if (p->field == &fields[DAY])
        p->cron->any_day = any;
    if (p->field == &fields[WEEKDAY])
        p->cron->any_weekday = any;
    if (any)
        text = STR("*");
    while (text.ptr != NULL) {
        p->part = str_cut(&text, ',');
        if (p->part.len == 0)
            return refuse(p, "bad_expression", "is empty", NULL);
        if (p->field < &fields[DAY] &&
            (memchr(p->part.ptr, '*', p->part.len) != NULL || memchr(p->part.ptr, '/', p->part.len) != NULL))
            p->cron->elapsed = true;
        if (!parse_part(p, p->part))
            return false;
    }
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static size_t split(struct str text, struct str ret[FIELDS + 1])
{
    size_t count = 0;

    for (size_t i = 0; i < text.len;) {
        size_t start = i;

        if (is_blank(text.ptr[i])) {
            i++;
            continue;
        }
        while (i < text.len && !is_blank(text.ptr[i]))
            i++;
        if (count <= FIELDS)
            ret[count] = (struct str){text.ptr + start, i - start};
        count++;
    }
    return count;
}

static bool fault_plain(struct cron_fault *fault, const char *code, const char *message, const char *hint)
{
    fault->code = code;
    fault->hint = hint;
    snprintf(fault->message, sizeof(fault->message), "%s", message);
    return false;
}

bool cron_parse(struct str text, struct cron *ret, struct cron_fault *ret_fault)
{
    struct str parts[FIELDS + 1];
    struct cron cron = {0};
    struct parse p = {.cron = &cron, .fault = ret_fault};
    size_t count = split(text, parts);
    int64_t first;

    for (size_t i = 0; count == 1 && i < sizeof(shorthands) / sizeof(shorthands[0]); i++)
        if (str_is(parts[0], shorthands[i].name))
            count = split(str_of(shorthands[i].means), parts);
    if (count == 1 && parts[0].ptr[0] == '@')
        return fault_plain(ret_fault, "bad_expression", "is no shorthand that there is",
                           "@hourly @daily @midnight @weekly @monthly @yearly @annually");
    if (count != FIELDS)
        return fault_plain(ret_fault, "bad_expression", "must have five fields",
                           "minute hour day-of-month month day-of-week, as in \"0 2 * * *\"");
    for (size_t i = 0; i < FIELDS; i++) {
        p.field = &fields[i];
        if (!parse_field(&p, parts[i]))
            return false;
    }
    if (!cron_next_local(&cron, 0, INT64_MAX, &first))
        return fault_plain(ret_fault, "out_of_range", "names no day that there ever is",
                           "look at the day and the month together");
    *ret = cron;
    return true;
}
