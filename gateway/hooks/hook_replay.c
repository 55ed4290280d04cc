/* Has the delivery been taken before? The unique entry in the transaction that starts the run decides; here what Redis
 * knows already is refused early, so that it costs no transaction. Redis only ever refuses, and only what has been
 * committed: empty, stale or away it changes nothing. A place under the rate limit it costs in no case: what has taken
 * one leaves it, and what finds none is looked for before it is told so. */
#include "common/io/cache.h"
#include "gateway/hooks/hook.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

static struct str key_of(const struct hook *hook)
{
    return str_of(arena_printf(hook->call->arena, "rw:delivery:%d/" STR_FMT "/" STR_FMT "/" STR_FMT,
                               (int)hook->start.organisation, STR_ARG(hook->start.workflow),
                               STR_ARG(hook->trigger->name), STR_ARG(hook_nonce(hook))));
}

void hook_replayed(struct hook *hook, void (*taken_all_the_same)(struct hook *hook))
{
    if (hook->again == NULL && hook_passes(hook, HOOK_REPLAY, "replayed")) {
        hook->replay_passed = true;
        taken_all_the_same(hook);
        return;
    }
    hook_leave_place(hook);
    hook_refuse(hook, "replay", "replayed", 409, "replayed", "this delivery has been taken before");
}

static void on_row(void *ctx, const struct pg_outcome *outcome)
{
    struct hook *hook = ctx;

    hook->found(hook, outcome->rc == ERR_OK && pg_rows(outcome->results[0]) > 0);
}

void hook_look_for_nonce(struct hook *hook, void (*found)(struct hook *hook, bool known))
{
    struct pg_batch *batch;

    if (hook_nonce(hook).ptr == NULL) {
        found(hook, false);
        return;
    }
    hook->found = found;
    batch = pg_batch_new(false);
    pg_batch_organisation(batch, hook->start.organisation);
    pg_add(batch, SQL_DELIVERY_NONCE_KNOWN, pg_text(hook_scope(hook)), pg_text(hook_nonce(hook)));
    pg_submit(gateway_read(hook->call->gw), batch, on_row, hook);
}

static void on_cached(void *ctx, enum cache_status status, struct str value)
{
    struct hook *hook = ctx;

    (void)value;
    if (status == CACHE_OK)
        hook_replayed(hook, hook->unseen);
    else
        hook->unseen(hook);
}

void hook_check_replay(struct hook *hook, void (*done)(struct hook *hook))
{
    struct cache *cache = hook->call->gw->cache;

    hook->unseen = done;
    if (hook_nonce(hook).ptr == NULL || cache == NULL || !cache_is_up(cache))
        done(hook);
    else
        cache_command(cache, on_cached, hook, 2, (const struct str[]){STR("GET"), key_of(hook)});
}

void hook_remember(const struct hook *hook)
{
    struct cache *cache = hook->call->gw->cache;
    char seconds[24];

    if (cache == NULL || !cache_is_up(cache) || hook->delivery.nonce.ptr == NULL || hook->again != NULL)
        return;
    /* shorter than the entry lives, so that Redis never refuses what PostgreSQL would take */
    snprintf(seconds, sizeof(seconds), "%d", (int)hook->delivery.kept_s - 1);
    cache_command(cache, NULL, NULL, 5,
                  (const struct str[]){STR("SET"), key_of(hook), STR("1"), STR("EX"), str_of(seconds)});
}
