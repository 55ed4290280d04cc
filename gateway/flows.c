/* The cache of workflow versions. */
#include "gateway/flows.h"
#include "common/base/ensure.h"
#include "common/base/map.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define FLOWS_MAX 2000

/* Whatever was saved may run: limits were for the save. */
static const struct plan_limits any_size = {UINT32_MAX, UINT32_MAX, INT64_MAX, UINT32_MAX};

struct flows {
    struct gateway *gw;
    struct map *versions; /* "organisation/name/version" -> struct flow */
    struct map *newest;   /* "organisation/name" -> version as a pointer */
    uint64_t clock;
};

struct question {
    struct flows *flows;
    int32_t organisation;
    char *name;
    int32_t version; /* 0: the newest */
    flow_fn done;
    void *ctx;
};

struct flows *flows_new(struct gateway *gw)
{
    struct flows *flows = mem_alloc(sizeof(*flows));

    flows->gw = gw;
    flows->versions = map_new();
    flows->newest = map_new();
    return flows;
}

static void flow_free(struct flow *flow)
{
    plan_unref(flow->plan);
    arena_free(flow->arena);
}

void flows_free(struct flows *flows)
{
    struct str key;
    size_t pos = 0;
    void *value;

    if (flows == NULL)
        return;
    while (map_next(flows->versions, &pos, &key, &value))
        flow_free(value);
    map_free(flows->versions);
    map_free(flows->newest);
    mem_free(flows);
}

#define KEY_SIZE 128
static struct str key_of(char ret[KEY_SIZE], int32_t organisation, struct str name, int32_t version)
{
    int n = snprintf(ret, KEY_SIZE, version == 0 ? "%d/" STR_FMT : "%d/" STR_FMT "/%d", (int)organisation,
                     STR_ARG(name), (int)version);

    return (struct str){ret, n < KEY_SIZE ? (size_t)n : KEY_SIZE - 1};
}

static struct flow *find(struct flows *flows, int32_t organisation, struct str name, int32_t version)
{
    char key[KEY_SIZE];
    struct flow *flow = map_get(flows->versions, key_of(key, organisation, name, version));

    if (flow != NULL)
        flow->used = ++flows->clock;
    return flow;
}

static void evict_oldest(struct flows *flows)
{
    struct flow *oldest = NULL;
    char text[KEY_SIZE];
    struct str key;
    size_t pos = 0;
    void *value;

    while (map_next(flows->versions, &pos, &key, &value)) {
        struct flow *flow = value;

        if (oldest == NULL || flow->used < oldest->used)
            oldest = flow;
    }
    ENSURE(oldest != NULL);
    map_del(flows->versions, key_of(text, oldest->organisation, oldest->name, oldest->version));
    map_del(flows->newest, key_of(text, oldest->organisation, oldest->name, 0));
    flow_free(oldest);
}

static void note_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    struct flow *flow = ctx;

    (void)hint;
    if (flow->fault[0] == '\0')
        snprintf(flow->fault, sizeof(flow->fault), "%s at " STR_FMT ": %s", code, STR_ARG(pointer), message);
}

static struct flow *compile(struct flows *flows, const struct question *q, int32_t version, struct str text)
{
    struct arena *arena = arena_new(4096);
    struct flow *flow = arena_alloc(arena, sizeof(*flow));
    struct schema_options options = {.name = "input_schema"};
    struct plan_faults faults = {.arena = arena};
    char key[KEY_SIZE];
    struct str schema;

    *flow = (struct flow){.organisation = q->organisation, .version = version, .arena = arena, .used = ++flows->clock};
    flow->name = str_arena(arena, str_of(q->name));
    flow->plan = plan_compile(text, &any_size, &faults);
    if (faults.count > 0)
        note_fault(flow, faults.items[0].code, faults.items[0].pointer,
                   arena_printf(arena, STR_FMT, STR_ARG(faults.items[0].message)), "");
    schema = jt_get(text, "input_schema");
    if (jt_type(schema) != JT_NONE)
        flow->input_schema = schema_compile(arena, str_arena(arena, schema), &options, note_fault, flow);
    if (map_len(flows->versions) >= FLOWS_MAX)
        evict_oldest(flows);
    struct flow *old = map_put(flows->versions, key_of(key, flow->organisation, flow->name, version), flow);

    if (old != NULL)
        flow_free(old);
    return flow;
}

static void answer(struct question *q, struct flow *flow, enum err_code rc, const struct err *err)
{
    q->done(q->ctx, flow, rc, err);
    mem_free(q->name);
    mem_free(q);
}

static void on_read(void *ctx, const struct pg_outcome *outcome)
{
    struct question *q = ctx;
    struct flows *flows = q->flows;
    struct flow *flow = NULL;
    char key[KEY_SIZE];

    if (outcome->rc == ERR_OK && pg_rows(outcome->results[0]) == 1) {
        const struct pg_result *rows = outcome->results[0];
        int32_t version = q->version == 0 ? (int32_t)pg_get_int(rows, 0, 0) : q->version;

        flow = find(flows, q->organisation, str_of(q->name), version);
        if (flow == NULL)
            flow = compile(flows, q, version, pg_get_str(rows, 0, q->version == 0 ? 2 : 0));
        if (q->version == 0)
            map_put(flows->newest, key_of(key, q->organisation, str_of(q->name), 0), (void *)(intptr_t)version);
    } else if (outcome->rc == ERR_OK && q->version == 0) {
        map_del(flows->newest, key_of(key, q->organisation, str_of(q->name), 0));
    }
    answer(q, flow, outcome->rc, outcome->err);
}

static void ask(struct flows *flows, int32_t organisation, struct str name, int32_t version, flow_fn done, void *ctx)
{
    struct question *q = mem_alloc(sizeof(*q));
    struct pg_batch *batch = pg_batch_new(false);

    *q = (struct question){flows, organisation, mem_dup(name.ptr, name.len), version, done, ctx};
    pg_batch_organisation(batch, organisation);
    if (version == 0)
        pg_add(batch, SQL_WORKFLOW_CURRENT, pg_text(name));
    else
        pg_add(batch, SQL_WORKFLOW_VERSION, pg_text(name), pg_i32(version));
    pg_submit(gateway_read(flows->gw), batch, on_read, q);
}

void flows_version(struct flows *flows, int32_t organisation, struct str name, int32_t version, flow_fn done, void *ctx)
{
    struct flow *flow = find(flows, organisation, name, version);

    ENSURE(version > 0);
    if (flow != NULL)
        done(ctx, flow, ERR_OK, NULL);
    else
        ask(flows, organisation, name, version, done, ctx);
}

void flows_newest(struct flows *flows, int32_t organisation, struct str name, bool fresh, flow_fn done, void *ctx)
{
    char key[KEY_SIZE];
    void *known = fresh ? NULL : map_get(flows->newest, key_of(key, organisation, name, 0));
    struct flow *flow = known == NULL ? NULL : find(flows, organisation, name, (int32_t)(intptr_t)known);

    if (flow != NULL)
        done(ctx, flow, ERR_OK, NULL);
    else
        ask(flows, organisation, name, 0, done, ctx);
}
