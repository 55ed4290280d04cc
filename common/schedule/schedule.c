/* Nominal times. A cron expression is walked through the spans of one UTC offset: within one, local time and elapsed
 * time are the same, and only at its beginning it matters how the clocks were set. */
#include "common/base/civil.h"
#include "common/base/ensure.h"
#include "common/schedule/schedule.h"

#include "common/base/banned.h"

#define LAST_S INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define FIRST_WINDOW_US (60 * US_PER_S)

/* The offset before a span; its own where nothing is before it. */
static int32_t offset_before(const struct zone *zone, const struct zone_span *span)
{
    return span->from == INT64_MIN ? span->offset : zone_span_at(zone, span->from - 1).offset;
}

/* The first time >= from within the span; false when there is none. */
static bool next_in_span(const struct schedule *s, const struct zone_span *span, int64_t from, int64_t *ret)
{
    int32_t before = offset_before(s->zone, span);
    int64_t until = span->until > LAST_S ? LAST_S + 1 : span->until;
    int64_t local = from + span->offset, found;

    if (!s->cron.elapsed && from == span->from && span->offset > before && !s->gap_skip &&
        cron_next_local(&s->cron, from + before, from + span->offset, &found)) {
        *ret = from; /* the clocks jumped over it */
        return true;
    }
    if (!s->cron.elapsed && !s->overlap_twice && span->offset < before && local < span->from + before)
        local = span->from + before; /* until then it is the second pass */
    if (!cron_next_local(&s->cron, local, until + span->offset, &found))
        return false;
    *ret = found - span->offset;
    return true;
}

static bool next_cron(const struct schedule *s, int64_t from, int64_t *ret)
{
    while (from <= LAST_S) {
        struct zone_span span = zone_span_at(s->zone, from);

        if (next_in_span(s, &span, from, ret))
            return true;
        from = span.until;
    }
    return false;
}

bool schedule_next(const struct schedule *s, struct wall_us after, struct wall_us *ret)
{
    int64_t seconds;

    switch (s->kind) {
    case SCHEDULE_CRON:
        if (!next_cron(s, civil_floor_div(after.us, US_PER_S) + 1, &seconds))
            return false;
        ret->us = seconds * US_PER_S;
        return true;
    case SCHEDULE_EVERY: {
        int64_t count = after.us < s->from.us ? 0 : (after.us - s->from.us) / s->every_us;

        ENSURE(s->every_us > 0);
        if ((LAST_S * US_PER_S - s->from.us) / s->every_us <= count)
            return false;
        ret->us = s->from.us + (count + 1) * s->every_us;
        return true;
    }
    case SCHEDULE_AT:
        *ret = s->at;
        return s->at.us > after.us;
    }
    return false;
}

/* All times in (after, until], as far as there is room; true when there are no more. */
static bool collect(const struct schedule *s, struct wall_us after, struct wall_us until, size_t max,
                    struct wall_us *ret, size_t *ret_count)
{
    struct wall_us next;

    for (*ret_count = 0; schedule_next(s, after, &next) && next.us <= until.us; after = next) {
        if (*ret_count < max) {
            ret[(*ret_count)++] = next;
            continue;
        }
        memmove(ret, ret + 1, (max - 1) * sizeof(*ret));
        ret[max - 1] = next;
        for (after = next; schedule_next(s, after, &next) && next.us <= until.us; after = next) {
            memmove(ret, ret + 1, (max - 1) * sizeof(*ret));
            ret[max - 1] = next;
        }
        return false;
    }
    return true;
}

size_t schedule_latest(const struct schedule *s, struct wall_us after, struct wall_us until, size_t max,
                       struct wall_us *ret, bool *ret_more)
{
    int64_t window = FIRST_WINDOW_US;
    size_t count = 0;
    struct wall_us next;

    *ret_more = false;
    if (max == 0) {
        *ret_more = schedule_next(s, after, &next) && next.us <= until.us;
        return 0;
    }
    for (;; window *= 2) {
        bool whole = until.us - after.us <= window;
        struct wall_us from = {whole ? after.us : until.us - window};
        bool all = collect(s, from, until, max, ret, &count);

        if (count < max && !whole)
            continue;
        *ret_more = !all || (!whole && schedule_next(s, after, &next) && next.us < ret[0].us);
        return count;
    }
}

enum schedule_mark schedule_mark(const struct schedule *s, struct wall_us nominal)
{
    int64_t t = nominal.us / US_PER_S, local;
    struct zone_span span;
    int32_t before, after;

    if (s->kind != SCHEDULE_CRON)
        return SCHEDULE_PLAIN;
    span = zone_span_at(s->zone, t);
    before = offset_before(s->zone, &span);
    if (t == span.from && span.offset > before &&
        (s->cron.elapsed || !cron_next_local(&s->cron, t + span.offset, t + span.offset + 1, &local)))
        return s->cron.elapsed ? SCHEDULE_PLAIN : SCHEDULE_AFTER_GAP;
    if (span.offset < before && t + span.offset < span.from + before)
        return SCHEDULE_SECOND_PASS;
    if (span.until == INT64_MAX)
        return SCHEDULE_PLAIN;
    after = zone_span_at(s->zone, span.until).offset;
    return after < span.offset && t >= span.until - (span.offset - after) ? SCHEDULE_FIRST_PASS : SCHEDULE_PLAIN;
}

void schedule_local(const struct schedule *s, struct wall_us t, char ret[SCHEDULE_LOCAL_SIZE])
{
    int64_t seconds = civil_floor_div(t.us, US_PER_S), local, days;
    int32_t offset = s->kind == SCHEDULE_CRON ? zone_span_at(s->zone, seconds).offset : 0;
    int year, month, day, second;
    char text[96];

    local = seconds + offset;
    days = civil_floor_div(local, S_PER_DAY);
    second = (int)(local - days * S_PER_DAY);
    civil_date(days, &year, &month, &day);
    snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d%c%02d:%02d", year, month, day, second / 3600,
             second / 60 % 60, second % 60, offset < 0 ? '-' : '+', (offset < 0 ? -offset : offset) / 3600,
             (offset < 0 ? -offset : offset) / 60 % 60);
    memcpy(ret, text, SCHEDULE_LOCAL_SIZE - 1);
    ret[SCHEDULE_LOCAL_SIZE - 1] = '\0';
}
