/* See retry_after.h. */
#include "common/io/retry_after.h"
#include <stdio.h>
#include <strings.h>

#include "common/base/banned.h"

#define RETRY_AFTER_MAX_MS (INT64_C(366) * 86400 * 1000)

static int month_of(struct str name)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (int i = 0; i < 12; i++)
        if (name.len == 3 && strncasecmp(names + 3 * i, name.ptr, 3) == 0)
            return i + 1;
    return 0;
}

static bool parse_clock(struct str text, uint32_t ret[3])
{
    for (int i = 0; i < 3; i++)
        if (!parse_u32(str_cut(&text, ':'), 0, i == 0 ? 23 : 60, &ret[i]))
            return false;
    return text.ptr == NULL;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994" (RFC 9110, 5.6.7). */
static bool parse_http_date(struct str text, struct wall_us *ret)
{
    struct str words[6] = {{0}};
    uint32_t day, year, hms[3];
    char rfc3339[40];
    int month;
    size_t count = 0;

    for (size_t i = 0; i < text.len && count < 6; count++) {
        size_t start;

        while (i < text.len && strchr(" ,-", text.ptr[i]) != NULL)
            i++;
        start = i;
        while (i < text.len && strchr(" ,-", text.ptr[i]) == NULL)
            i++;
        words[count] = (struct str){text.ptr + start, i - start};
    }
    if (count >= 5 && month_of(words[1]) != 0) { /* asctime: month before day, year last */
        struct str swap = words[1], clock = words[3];

        words[1] = words[2];
        words[2] = swap;
        words[3] = words[4];
        words[4] = clock;
    }
    month = month_of(words[2]);
    if (month == 0 || !parse_u32(words[1], 1, 31, &day) || !parse_u32(words[3], 0, 9999, &year) ||
        !parse_clock(words[4], hms))
        return false;
    if (year < 100) /* two digits: within 50 years either way */
        year += year < 70 ? 2000 : 1900;
    snprintf(rfc3339, sizeof(rfc3339), "%04u-%02d-%02uT%02u:%02u:%02uZ", year, month, day, hms[0], hms[1],
             hms[2] > 59 ? 59 : hms[2]);
    return wall_parse(str_of(rfc3339), ret);
}

int64_t http_retry_after_ms(struct str value, struct wall_us now)
{
    int64_t seconds, ms;
    struct wall_us at;

    value = str_trim(value);
    if (value.len == 0)
        return -1;
    if (parse_i64(value, 0, INT64_MAX / 1000, &seconds))
        ms = seconds * 1000;
    else if (parse_http_date(value, &at))
        ms = at.us <= now.us ? 0 : (at.us - now.us + US_PER_MS - 1) / US_PER_MS;
    else
        return -1;
    return ms > RETRY_AFTER_MAX_MS ? RETRY_AFTER_MAX_MS : ms;
}
