/* Redis: strings with an expiry, which may be gone at any moment. */
#include "common/base/map.h"
#include "tests/sim/sim.h"

#include "common/base/banned.h"

struct cached {
    struct str value;
    int64_t until;
};

struct asked {
    struct node *node;
    struct job *job;
    enum cache_answer answer;
    struct str value;
};

static void answered(struct sim *sim, void *what)
{
    struct asked *a = what;

    (void)sim;
    worker_core_cache_answered(a->node->worker, a->job, a->answer, a->value);
    node_turn(a->node);
}

static struct cached *find(struct sim *sim, struct str key)
{
    struct cached *cached = map_get(sim->cache, key);

    return cached != NULL && cached->until > sim->now ? cached : NULL;
}

static void set(struct sim *sim, struct asked *a, size_t argc, const struct str *argv)
{
    bool only_new = argc == 6;
    int64_t ttl_ms = 0;
    struct cached *cached;

    if (only_new && find(sim, argv[1]) != NULL) {
        a->answer = CACHE_ANSWER_NONE;
        return;
    }
    if (!parse_i64(argv[4], 1, INT64_MAX / 1000, &ttl_ms))
        return;
    cached = sim_new(sim, struct cached);
    cached->value = str_arena(sim->arena, argv[2]);
    cached->until = sim->now + ttl_ms * MS;
    map_put(sim->cache, argv[1], cached);
    a->answer = CACHE_ANSWER_VALUE;
    a->value = STR("OK");
}

void cache_ask(struct node *node, struct job *job, size_t argc, const struct str *argv)
{
    struct sim *sim = node->sim;
    struct asked *a = sim_new(sim, struct asked);
    const struct cached *cached = find(sim, argv[1]);

    a->node = node;
    a->job = job;
    a->answer = CACHE_ANSWER_FAILED;
    if (sim->cache_down_until <= sim->now) {
        if (str_is(argv[0], "GET")) {
            a->answer = cached == NULL ? CACHE_ANSWER_NONE : CACHE_ANSWER_VALUE;
            a->value = cached == NULL ? STR_NONE : cached->value;
        } else if (str_is(argv[0], "EXISTS")) {
            a->answer = CACHE_ANSWER_VALUE;
            a->value = cached == NULL ? STR("0") : STR("1");
        } else if (str_is(argv[0], "DEL")) {
            map_del(sim->cache, argv[1]);
            a->answer = CACHE_ANSWER_VALUE;
            a->value = STR("1");
        } else {
            set(sim, a, argc, argv);
        }
    }
    if (job != NULL)
        sim_after(sim, 30, 500, node, answered, a);
}

void cache_flush(struct sim *sim)
{
    map_free(sim->cache);
    sim->cache = map_new();
}
