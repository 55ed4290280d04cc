/* Triggers of documents, read; what is due of them. */
#include "common/base/id.h"
#include "common/base/json_text.h"
#include "common/base/map.h"
#include "common/schedule/definition.h"

#include "common/base/banned.h"

/* A whole minute of times a second apart, and those that are made good. */
#define TURN_TIMES_MAX (70 + SCHEDULE_CATCH_UP_MAX)

struct zones {
    const char *folder;
    struct map *by_name;
};

struct zones *zones_new(const char *folder)
{
    struct zones *zones = mem_alloc(sizeof(*zones));

    *zones = (struct zones){folder, map_new()};
    return zones;
}

void zones_free(struct zones *zones)
{
    struct str name;
    void *zone;

    if (zones == NULL)
        return;
    for (size_t at = 0; map_next(zones->by_name, &at, &name, &zone);)
        zone_free(zone);
    map_free(zones->by_name);
    mem_free(zones);
}

enum err_code zones_get(struct zones *zones, struct str name, const struct zone **ret, struct err *err)
{
    struct zone *zone = map_get(zones->by_name, name);
    enum err_code rc;

    if (zone == NULL) {
        rc = zone_load(zones->folder, name, &zone, err);
        if (rc != ERR_OK)
            return rc;
        (void)map_put(zones->by_name, name, zone);
    }
    *ret = zone;
    return ERR_OK;
}

struct reading {
    struct arena *arena;
    struct zones *zones;
    schedule_fault_fn fault;
    void *ctx;
    const char *kind;
    struct str object; /* with the options; STR_NONE when there is only the text */
    struct schedule_definition *to;
    bool good;
};

static void fault_at(struct reading *r, const char *code, const char *field, const char *message, const char *hint)
{
    r->good = false;
    r->fault(r->ctx, code,
             arena_printf(r->arena, "/%s%s%s", r->kind, field == NULL ? "" : "/", field == NULL ? "" : field), message,
             hint);
}

/* The kind's own field, or the text that stands for it. *ret_field is NULL for the latter. */
static bool main_text(struct reading *r, struct str value, const char *field, struct str *ret, const char **ret_field)
{
    *ret_field = jt_type(value) == JT_OBJECT ? field : NULL;
    if (jt_type(value) == JT_OBJECT)
        value = jt_get(value, field);
    if (jt_string(value, r->arena, ret))
        return true;
    fault_at(r, value.ptr == NULL ? "missing_field" : "wrong_type", *ret_field,
             value.ptr == NULL ? "is missing" : "must be text", NULL);
    return false;
}

/* One of the words, separated by blanks; the first where there is none. */
static int word(struct reading *r, const char *field, const char *words)
{
    struct str value = jt_get(r->object, field), text, rest = str_of(words);

    if (value.ptr == NULL)
        return 0;
    if (jt_string(value, r->arena, &text))
        for (int i = 0; rest.ptr != NULL; i++)
            if (str_eq(str_cut(&rest, ' '), text))
                return i;
    fault_at(r, jt_type(value) == JT_STRING ? "out_of_range" : "wrong_type", field, "is none of the words there are",
             arena_printf(r->arena, "one of: %s", words));
    return 0;
}

static void read_cron(struct reading *r, struct str value)
{
    struct str text, zone = STR("UTC"), named = jt_get(r->object, "timezone");
    struct cron_fault bad;
    const char *field;
    struct err err;

    r->to->when.kind = SCHEDULE_CRON;
    if (main_text(r, value, "expression", &text, &field) && !cron_parse(text, &r->to->when.cron, &bad))
        fault_at(r, bad.code, field, arena_printf(r->arena, "%s", bad.message), bad.hint);
    if (named.ptr != NULL && !jt_string(named, r->arena, &zone))
        fault_at(r, "wrong_type", "timezone", "must be text", NULL);
    else if (zones_get(r->zones, zone, &r->to->when.zone, &err) != ERR_OK)
        fault_at(r, err.code == ERR_NOT_FOUND ? "out_of_range" : "not_available", "timezone",
                 arena_printf(r->arena, "%s", err.message), "a name of the IANA data base, such as Europe/Berlin");
    r->to->when.gap_skip = word(r, "dst_gap", "next skip") == 1;
    r->to->when.overlap_twice = word(r, "dst_overlap", "once twice") == 1;
}

static void read_every(struct reading *r, struct str value, struct wall_us anchor)
{
    struct str text;
    const char *field;

    r->to->when.kind = SCHEDULE_EVERY;
    r->to->when.from = anchor;
    r->to->when.every_us = US_PER_S;
    if (!main_text(r, value, "interval", &text, &field))
        return;
    if (!duration_parse(text, &r->to->when.every_us))
        fault_at(r, "bad_duration", field, "is no duration", "30s, 5m, 2h, 1d; at most 366 days");
    else if (r->to->when.every_us < US_PER_S)
        fault_at(r, "out_of_range", field, "must be a second or more", NULL);
}

static void read_at(struct reading *r, struct str value)
{
    struct str text;
    const char *field;

    r->to->when.kind = SCHEDULE_AT;
    if (main_text(r, value, "time", &text, &field) && !wall_parse(text, &r->to->when.at))
        fault_at(r, "out_of_range", field, "is no time", "RFC 3339 with Z or an offset: 2026-12-24T17:00:00+01:00");
}

static void read_options(struct reading *r, const char *fields)
{
    struct str jitter = jt_get(r->object, "jitter"), catch_up = jt_get(r->object, "catch_up"), text;
    int64_t count = 1;
    struct jt_iter it;

    jt_iter_init(&it, r->object);
    while (jt_next(&it)) {
        struct str key = jt_key(&it, r->arena), rest = str_of(fields);
        bool known = false;

        while (rest.ptr != NULL && !known)
            known = str_eq(str_cut(&rest, ' '), key);
        if (!known)
            fault_at(r, "unknown_field", arena_printf(r->arena, STR_FMT, STR_ARG(key)), "is no field of this",
                     arena_printf(r->arena, "the fields are: %s", fields));
    }
    r->to->overlap = (enum schedule_overlap)word(r, "overlap", "allow skip cancel_previous queue");
    if (catch_up.ptr != NULL && (!jt_i64(catch_up, &count) || count < 0 || count > SCHEDULE_CATCH_UP_MAX))
        fault_at(r, "out_of_range", "catch_up", "must be a whole number from 0 to 100", NULL);
    r->to->catch_up = (int)count;
    if (jitter.ptr == NULL)
        return;
    if (!jt_string(jitter, r->arena, &text) || !duration_parse(text, &r->to->jitter_us))
        fault_at(r, "bad_duration", "jitter", "is no duration", "30s, 5m, 1h");
    else if (r->to->jitter_us > INT64_C(86400) * US_PER_S)
        fault_at(r, "out_of_range", "jitter", "must be a day or less", NULL);
}

static const char *const kinds[] = {"cron", "every", "at"};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

const char *schedule_kind(struct str trigger)
{
    for (size_t i = 0; i < KINDS; i++)
        if (jt_get(trigger, kinds[i]).ptr != NULL)
            return kinds[i];
    return NULL;
}

bool schedule_is_trigger(struct str trigger)
{
    return schedule_kind(trigger) != NULL;
}

bool schedule_definition_read(struct str trigger, struct zones *zones, struct wall_us anchor, schedule_fault_fn fault,
                              void *ctx, struct schedule_definition *ret)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct reading r = {.arena = arena, .zones = zones, .fault = fault, .ctx = ctx, .to = ret, .good = true};
    struct str value;

    *ret = (struct schedule_definition){.kind = schedule_kind(trigger), .catch_up = 1};
    if (ret->kind == NULL) {
        fault(ctx, "missing_field", "", "says neither cron, every nor at", NULL);
        return false;
    }
    r.kind = ret->kind;
    value = jt_get(trigger, ret->kind);
    r.object = jt_type(value) == JT_OBJECT ? value : STR_NONE;
    if (strcmp(ret->kind, "cron") == 0)
        read_cron(&r, value);
    else if (strcmp(ret->kind, "every") == 0)
        read_every(&r, value, anchor);
    else
        read_at(&r, value);
    read_options(&r, strcmp(ret->kind, "cron") == 0 ? "expression timezone dst_gap dst_overlap overlap catch_up jitter"
                     : strcmp(ret->kind, "every") == 0 ? "interval overlap catch_up jitter"
                                                       : "time overlap catch_up jitter");
    return r.good;
}

struct wall_us schedule_due(const struct schedule_definition *definition, struct str id, struct wall_us nominal)
{
    CLEANUP(buf_deinit) struct buf text = {0};
    uint8_t hash[32];
    uint64_t n = 0;

    if (definition->jitter_us == 0)
        return nominal;
    buf_init(&text, 256);
    buf_printf(&text, STR_FMT "/%lld", STR_ARG(id), (long long)nominal.us);
    sha256(buf_str(&text), hash);
    for (size_t i = 0; i < 8; i++)
        n = n << 8 | hash[i];
    return (struct wall_us){nominal.us + (int64_t)(n % (uint64_t)definition->jitter_us)};
}

void schedule_turn(const struct schedule_definition *definition, struct wall_us after, struct wall_us now,
                   struct arena *arena, size_t max, struct schedule_turn *ret)
{
    const struct schedule *when = &definition->when;
    struct wall_us late = {now.us - SCHEDULE_LATE_US - definition->jitter_us}, t;
    bool more;

    *ret = (struct schedule_turn){.times = arena_array(arena, TURN_TIMES_MAX, sizeof(*ret->times)), .after = after};
    if (after.us < late.us) {
        ret->count = schedule_latest(when, after, late, (size_t)definition->catch_up, ret->times, &more);
        after = late;
    }
    for (; ret->count < TURN_TIMES_MAX && schedule_next(when, after, &t) && t.us <= now.us; after = t)
        ret->times[ret->count++] = t;
    if (ret->count > max)
        ret->count = max;
    if (ret->count > 0)
        ret->after = ret->times[ret->count - 1];
    else if (after.us > ret->after.us)
        ret->after = after;
    if (!schedule_next(when, ret->after, &ret->next))
        ret->next = (struct wall_us){0};
}
