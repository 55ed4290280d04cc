/* Any JSON as a trigger that time sets off: it is refused with a reason, or what it makes of an hour, and what is
 * decided about it, keeps the rules. */
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include "scheduler/core/fire.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW_US (INT64_C(1767225600) * US_PER_S)

static void count_fault(void *ctx, const char *code, const char *pointer, const char *message, const char *hint)
{
    size_t *count = ctx;

    (void)hint;
    ENSURE(code != NULL && message[0] != '\0' && (pointer[0] == '\0' || pointer[0] == '/'));
    ++*count;
}

static void ignore(void *ctx, const char *code, const char *pointer, const char *message, const char *hint)
{
    (void)ctx, (void)code, (void)pointer, (void)message, (void)hint;
}

static struct run_id make_run(void *ctx, unsigned slot)
{
    (void)ctx;
    return run_id_make((struct wall_us){NOW_US}, slot);
}

static void decide(struct str definition, struct zones *zones, int32_t waiting, bool busy)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct fire_row row = {
        .id_text = STR("id"), .trigger = STR("t"), .definition = definition, .waiting = waiting, .busy = busy};
    struct fire fire;
    size_t starts = 0;

    row.anchor.us = row.after.us = NOW_US - 3600 * US_PER_S;
    row.due = row.after;
    row.now.us = NOW_US;
    row.oldest.us = waiting > 0 ? row.after.us : 0;
    fire_decide(&row, zones, make_run, NULL, ignore, arena, &fire);
    ENSURE(fire.readable && fire.count <= FIRE_TIMES_OF_ONE + 1 && fire.after.us >= row.after.us);
    ENSURE(fire.next.us == 0 || fire.next.us > fire.after.us);
    for (size_t i = 0; i < fire.count; i++) {
        ENSURE(fire.times[i].nominal.us <= NOW_US && fire.times[i].late_us >= 0);
        starts += fire.times[i].what == FIRE_RELEASE;
    }
    ENSURE(starts == (waiting > 0 && !busy ? 1 : 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    struct zones *zones;
    struct schedule_definition definition;
    size_t faults = 0;
    struct err err;

    if (jt_check(text, &JT_LIMITS_API, &err) != ERR_OK || jt_type(text) != JT_OBJECT)
        return 0;
    zones = zones_new(ZONEINFO_FOLDER);
    if (schedule_definition_read(text, zones, (struct wall_us){NOW_US}, count_fault, &faults, &definition)) {
        ENSURE(faults == 0);
        decide(text, zones, 0, false);
        decide(text, zones, 0, true);
        decide(text, zones, FIRE_WAITING_MAX, true);
        decide(text, zones, 1, false);
    } else {
        ENSURE(faults > 0);
    }
    zones_free(zones);
    return 0;
}
