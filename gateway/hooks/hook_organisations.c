/* Organisations by name, believed for seconds, as API keys are. */
#include "common/base/map.h"
#include "gateway/hooks/hook.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define BELIEVE_US (4 * US_PER_S)
#define ENTRIES_MAX 10000 /* names of strangers' guesses, too */

struct entry {
    int32_t organisation; /* 0: there is none of that name */
    struct limits limits;
    struct mono_us known_at;
};
static struct map *entries;

struct asking {
    struct hook *hook;
    struct str name;
    struct mono_us asked_at;
    hook_organisation_fn done;
};

static void forget_all(void)
{
    struct str key;
    size_t pos = 0;
    void *value;

    while (entries != NULL && map_next(entries, &pos, &key, &value))
        mem_free(value);
    map_free(entries);
    entries = map_new();
}

static void use(struct hook *hook, struct str name, const struct entry *entry, hook_organisation_fn done)
{
    struct caller *caller = &hook->call->caller;

    caller->organisation = entry->organisation;
    caller->limits = entry->limits;
    snprintf(caller->organisation_name, sizeof(caller->organisation_name), STR_FMT, STR_ARG(name));
    done(hook);
}

static void on_found(void *ctx, const struct pg_outcome *outcome)
{
    struct asking *asking = ctx;
    struct call *call = asking->hook->call;
    struct entry *entry;

    if (outcome->rc != ERR_OK) {
        call_error(call, outcome->err);
        return;
    }
    if (entries == NULL || map_len(entries) >= ENTRIES_MAX)
        forget_all();
    entry = mem_alloc(sizeof(*entry));
    entry->known_at = asking->asked_at;
    if (pg_rows(outcome->results[0]) == 1) {
        entry->organisation = (int32_t)pg_get_int(outcome->results[0], 0, 0);
        limits_of(&call->gw->config.limits, pg_get_str(outcome->results[0], 0, 1), &entry->limits);
    }
    mem_free(map_put(entries, asking->name, entry));
    use(asking->hook, asking->name, entry, asking->done);
}

void hook_find_organisation(struct hook *hook, struct str name, hook_organisation_fn done)
{
    struct entry *entry = entries == NULL ? NULL : map_get(entries, name);
    struct mono_us now = clock_mono();
    struct asking *asking;
    struct pg_batch *batch;

    if (entry != NULL && now.us - entry->known_at.us < BELIEVE_US) {
        use(hook, name, entry, done);
        return;
    }
    asking = arena_alloc(hook->call->arena, sizeof(*asking));
    *asking = (struct asking){hook, name, now, done};
    batch = pg_batch_new(false);
    pg_add(batch, SQL_ORGANISATION_FIND, pg_text(name));
    pg_submit(gateway_read(hook->call->gw), batch, on_found, asking);
}
