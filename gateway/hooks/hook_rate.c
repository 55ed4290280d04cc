/* The rate limit: a bucket of `limit` tokens that fills within `per`. One bucket in Redis is for all gateways; each
 * gateway has one of its own beside it, which decides alone while Redis is away, and before it is asked: what one
 * gateway took is among what all took, so an empty bucket here is never a full one there. A Redis that lost what it
 * knew hence lets no gateway take more than `limit` either. */
#include "common/base/map.h"
#include "common/io/cache.h"
#include "gateway/hooks/hook.h"

#include "common/base/banned.h"

#define BUCKETS_MAX 10000

/* KEYS[1]: the bucket, "TOKENS AT", AT in us of Redis's clock, the only one that all gateways share. ARGV: limit, per
 * in us. Takes a token and gives 0, or the us until there is one. Forgotten when it would be full again. */
static const char take_script[] =
    "local limit, per = tonumber(ARGV[1]), tonumber(ARGV[2])\n"
    "local time = redis.call('TIME')\n"
    "local now = time[1] * 1000000 + time[2]\n"
    "local tokens = limit\n"
    "local left, at = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%S+)$')\n"
    "if left then\n"
    "  tokens = math.min(limit, tonumber(left) + math.max(0, now - tonumber(at)) * limit / per)\n"
    "end\n"
    "if tokens < 1 then return math.max(1, math.ceil((1 - tokens) * per / limit)) end\n"
    "tokens = tokens - 1\n"
    "redis.call('SET', KEYS[1], string.format('%.17g %.0f', tokens, now), 'PX', math.ceil((limit - tokens) * per / "
    "limit "
    "/ 1000) + 1)\n"
    "return 0\n";

/* The same bucket and arguments: a token comes back. One that is forgotten is full. */
static const char give_script[] = "local left, at = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%S+)$')\n"
                                  "if left then\n"
                                  "  left = math.min(tonumber(ARGV[1]), tonumber(left) + 1)\n"
                                  "  redis.call('SET', KEYS[1], string.format('%.17g %s', left, at), 'KEEPTTL')\n"
                                  "end\n"
                                  "return 0\n";

struct bucket {
    double tokens;
    struct mono_us at;
};
static struct map *buckets; /* "organisation/workflow/trigger" */

static struct str name_of(const struct hook *hook)
{
    return str_of(
        arena_printf(hook->call->arena, "%d/" STR_FMT, (int)hook->start.organisation, STR_ARG(hook_scope(hook))));
}

static double per_us(const struct hook *hook)
{
    const struct plan_webhook *webhook = &hook->trigger->webhook;

    return (double)webhook->rate_limit / (double)webhook->rate_per_us;
}

/* The gateway's own, as full as it is now. */
static struct bucket *own_bucket(const struct hook *hook)
{
    struct str name = name_of(hook), other;
    double limit = (double)hook->trigger->webhook.rate_limit;
    struct mono_us now = clock_mono();
    struct bucket *bucket;
    size_t pos = 0;
    void *value;

    if (buckets == NULL)
        buckets = map_new();
    bucket = map_get(buckets, name);
    if (bucket == NULL) {
        if (map_len(buckets) >= BUCKETS_MAX && map_next(buckets, &pos, &other, &value)) {
            map_del(buckets, other);
            mem_free(value);
        }
        bucket = mem_alloc(sizeof(*bucket));
        *bucket = (struct bucket){limit, now};
        map_put(buckets, name, bucket);
    }
    bucket->tokens += (double)(now.us - bucket->at.us) * per_us(hook);
    if (bucket->tokens > limit)
        bucket->tokens = limit;
    bucket->at = now;
    return bucket;
}

/* One that was taken before is told that, and its sender does not come again. */
static void without_place(struct hook *hook, bool known)
{
    if (known && hook->trigger->webhook.modes[HOOK_REPLAY] == HOOK_ENFORCE) {
        hook_replayed(hook, hook->in_rate);
        return;
    }
    hook_refuse(hook, "rate_limit", "rate_limited", 429, "rate_limited",
                "too many requests to this webhook; send it again");
}

static void refuse(struct hook *hook, double wait_us)
{
    if (hook_passes(hook, HOOK_RATE_LIMIT, "rate_limited")) {
        hook->in_rate(hook);
        return;
    }
    hook->after_s = (int64_t)(wait_us / (double)US_PER_S) + 1;
    hook_look_for_nonce(hook, without_place);
}

static void on_shared(void *ctx, enum cache_status status, struct str value)
{
    struct hook *hook = ctx;
    int64_t wait_us = 0;

    if (status != CACHE_OK || !parse_i64(value, 0, INT64_MAX, &wait_us))
        metric_add(METRIC_HOOKS_RATE_ALONE, 1);
    if (wait_us == 0) {
        hook->has_shared_place = status == CACHE_OK;
        hook->in_rate(hook);
        return;
    }
    hook_leave_place(hook); /* it was not used */
    refuse(hook, (double)wait_us);
}

static void run_script(struct hook *hook, const char *script, cache_fn done)
{
    const struct plan_webhook *webhook = &hook->trigger->webhook;
    struct arena *arena = hook->call->arena;
    struct str key = str_of(arena_printf(arena, "rw:rate:" STR_FMT, STR_ARG(name_of(hook))));
    struct str limit = str_of(arena_printf(arena, "%lld", (long long)webhook->rate_limit));
    struct str per = str_of(arena_printf(arena, "%lld", (long long)webhook->rate_per_us));

    cache_command(hook->call->gw->cache, done, done == NULL ? NULL : hook, 6,
                  (const struct str[]){STR("EVAL"), str_of(script), STR("1"), key, limit, per});
}

void hook_leave_place(struct hook *hook)
{
    const struct cache *cache = hook->call->gw->cache;

    if (hook->has_place)
        own_bucket(hook)->tokens += 1; /* never more than `limit`: cut off when it is looked at */
    if (hook->has_shared_place && cache != NULL && cache_is_up(cache))
        run_script(hook, give_script, NULL);
    hook->has_place = hook->has_shared_place = false;
}

void hook_check_rate(struct hook *hook, void (*done)(struct hook *hook))
{
    const struct plan_webhook *webhook = &hook->trigger->webhook;
    const struct cache *cache = hook->call->gw->cache;
    struct bucket *bucket;

    hook->in_rate = done;
    if (webhook->rate_limit == 0 || webhook->modes[HOOK_RATE_LIMIT] == HOOK_OFF) {
        done(hook);
        return;
    }
    bucket = own_bucket(hook);
    if (bucket->tokens < 1) {
        refuse(hook, (1 - bucket->tokens) / per_us(hook));
        return;
    }
    bucket->tokens -= 1;
    hook->has_place = true;
    if (cache != NULL && cache_is_up(cache)) {
        run_script(hook, take_script, on_shared);
        return;
    }
    metric_add(METRIC_HOOKS_RATE_ALONE, cache != NULL ? 1 : 0);
    done(hook);
}
