/* Bodies: inputs of runs and outputs of steps, as expressions read them, and rendered `with` of tasks that wait. A
 * cache within a bound in bytes; bodies never change, so that it is never stale. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define BODY_AGAIN_US (200 * US_PER_MS)
#define SPARED_US (200 * US_PER_MS) /* used a moment ago: somebody may be collecting several */

static struct body *find(const struct sched *sched, struct run_id run, uint32_t seq)
{
    uint64_t hash = run_hash(run) + hash_u64(seq);

    for (struct hnode *n = htable_chain(&sched->bodies, hash); n != NULL; n = n->next) {
        struct body *body = CONTAINER(n, struct body, node);

        if (n->hash == hash && body->seq == seq && run_id_eq(body->run, run))
            return body;
    }
    return NULL;
}

static struct body *get(struct sched *sched, struct run_id run, uint32_t seq)
{
    struct body *body = find(sched, run, seq);

    if (body == NULL) {
        body = mem_alloc(sizeof(*body));
        body->run = run;
        body->seq = seq;
        list_init(&body->in_lru);
        htable_add(&sched->bodies, &body->node, run_hash(run) + hash_u64(seq));
        sched->body_bytes += sizeof(*body);
    }
    list_del(&body->in_lru);
    list_add_tail(&sched->bodies_lru, &body->in_lru);
    body->used = sched->now;
    return body;
}

static void want(struct sched *sched, const struct body *body)
{
    if (sched->body_want_count == sched->body_want_cap) {
        sched->body_want_cap = sched->body_want_cap == 0 ? 32 : 2 * sched->body_want_cap;
        sched->body_wants = mem_grow(sched->body_wants, sched->body_want_cap, sizeof(*sched->body_wants));
    }
    sched->body_wants[sched->body_want_count++] = (struct sched_body_want){body->run, body->seq};
}

bool body_get(struct sched *sched, struct run_id run, uint32_t seq, struct str *ret)
{
    struct body *body = get(sched, run, seq);

    if (body->here) {
        *ret = body->text;
        return true;
    }
    if (!body->asked) {
        body->asked = true;
        want(sched, body);
    }
    return false;
}

void body_put_own(struct sched *sched, struct run_id run, uint32_t seq, struct str text)
{
    struct body *body = get(sched, run, seq);

    if (body->here) {
        mem_free((void *)(uintptr_t)text.ptr);
        return;
    }
    body->here = true;
    body->text = text;
    sched->body_bytes += text.len;
}

void body_put(struct sched *sched, struct run_id run, uint32_t seq, struct str text)
{
    if (text.ptr == NULL)
        text = STR("null");
    body_put_own(sched, run, seq, (struct str){mem_dup(text.ptr, text.len), text.len});
}

bool body_peek(struct sched *sched, struct run_id run, uint32_t seq, struct str *ret)
{
    const struct body *body = find(sched, run, seq);

    return body != NULL && body->here && body_get(sched, run, seq, ret);
}

void elements_find(struct str list, struct element *ret)
{
    struct jt_iter it;

    jt_iter_init(&it, list);
    while (jt_next(&it))
        *ret++ = (struct element){(uint32_t)(it.value.ptr - list.ptr), (uint32_t)it.value.len};
}

/* Each iteration of a loop reads one element: none of them looks for it from the list's beginning. */
bool body_get_element(struct sched *sched, struct run_id run, uint32_t seq, uint32_t index, struct str *ret)
{
    struct str text;
    struct body *body;

    if (!body_get(sched, run, seq, &text))
        return false;
    body = find(sched, run, seq);
    if (body->elements == NULL) {
        body->element_count = (uint32_t)jt_count(text);
        body->elements = mem_array(body->element_count, sizeof(*body->elements));
        elements_find(text, body->elements);
        sched->body_bytes += body->element_count * sizeof(*body->elements);
    }
    *ret = index < body->element_count ? element_of(text, body->elements[index]) : STR_NONE;
    return true;
}

void bodies_tick(struct sched *sched)
{
    size_t count = sched->body_want_count;
    size_t now = 0;

    if (count == 0)
        return;
    for (size_t i = 0; i < count; i++) {
        struct sched_body_want wanted = sched->body_wants[i];
        const struct body *body = find(sched, wanted.run, wanted.seq);

        if (body == NULL || body->here)
            continue;
        if (body->ask_at.us > sched->now.us) {
            wake_by(sched, body->ask_at);
            want(sched, body);
            continue;
        }
        sched->body_wants[now++] = wanted;
    }
    if (now > 0)
        sched->ports.load_bodies(sched->ports.ctx, sched->body_wants, now);
    sched->body_want_count -= count;
    memmove(sched->body_wants, sched->body_wants + count, sched->body_want_count * sizeof(*sched->body_wants));
}

/* Each run is told once: it may have been waiting for thousands of them. */
static void tell_runs(struct sched *sched, const struct sched_body *bodies, size_t count)
{
    sched->bodies_round++;
    for (size_t i = 0; i < count; i++) {
        struct run_entry *entry = run_find(sched, bodies[i].run);

        if (entry == NULL || entry->bodies_round == sched->bodies_round)
            continue;
        entry->bodies_round = sched->bodies_round;
        if (entry->work != NULL)
            evaluate_again(sched, entry);
        else
            run_kick(sched, entry);
    }
}

void sched_on_bodies(struct sched *sched, const struct sched_body *bodies, size_t count)
{
    sched->now = sched->ports.mono(sched->ports.ctx);
    sched->wall = sched->ports.wall(sched->ports.ctx);
    for (size_t i = 0; i < count; i++) {
        struct body *body = find(sched, bodies[i].run, bodies[i].seq);

        if (body == NULL || body->here)
            continue;
        if (bodies[i].failed) {
            body->ask_at = mono_after(sched->now, BODY_AGAIN_US);
            want(sched, body);
            continue;
        }
        body_put(sched, bodies[i].run, bodies[i].seq, bodies[i].body);
    }
    tell_runs(sched, bodies, count);
}

static void drop(struct sched *sched, struct body *body)
{
    htable_del(&sched->bodies, &body->node);
    list_del(&body->in_lru);
    sched->body_bytes -= sizeof(*body) + body->text.len + body->element_count * sizeof(*body->elements);
    mem_free(body->elements);
    mem_free((void *)(uintptr_t)body->text.ptr);
    mem_free(body);
}

void body_drop(struct sched *sched, struct run_id run, uint32_t seq)
{
    struct body *body = find(sched, run, seq);

    if (body != NULL && body->here)
        drop(sched, body);
}

/* A run whose values are being evaluated may be collecting many bodies: none of them goes before all are here. */
static bool is_awaited(const struct sched *sched, const struct body *body)
{
    const struct run_entry *entry = run_find(sched, body->run);

    return entry != NULL && entry->work != NULL && entry->work->pending > 0;
}

void bodies_evict(struct sched *sched)
{
    for (LIST_EACH(&sched->bodies_lru, at)) {
        struct body *body = CONTAINER(at, struct body, in_lru);
        bool recent = sched->now.us - body->used.us < SPARED_US;

        if (sched->body_bytes <= sched->set.cache_bodies_bytes)
            break;
        if (recent && sched->body_bytes <= 4 * sched->set.cache_bodies_bytes)
            break;
        if (body->here && !is_awaited(sched, body))
            drop(sched, body);
    }
}

void bodies_free(struct sched *sched)
{
    for (LIST_EACH(&sched->bodies_lru, at))
        drop(sched, CONTAINER(at, struct body, in_lru));
    htable_deinit(&sched->bodies);
    mem_free(sched->body_wants);
}
