/* Group commit of starts. */
#include "gateway/start_group.h"
#include "common/base/fault.h"
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define BATCH_STARTS 512
#define BATCH_BYTES ((size_t)4 << 20)
#define KEY_WAIT                                                                                                       \
    "100ms" /* for an equal key, or a group, that is being committed, before others of the lane come first */
#define KEY_AGAIN_US (50 * US_PER_MS)
#define SHARDS_MAX 4096
#define WAITING_MAX 4096
#define WAITING_BYTES_MAX ((size_t)64 << 20)

struct lane {
    struct starts *starts;
    struct pg *pg;
    enum lane_kind kind;
    bool in_flight;
    struct start *first, **end;
    uv_timer_t again;
};

struct starts {
    struct gateway *gw;
    struct lane plain, keyed, held, known;
    unsigned open_timers;
    size_t waiting, waiting_bytes;
};

struct start_batch {
    struct lane *lane;
    struct arena *arena;
    size_t count, group_count;
    struct start **all;
    struct start_group *groups;
};

static void lane_run(struct lane *lane);

struct run_id start_run_id(struct gateway *gw, int32_t organisation, struct str workflow, struct str key,
                           struct wall_us *ret_created_at)
{
    struct wall_us now = db_clock_now(&gw->clock);
    unsigned slot = (unsigned)(random_u64() % SLOT_COUNT);

    if (key.ptr != NULL) {
        CLEANUP(buf_deinit) struct buf text = {0};

        buf_init(&text, 4096);
        buf_printf(&text, "%d/" STR_FMT "/" STR_FMT, (int)organisation, STR_ARG(workflow), STR_ARG(key));
        slot = slot_of_key(buf_str(&text));
    }
    ret_created_at->us = now.us / US_PER_MS * US_PER_MS; /* as the id says it */
    return run_id_make(now, slot);
}

static size_t bytes_of(const struct start *start)
{
    const struct start_delivery *delivery = start->delivery;

    return start->input.len + start->labels.len + (start->rerun_of == NULL ? 0 : start->rerun_of->given.len) +
           (delivery == NULL ? 0 : delivery->trigger.len + delivery->log.len);
}

static void finish(struct starts *starts, struct start *start, enum start_verdict verdict, const struct err *err)
{
    starts->waiting--;
    starts->waiting_bytes -= bytes_of(start);
    start->done(start, verdict, err);
}

static void put(struct lane *lane, struct start *start)
{
    start->next = NULL;
    *lane->end = start;
    lane->end = &start->next;
}

static void nudge(struct gateway *gw, const uint8_t *shards)
{
    for (int shard = 0; shard < SHARDS_MAX; shard++)
        if ((shards[shard / 8] & (1 << (shard % 8))) != 0)
            gateway_nudge(gw, shard);
    amqp_flush(gw->publish);
}

static void mark_shard(uint8_t *shards, int64_t shard)
{
    if (shard >= 0 && shard < SHARDS_MAX)
        shards[shard / 8] |= (uint8_t)(1 << (shard % 8));
}

/* What an arrival without a run has come to; STR_NONE for another word. */
static struct str held_named(struct str name)
{
    static const char *const names[] = {"debounced", "batched", "queued", "dropped"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (str_is(name, names[i]))
            return str_of(names[i]);
    return STR_NONE;
}

static enum start_verdict verdict_named(struct str name)
{
    if (str_is(name, "made") || str_is(name, "started"))
        return START_MADE;
    if (held_named(name).ptr != NULL)
        return START_HELD;
    if (str_is(name, "full"))
        return START_FULL;
    if (str_is(name, "known"))
        return START_KNOWN;
    if (str_is(name, "replayed"))
        return START_REPLAYED;
    if (str_is(name, "disabled"))
        return START_DISABLED;
    if (str_is(name, "moved"))
        return START_MOVED;
    return START_ABSENT;
}

/* A key's row decides before anything about the workflow does: the same request gets the same answer. */
static enum start_verdict judge_key(struct start *start, const struct pg_result *known, size_t row,
                                    enum start_verdict verdict)
{
    struct str hash = pg_get_str(known, row, 1);

    if (verdict == START_MADE || verdict == START_HELD || verdict == START_REPLAYED || pg_is_null(known, row, 0))
        return verdict == START_KNOWN ? START_IN_PROGRESS : verdict; /* gone between two looks: try again */
    if (hash.len != 32 || memcmp(hash.ptr, start->body_hash, 32) != 0)
        return START_KEY_DIFFERS;
    start->run_id = pg_get_uuid(known, row, 0);
    start->held = held_named(pg_get_str(known, row, 2));
    return START_KNOWN;
}

static void answer_group(struct lane *lane, const struct start_group *group, const struct pg_outcome *outcome,
                         uint8_t *shards)
{
    static const struct err none = {0};

    for (size_t i = 0; i < group->count; i++) {
        struct start *start = group->starts[i];
        const struct pg_result *rows = outcome->results[group->insert];
        enum start_verdict verdict = lane->kind == LANE_KNOWN ? START_REFUSED : verdict_named(pg_get_str(rows, i, 0));

        if (lane->kind != LANE_PLAIN)
            verdict = judge_key(start, outcome->results[group->known], i, verdict);
        if (verdict == START_MADE) {
            metric_add(METRIC_RUNS_STARTED, 1);
            mark_shard(shards, pg_get_int(rows, i, 1));
        } else if (verdict == START_HELD) {
            start->held = held_named(pg_get_str(rows, i, 0));
            held_count(start->held);
        }
        metric_add(METRIC_ARRIVALS_REFUSED, verdict == START_FULL);
        finish(lane->starts, start, verdict, &none);
    }
}

static void answer_all(const struct start_batch *batch, enum start_verdict verdict, const struct err *err)
{
    for (size_t i = 0; i < batch->count; i++)
        finish(batch->lane->starts, batch->all[i], verdict, err);
}

/* Each by itself, so that only the one at fault pays; one that was alone already is answered. */
static void split(const struct start_batch *batch, const struct err *err)
{
    if (batch->count == 1) {
        answer_all(batch, START_FAILED, err);
        return;
    }
    for (size_t i = 0; i < batch->count; i++) {
        batch->all[i]->alone = true;
        put(batch->lane, batch->all[i]);
    }
}

/* Somebody else is about to commit one of the keys: the others go on, each by itself, and so does it, until its time
 * is over. */
static void wait_for_key(const struct start_batch *batch, const struct err *err)
{
    struct mono_us now = clock_mono();

    for (size_t i = 0; i < batch->count; i++) {
        struct start *start = batch->all[i];

        if (batch->count == 1 && now.us >= start->give_up.us) {
            finish(batch->lane->starts, start, START_IN_PROGRESS, err);
            continue;
        }
        start->alone = true;
        start->not_before.us = batch->count == 1 ? now.us + KEY_AGAIN_US : 0;
        put(batch->lane, start);
    }
}

struct check {
    struct start *start;
    struct starts *starts;
};

static void on_checked(void *ctx, const struct pg_outcome *outcome)
{
    struct check *check = ctx;
    struct start *start = check->start;
    uint8_t shards[SHARDS_MAX / 8] = {0};
    bool found = outcome->rc == ERR_OK && pg_rows(outcome->results[0]) == 1;

    start->held = found && start_is_held(start) ? held_named(pg_get_str(outcome->results[0], 0, 1)) : STR_NONE;
    if (found && start->held.ptr == NULL) {
        mark_shard(shards, pg_get_int(outcome->results[0], 0, 0));
        nudge(check->starts->gw, shards);
    }
    finish(check->starts, start,
           !found                    ? START_UNCLEAR
           : start->held.ptr != NULL ? START_HELD
                                     : START_MADE,
           outcome->err);
    mem_free(check);
}

/* The connection broke while the commit was on its way. A start with a key is simply made again: it finds its own key.
 * Without one the run is looked for; also that of a webhook, which would find its own nonce. */
static void find_out(const struct start_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct start *start = batch->all[i];

        if (batch->lane->kind != LANE_PLAIN && start->delivery == NULL) {
            start->alone = true;
            put(batch->lane, start);
            continue;
        }
        struct check *check = mem_alloc(sizeof(*check));
        struct pg_batch *look = pg_batch_new(false);

        *check = (struct check){start, batch->lane->starts};
        pg_batch_organisation(look, start->organisation);
        if (start_is_held(start))
            pg_add(look, SQL_HELD_CHECK, pg_uuid(start->delivery->id), pg_i16((int16_t)run_id_slot(start->run_id)));
        else
            pg_add(look, SQL_START_CHECK, pg_uuid(start->run_id), pg_i16((int16_t)run_id_slot(start->run_id)));
        pg_submit(batch->lane->pg, look, on_checked, check);
    }
}

static void on_committed(void *ctx, const struct pg_outcome *outcome)
{
    struct start_batch *batch = ctx;
    struct lane *lane = batch->lane;
    struct gateway *gw = lane->starts->gw;
    uint8_t shards[SHARDS_MAX / 8] = {0};

    lane->in_flight = false;
    if (outcome->rc == ERR_OK) {
        FAULT_POINT(gateway_start_committed);
        gateway_sample_clock(gw, outcome->db_now);
        for (size_t i = 0; i < batch->group_count; i++)
            answer_group(lane, &batch->groups[i], outcome, shards);
        FAULT_POINT(gateway_start_answered);
        nudge(gw, shards);
        FAULT_POINT(gateway_start_nudged);
    } else if (outcome->unknown) {
        find_out(batch);
    } else if (strcmp(outcome->err->sqlstate, "55P03") == 0) {
        wait_for_key(batch, outcome->err);
    } else if (outcome->rc == ERR_UNAVAILABLE) {
        answer_all(batch, START_FAILED, outcome->err);
    } else {
        split(batch, outcome->err);
    }
    arena_free(batch->arena);
    lane_run(lane);
}

static int by_organisation(const void *a, const void *b)
{
    const struct start *x = *(struct start *const *)a, *y = *(struct start *const *)b;

    if (x->organisation != y->organisation)
        return x->organisation < y->organisation ? -1 : 1;
    return run_id_cmp(x->run_id, y->run_id);
}

/* Takes what shares a transaction off the lane; NULL when nothing is due. */
static struct start_batch *collect(struct lane *lane, struct mono_us now, struct mono_us *ret_next)
{
    struct arena *arena = arena_new(4096);
    struct start_batch *batch = arena_alloc(arena, sizeof(*batch));
    size_t bytes = 0;

    *batch = (struct start_batch){.lane = lane, .arena = arena};
    batch->all = arena_array(arena, BATCH_STARTS, sizeof(*batch->all));
    ret_next->us = INT64_MAX;
    for (struct start **at = &lane->first; *at != NULL;) {
        struct start *start = *at;

        if (start->not_before.us > now.us) {
            if (start->not_before.us < ret_next->us)
                *ret_next = start->not_before;
            at = &start->next;
            continue;
        }
        if (batch->count > 0 && (start->alone || bytes > BATCH_BYTES || batch->count == BATCH_STARTS))
            break;
        *at = start->next;
        if (*at == NULL)
            lane->end = at;
        batch->all[batch->count++] = start;
        bytes += bytes_of(start);
        if (start->alone)
            break;
    }
    if (batch->count > 0)
        return batch;
    arena_free(arena);
    return NULL;
}

static void on_again(uv_timer_t *timer)
{
    lane_run(timer->data);
}

static void lane_run(struct lane *lane)
{
    struct mono_us now = clock_mono(), next;
    struct start_batch *batch;
    struct pg_batch *pg;

    if (lane->in_flight || lane->first == NULL)
        return;
    batch = collect(lane, now, &next);
    if (batch == NULL) {
        uv_timer_start(&lane->again, on_again, (uint64_t)((next.us - now.us) / US_PER_MS + 1), 0);
        return;
    }
    qsort(batch->all, batch->count, sizeof(*batch->all), by_organisation);
    batch->groups = arena_array(batch->arena, batch->count, sizeof(*batch->groups));
    pg = pg_batch_new(true);
    if (lane->kind != LANE_PLAIN && lane->kind != LANE_KNOWN)
        pg_add(pg, SQL_START_LOCK_WAIT, pg_text(STR(KEY_WAIT)));
    for (size_t i = 0; i < batch->count;) {
        struct start_group *group = &batch->groups[batch->group_count++];

        group->organisation = batch->all[i]->organisation;
        group->starts = &batch->all[i];
        while (i < batch->count && batch->all[i]->organisation == group->organisation) {
            group->count++;
            i++;
        }
        start_group_add(pg, lane->kind, group, lane->starts->gw->queue);
    }
    pg_batch_sample_clock(pg);
    lane->in_flight = true;
    pg_submit(lane->pg, pg, on_committed, batch);
    FAULT_POINT(gateway_start_sent);
}

void starts_submit(struct starts *starts, struct start *start)
{
    bool unique = start->key.ptr != NULL || (start->delivery != NULL && start->delivery->nonce.ptr != NULL);
    struct lane *lane = start_is_held(start) ? &starts->held : unique ? &starts->keyed : &starts->plain;

    FAULT_POINT(gateway_start_read);
    start->alone = start->rerun_of != NULL;
    if (start->only_known) {
        ENSURE(start->key.ptr != NULL);
        lane = &starts->known;
    }
    starts->waiting++;
    starts->waiting_bytes += bytes_of(start);
    put(lane, start);
    lane_run(lane);
}

bool starts_have_room(const struct starts *starts)
{
    return starts->waiting < WAITING_MAX && starts->waiting_bytes < WAITING_BYTES_MAX;
}

static void lane_init(struct starts *starts, struct lane *lane, struct pg *pg, enum lane_kind kind)
{
    *lane = (struct lane){.starts = starts, .pg = pg, .kind = kind};
    lane->end = &lane->first;
    lane->again.data = lane;
    ENSURE(uv_timer_init(starts->gw->loop, &lane->again) == 0);
    starts->open_timers++;
}

struct starts *starts_new(struct gateway *gw)
{
    struct starts *starts = mem_alloc(sizeof(*starts));

    starts->gw = gw;
    lane_init(starts, &starts->plain, gw->plain_starts, LANE_PLAIN);
    lane_init(starts, &starts->keyed, gw->keyed_starts, LANE_KEYED);
    lane_init(starts, &starts->held, gw->keyed_starts, LANE_HELD);
    lane_init(starts, &starts->known, gw->reads[0], LANE_KNOWN);
    return starts;
}

static void on_closed(uv_handle_t *handle)
{
    struct starts *starts = ((struct lane *)handle->data)->starts;

    if (--starts->open_timers == 0)
        mem_free(starts);
}

void starts_free(struct starts *starts)
{
    if (starts == NULL)
        return;
    uv_close((uv_handle_t *)&starts->plain.again, on_closed);
    uv_close((uv_handle_t *)&starts->keyed.again, on_closed);
    uv_close((uv_handle_t *)&starts->held.again, on_closed);
    uv_close((uv_handle_t *)&starts->known.again, on_closed);
}
