/* The rows that say who lives and who owns which shard, and the statements of scheduler/sql that the lease sends. */
#include "common/base/ensure.h"
#include "tests/sim/model_commit.h"
#include "tests/sim/model_lease.h"
#include <limits.h>

#include "common/base/banned.h"

struct run_id member_id(const struct node *node)
{
    struct run_id id = {{0}};

    id.bytes[0] = (uint8_t)(node->index + 1);
    memcpy(id.bytes + 4, &node->incarnation, sizeof(node->incarnation));
    return id;
}

static struct db_member *member_of(struct sim *sim, struct run_id me)
{
    for (size_t i = 0; i < MEMBERS; i++)
        if (sim->db.members[i].name[0] != '\0' && run_id_eq(sim->db.members[i].incarnation, me))
            return &sim->db.members[i];
    return NULL;
}

static bool lives(struct sim *sim, struct run_id who)
{
    const struct db_member *member = member_of(sim, who);

    return member != NULL && member->lease_until > db_wall(sim);
}

/* ---- scheduler_register.sql, scheduler_forget.sql, scheduler_leave.sql ---- */

size_t rows_register(struct sim *sim, struct str name, struct run_id me, int64_t lease_ms, int format)
{
    struct db_member *place = NULL;

    for (size_t i = MEMBERS; i-- > 0;) {
        struct db_member *member = &sim->db.members[i];

        if (member->name[0] == '\0' && place == NULL)
            place = member;
        if (str_is(name, member->name)) {
            place = member;
            break;
        }
    }
    ENSURE(place != NULL && name.len < sizeof(place->name));
    memcpy(place->name, name.ptr, name.len);
    place->name[name.len] = '\0';
    place->incarnation = me;
    place->lease_until = db_wall(sim) + lease_ms * MS;
    place->format = format;
    place->since = sim->now;
    return 1;
}

int db_oldest_format(const struct sim *sim, int64_t us)
{
    int oldest = INT_MAX;

    for (size_t i = 0; i < MEMBERS; i++) {
        const struct db_member *member = &sim->db.members[i];

        if (member->name[0] != '\0' && member->lease_until > db_wall(sim) && member->since < sim->now - us &&
            member->format < oldest)
            oldest = member->format;
    }
    return oldest;
}

void rows_forget(struct sim *sim)
{
    for (size_t i = 0; i < MEMBERS; i++)
        if (sim->db.members[i].lease_until < db_wall(sim) - 3600 * SEC)
            sim->db.members[i].name[0] = '\0';
}

void rows_leave(struct sim *sim, struct run_id me)
{
    struct db_member *member = member_of(sim, me);

    if (member != NULL)
        member->name[0] = '\0';
}

/* ---- scheduler_tick.sql ---- */

size_t rows_tick(struct sim *sim, struct run_id me, int64_t lease_ms, int64_t *cells)
{
    int64_t now = db_wall(sim), live = 0, before = 0, expiry = INT64_MAX, newest_live = 0, newest_before = 0;
    struct db_member *own = member_of(sim, me);
    int oldest = INT_MAX, newest = 0;

    for (size_t i = 0; i < MEMBERS; i++) {
        const struct db_member *member = &sim->db.members[i];

        if (member->name[0] == '\0' || (member->lease_until <= now && member != own))
            continue;
        live++;
        before += own != NULL && strcmp(member->name, own->name) < 0;
        if (member != own && member->lease_until < expiry)
            expiry = member->lease_until;
        if (member->format < oldest)
            oldest = member->format;
        if (member->format > newest)
            newest_live = newest_before = 0;
        if (member->format >= newest) {
            newest = member->format;
            newest_live++;
            newest_before += own != NULL && strcmp(member->name, own->name) < 0;
        }
    }
    if (own != NULL) {
        own->since = own->lease_until <= now ? sim->now : own->since;
        own->lease_until = now + lease_ms * MS;
    }
    for (int16_t s = 0; s < SHARDS; s++) {
        const struct db_shard *shard = &sim->db.shards[s];
        const int64_t row[TICK_COLUMNS] = {s,
                                           shard->epoch,
                                           shard->owned && run_id_eq(shard->incarnation, me),
                                           !shard->owned || !lives(sim, shard->incarnation),
                                           shard->format,
                                           own != NULL,
                                           live,
                                           before,
                                           oldest,
                                           newest,
                                           newest_live,
                                           newest_before,
                                           expiry == INT64_MAX ? CELL_NULL : (expiry - now) / MS,
                                           now};

        memcpy(cells + s * TICK_COLUMNS, row, sizeof(row));
    }
    return SHARDS;
}

/* ---- shard_take.sql, shard_release.sql, shard_release_all.sql, shard_holders_end.sql ---- */

size_t rows_take(struct sim *sim, struct run_id me, const int16_t *shards, size_t count, int64_t *cells)
{
    size_t rows = 0;

    for (size_t i = 0; i < count; i++) {
        struct db_shard *shard = &sim->db.shards[shards[i]];

        if (db_is_locked(sim, shards[i]) || (shard->owned && lives(sim, shard->incarnation)))
            continue;
        if (shard->owned) /* the former goes on until its lease is answered */
            sim_happened(sim, DECIDE_LAPSE, sim->now + 3 * SEC);
        *shard =
            (struct db_shard){.owned = true, .incarnation = me, .epoch = shard->epoch + 1, .format = shard->format};
        cells[rows * TICK_COLUMNS] = shards[i];
        cells[rows * TICK_COLUMNS + 1] = shard->epoch;
        rows++;
    }
    return rows;
}

void rows_release(struct sim *sim, struct run_id me, const int16_t *shards, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (run_id_eq(sim->db.shards[shards[i]].incarnation, me))
            sim->db.shards[shards[i]].owned = false;
}

/* shard_needs.sql */
void rows_needs(struct sim *sim, struct run_id me, int16_t shard, int format)
{
    struct db_shard *row = &sim->db.shards[shard];

    if (run_id_eq(row->incarnation, me) && row->format < format)
        row->format = format;
}

void rows_release_all(struct sim *sim, struct run_id me)
{
    for (int16_t s = 0; s < SHARDS; s++)
        rows_release(sim, me, &s, 1);
}

size_t rows_end_holders(struct sim *sim, const int16_t *shards, size_t count)
{
    for (size_t i = 0; i < count; i++)
        db_end_holders(sim, shards[i], SCHED_UNAVAILABLE);
    return count;
}

struct node *db_owner(struct sim *sim, int16_t shard)
{
    for (int i = 0; i < SCHEDULERS; i++)
        if (sim->db.shards[shard].owned && run_id_eq(sim->db.shards[shard].incarnation, member_id(&sim->nodes[i])))
            return &sim->nodes[i];
    return NULL;
}

/* ---- a third scheduler, of which nothing is seen but its rows ---- */

struct stranger {
    struct run_id me;
    int64_t until;
    bool takes;
};

static void stranger_lives(struct sim *sim, void *what)
{
    struct stranger *stranger = what;
    int16_t s = (int16_t)rng_below(&sim->streams[DECIDE_HANDOVER], SHARDS);

    if (sim->db.down_until <= sim->now && sim->now >= stranger->until) {
        rows_release_all(sim, stranger->me);
        rows_leave(sim, stranger->me);
        sim->db.stranger = false;
        return;
    }
    if (sim->db.down_until <= sim->now) {
        struct db_member *member = member_of(sim, stranger->me);
        int64_t cells[SHARDS * TICK_COLUMNS];

        if (member != NULL)
            member->lease_until = db_wall(sim) + SEC;
        if (stranger->takes)
            (void)rows_take(sim, stranger->me, &s, 1, cells);
    }
    sim_after(sim, 20 * MS, 200 * MS, NULL, stranger_lives, stranger);
}

void db_stranger_comes(struct sim *sim)
{
    struct rng *rng = &sim->streams[DECIDE_HANDOVER];
    struct stranger *stranger = sim_new(sim, struct stranger);

    if (sim->db.stranger || sim->db.down_until > sim->now)
        return;
    sim->db.stranger = true;
    memset(stranger->me.bytes, 0xee, sizeof(stranger->me.bytes));
    stranger->until = sim->now + rng_between(rng, 50 * MS, 3 * SEC);
    stranger->takes = rng_chance(rng, 5000);
    (void)rows_register(sim, rng_chance(rng, 5000) ? STR("a") : STR("z"), stranger->me, 1000, event_format_newest());
    sim_trace(sim, "a third scheduler joins for %lld ms", (long long)((stranger->until - sim->now) / MS));
    stranger_lives(sim, stranger);
}
