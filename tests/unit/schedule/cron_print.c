/* For check_peers. Reads lines "zone<TAB>expression<TAB>after<TAB>n" (seconds since 1970) and answers each with the
 * next n times, separated by blanks. An empty expression asks for the times at which the clocks are set, as
 * time:offset. */
#include "common/schedule/schedule.h"
#include <stdlib.h>

#include "common/base/banned.h"

static void print_changes(const struct zone *zone, int64_t after, int64_t until)
{
    struct zone_span span = zone_span_at(zone, after);

    while (span.until < until) {
        span = zone_span_at(zone, span.until);
        printf("%lld:%d ", (long long)span.from, span.offset);
    }
}

static int print_times(const struct zone *zone, struct str expression, int64_t after, int64_t count)
{
    struct schedule schedule = {.kind = SCHEDULE_CRON, .zone = zone};
    struct wall_us t = {after * US_PER_S};
    struct cron_fault fault;

    if (!cron_parse(expression, &schedule.cron, &fault)) {
        fprintf(stderr, STR_FMT ": %s\n", STR_ARG(expression), fault.message);
        return 1;
    }
    while (count-- > 0 && schedule_next(&schedule, t, &t))
        printf("%lld ", (long long)(t.us / US_PER_S));
    return 0;
}

int main(void)
{
    char line[512];

    while (fgets(line, sizeof(line), stdin) != NULL) {
        struct str rest = str_trim(str_of(line)), name = str_cut(&rest, '\t'), expression = str_cut(&rest, '\t');
        struct str from = str_cut(&rest, '\t');
        struct zone *zone = NULL;
        int64_t after, count;
        struct err err;

        if (!parse_i64(from, 0, INT64_MAX, &after) || !parse_i64(rest, 0, INT64_MAX, &count)) {
            fprintf(stderr, "zone, expression, after and n are wanted\n");
            return 2;
        }
        if (zone_load(ZONEINFO_FOLDER, name, &zone, &err) != ERR_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        if (expression.len == 0)
            print_changes(zone, after, count);
        else if (print_times(zone, expression, after, count) != 0)
            return 1;
        zone_free(zone);
        printf("\n");
    }
    return 0;
}
