/* Redis: strings with an expiry, which may be gone at any moment, or be what they were before. */
#include "common/base/map.h"
#include "tests/sim/sim.h"

#include "common/base/banned.h"

/* What was written last under a key, and what before. */
struct cached {
    struct cached *before;
    struct str value; /* STR_NONE: deleted */
    int64_t at, until;
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

static bool forgotten(const struct sim *sim, const struct cached *cached)
{
    for (uint32_t i = 0; i < sim->cache_forgotten_count; i++)
        if (cached->at > sim->cache_forgotten[i].from && cached->at <= sim->cache_forgotten[i].to)
            return true;
    return false;
}

static struct cached *find(struct sim *sim, struct str key, int64_t as_of)
{
    struct cached *cached = map_get(sim->cache, key);

    while (cached != NULL && (cached->at > as_of || forgotten(sim, cached)))
        cached = cached->before;
    return cached != NULL && cached->value.ptr != NULL && cached->until > sim->now ? cached : NULL;
}

static void put(struct sim *sim, struct str key, struct str value, int64_t until)
{
    struct cached *cached = sim_new(sim, struct cached);

    *cached = (struct cached){map_get(sim->cache, key), str_arena(sim->arena, value), sim->now, until};
    map_put(sim->cache, key, cached);
}

static void set(struct sim *sim, struct asked *a, size_t argc, const struct str *argv)
{
    bool only_new = argc == 6;
    int64_t ttl_ms = 0;

    if (only_new && find(sim, argv[1], sim->now) != NULL) {
        a->answer = CACHE_ANSWER_NONE;
        return;
    }
    if (!parse_i64(argv[4], 1, INT64_MAX / 1000, &ttl_ms))
        return;
    put(sim, argv[1], argv[2], sim->now + ttl_ms * MS);
    a->answer = CACHE_ANSWER_VALUE;
    a->value = STR("OK");
}

/* "RUN:STEP/ATTEMPT/DISPATCH" of the claim "rw:claim:ID/STEP/ATTEMPT/DISPATCH". */
static const char *task_name(struct sim *sim, struct str key)
{
    struct str path = {key.ptr + strlen("rw:claim:"), key.len - strlen("rw:claim:")};
    struct run_id id;

    if (sim->on_point == NULL || !run_id_parse(str_cut(&path, '/'), &id) || db_find(sim, id) == NULL)
        return "nothing";
    return arena_printf(sim->arena, "%u:" STR_FMT, db_find(sim, id)->number, STR_ARG(path));
}

void cache_ask(struct node *node, struct job *job, size_t argc, const struct str *argv)
{
    struct sim *sim = node->sim;
    struct asked *a = sim_new(sim, struct asked);
    bool old = sim->cache_old_until > sim->now;
    int64_t at;
    const struct cached *cached = find(sim, argv[1], old ? sim->now - sim->cache_lag_us : sim->now);

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
            a->answer = CACHE_ANSWER_VALUE;
            a->value = find(sim, argv[1], sim->now) == NULL ? STR("0") : STR("1");
            put(sim, argv[1], STR_NONE, 0);
        } else {
            set(sim, a, argc, argv);
        }
    }
    if (job == NULL)
        return;
    if (argc == 6 && sim_point(sim, node, "claiming %s", task_name(sim, argv[1])).lost)
        a->answer = CACHE_ANSWER_FAILED;
    at = sim->now + rng_between(&sim->rng, 30, 500);
    node->cache_answered_at = at > node->cache_answered_at ? at : node->cache_answered_at; /* in order */
    sim_at(sim, node->cache_answered_at, node, answered, a);
}

void cache_flush(struct sim *sim)
{
    map_free(sim->cache);
    sim->cache = map_new();
}

void cache_fail_over(struct sim *sim, int64_t lost_us)
{
    uint32_t at = sim->cache_forgotten_count++ % 8;

    if (sim->cache_forgotten_count > 8)
        sim->cache_forgotten_count = 8;
    sim->cache_forgotten[at].from = sim->now - lost_us;
    sim->cache_forgotten[at].to = sim->now;
}

void cache_read_old(struct sim *sim, int64_t lag_us, int64_t us)
{
    sim->cache_lag_us = lag_us;
    sim->cache_old_until = sim->now + us;
}
