/* The clocks, and how times and durations are written. */
#include "common/base/civil.h"
#include "common/base/clock.h"
#include "common/base/ensure.h"

#include "common/base/banned.h"

/* 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the range of RFC 3339. */
#define WALL_MIN_S INT64_C(-62167219200)
#define WALL_MAX_S INT64_C(253402300799)
#define DURATION_MAX_US (366 * S_PER_DAY * US_PER_S)

static int64_t clock_us(clockid_t id)
{
    struct timespec now;

    ENSURE(clock_gettime(id, &now) == 0);
    return (int64_t)now.tv_sec * US_PER_S + now.tv_nsec / 1000;
}

struct mono_us clock_mono(void)
{
    return (struct mono_us){clock_us(CLOCK_MONOTONIC)};
}

struct wall_us clock_wall(void)
{
    return (struct wall_us){clock_us(CLOCK_REALTIME)};
}

void db_clock_sample(struct db_clock *clock, struct wall_us db_now, struct mono_us at)
{
    clock->offset_us = db_now.us - at.us;
    clock->sampled = true;
}

struct wall_us db_clock_now(const struct db_clock *clock)
{
    if (!clock->sampled)
        return clock_wall();
    return (struct wall_us){clock_mono().us + clock->offset_us};
}

/* Exactly so many digits; `n` has no more. */
static char *put_digits(char *to, int n, int digits)
{
    for (int i = digits; i-- > 0; n /= 10)
        to[i] = (char)('0' + n % 10);
    return to + digits;
}

void wall_format(struct wall_us t, char ret[WALL_TEXT_SIZE])
{
    int64_t seconds = civil_floor_div(t.us, US_PER_S);
    int ms = (int)((t.us % US_PER_S + (t.us % US_PER_S < 0 ? US_PER_S : 0)) / US_PER_MS);
    int64_t days;
    int year, month, day, second;
    char *to = ret;

    if (seconds < WALL_MIN_S) {
        seconds = WALL_MIN_S;
        ms = 0;
    } else if (seconds > WALL_MAX_S) {
        seconds = WALL_MAX_S;
        ms = 999;
    }
    days = civil_floor_div(seconds, S_PER_DAY);
    second = (int)(seconds - days * S_PER_DAY);
    civil_date(days, &year, &month, &day);
    /* 2026-11-22T03:15:53.000Z */
    const struct {
        int n, digits;
        char behind;
    } parts[] = {
        {year, 4, '-'},        {month, 2, '-'}, {day, 2, 'T'}, {second / 3600, 2, ':'}, {second / 60 % 60, 2, ':'},
        {second % 60, 2, '.'}, {ms, 3, 'Z'}};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        to = put_digits(to, parts[i].n, parts[i].digits);
        *to++ = parts[i].behind;
    }
    *to = '\0';
}

/* Takes exactly `digits` digits off *s. */
static bool take_digits(struct str *s, size_t digits, int *ret)
{
    uint32_t n;

    if (s->len < digits || !parse_u32((struct str){s->ptr, digits}, 0, 9999, &n))
        return false;
    s->ptr += digits;
    s->len -= digits;
    *ret = (int)n;
    return true;
}

static bool take_char(struct str *s, char c)
{
    if (s->len == 0 || s->ptr[0] != c)
        return false;
    s->ptr++;
    s->len--;
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

static bool take_date(struct str *s, int64_t *ret_days)
{
    int year, month, day;

    if (!take_digits(s, 4, &year) || !take_char(s, '-') || !take_digits(s, 2, &month) || !take_char(s, '-') ||
        !take_digits(s, 2, &day))
        return false;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
        return false;
    *ret_days = civil_days(year, month, day);
    return true;
}

/* The fraction behind the point in microseconds; what is finer is cut off. */
static bool take_fraction(struct str *s, int64_t *ret_us)
{
    int64_t us = 0;
    size_t digits = 0;

    for (; digits < s->len && s->ptr[digits] >= '0' && s->ptr[digits] <= '9'; digits++) {
        if (digits < 6)
            us = us * 10 + (s->ptr[digits] - '0');
    }
    if (digits < 1 || digits > 9)
        return false;
    for (size_t i = digits; i < 6; i++)
        us *= 10;
    s->ptr += digits;
    s->len -= digits;
    *ret_us = us;
    return true;
}

static bool take_offset(struct str *s, int64_t *ret_s)
{
    bool west;
    int hours, minutes;

    if (take_char(s, 'Z') || take_char(s, 'z')) {
        *ret_s = 0;
        return true;
    }
    west = take_char(s, '-');
    if (!west && !take_char(s, '+'))
        return false;
    if (!take_digits(s, 2, &hours) || !take_char(s, ':') || !take_digits(s, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_s = (west ? -1 : 1) * (hours * INT64_C(3600) + minutes * INT64_C(60));
    return true;
}

bool wall_parse(struct str s, struct wall_us *ret)
{
    int64_t days, seconds, offset;
    int64_t us = 0;
    int hour, minute, second;

    if (!take_date(&s, &days) || !(take_char(&s, 'T') || take_char(&s, 't')))
        return false;
    if (!take_digits(&s, 2, &hour) || !take_char(&s, ':') || !take_digits(&s, 2, &minute) || !take_char(&s, ':') ||
        !take_digits(&s, 2, &second))
        return false;
    if (take_char(&s, '.') && !take_fraction(&s, &us))
        return false;
    if (!take_offset(&s, &offset) || s.len > 0 || hour > 23 || minute > 59 || second > 60)
        return false;
    seconds = days * S_PER_DAY + hour * INT64_C(3600) + minute * INT64_C(60) + second - offset;
    /* A leap second ends a UTC day (RFC 3339, 5.7) and is the next day's first to us, as it is to POSIX. */
    if (second == 60 && civil_floor_div(seconds, S_PER_DAY) * S_PER_DAY != seconds)
        return false;
    if (seconds < WALL_MIN_S || seconds > WALL_MAX_S)
        return false;
    *ret = (struct wall_us){seconds * US_PER_S + us};
    return true;
}

void jw_wall(struct buf *buf, struct wall_us t)
{
    char text[WALL_TEXT_SIZE];

    if (t.us == 0) {
        buf_append_str(buf, STR("null"));
        return;
    }
    wall_format(t, text);
    buf_append_char(buf, '"');
    buf_append(buf, text, strlen(text));
    buf_append_char(buf, '"');
}

bool duration_parse(struct str s, int64_t *ret_us)
{
    static const struct {
        struct str unit;
        int64_t us;
    } units[] = {
        {{"ms", 2}, US_PER_MS},           {{"s", 1}, US_PER_S}, {{"m", 1}, 60 * US_PER_S}, {{"h", 1}, 3600 * US_PER_S},
        {{"d", 1}, S_PER_DAY * US_PER_S},
    };
    struct str unit;
    size_t digits = 0;

    while (digits < s.len && s.ptr[digits] >= '0' && s.ptr[digits] <= '9')
        digits++;
    if (digits == 0)
        return false;
    unit = (struct str){s.ptr + digits, s.len - digits};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        int64_t n;

        if (!str_eq(unit, units[i].unit))
            continue;
        if (!parse_i64((struct str){s.ptr, digits}, 0, DURATION_MAX_US / units[i].us, &n))
            return false;
        *ret_us = n * units[i].us;
        return true;
    }
    return false;
}
