/* The contract of leases and shards: who has what, since when, and when another may. */
#include "tests/contract/shards.h"

#include "common/base/banned.h"

struct member {
    int process;
    struct lease *lease;
    int64_t epochs[SHARD_COUNT], highest[SHARD_COUNT]; /* 0: not its own */
    bool busy;                                         /* it does not release at once */
    bool asked[SHARD_COUNT];                           /* to give it up */
    int released, lost, told, replaced, left;
    bool clock;
    int oldest, newest; /* event formats */
};

static void on_shards(void *ctx, const struct sched_shard_change *changes, size_t count)
{
    struct member *m = ctx;

    m->told++;
    for (size_t i = 0; i < count; i++) {
        int16_t s = changes[i].shard;

        if (changes[i].gained)
            assert_true(changes[i].epoch > m->highest[s]); /* epochs rise */
        m->epochs[s] = changes[i].gained ? changes[i].epoch : 0;
        m->highest[s] = changes[i].gained ? changes[i].epoch : m->highest[s];
        m->asked[s] = m->asked[s] && changes[i].gained;
        m->lost += !changes[i].gained;
    }
}

static void release(struct member *m, int16_t shard)
{
    m->released++;
    lease_release(m->lease, shard);
}

static void on_surplus(void *ctx, int16_t shard)
{
    struct member *m = ctx;

    m->asked[shard] = true;
    if (!m->busy)
        release(m, shard);
}

static void on_replaced(void *ctx)
{
    ((struct member *)ctx)->replaced++;
}

static void on_formats(void *ctx, int oldest, int newest)
{
    struct member *m = ctx;

    m->oldest = oldest;
    m->newest = newest;
}

static void on_clock(void *ctx, struct wall_us now, struct mono_us at)
{
    (void)at;
    ((struct member *)ctx)->clock = now.us > 0;
}

static void on_left(void *ctx)
{
    ((struct member *)ctx)->left++;
}

static void start_of_format(struct member *m, int process, const char *name, int format)
{
    struct lease_options options = {.url = "",
                                    .name = name,
                                    .format = format,
                                    .lease_ms = LEASE_MS,
                                    .renew_ms = RENEW_MS,
                                    .on_shards = on_shards,
                                    .on_surplus = on_surplus,
                                    .on_clock = on_clock,
                                    .on_formats = on_formats,
                                    .on_replaced = on_replaced,
                                    .ctx = m};

    *m = (struct member){.process = process};
    m->lease = hand_start(process, &options);
}

static void start(struct member *m, int process, const char *name)
{
    start_of_format(m, process, name, 1);
}

static void leave(struct member *m)
{
    lease_leave(m->lease, on_left, m);
    UNTIL(m->left == 1);
    hand_die(m->process, m->lease);
}

static int shards_of(const struct member *m)
{
    int count = 0;

    for (int s = 0; s < SHARD_COUNT; s++)
        count += m->epochs[s] != 0;
    return count;
}

static bool each_is_owned_once(struct member **members, size_t count)
{
    for (int s = 0; s < SHARD_COUNT; s++) {
        int owners = 0;

        for (size_t i = 0; i < count; i++)
            owners += members[i]->epochs[s] != 0;
        if (owners != 1)
            return false;
    }
    return true;
}

static void shards_are_shared_when_others_join_and_leave(void **state)
{
    struct member a, b, c;
    struct member *all[] = {&a, &b, &c};
    int64_t began;

    (void)state;
    start(&a, 0, "a");
    UNTIL(shards_of(&a) == 4);
    assert_true(a.clock && lease_is_live(a.lease));
    start(&b, 1, "b");
    UNTIL(shards_of(&a) == 2 && shards_of(&b) == 2);
    assert_true(each_is_owned_once(all, 2));
    start(&c, 2, "c"); /* one of the rest is for the first by name */
    UNTIL(shards_of(&a) == 2 && shards_of(&b) == 1 && shards_of(&c) == 1);
    assert_true(each_is_owned_once(all, 3));
    /* who gave a shard up is told that it lost it: it would hear the shard's messages for ever */
    assert_int_equal(a.released, 2);
    assert_int_equal(a.lost, 2);
    assert_int_equal(b.released, b.lost);
    for (int s = 0; s < SHARD_COUNT; s++)
        assert_true(a.epochs[s] + b.epochs[s] + c.epochs[s] >= a.highest[s]);
    began = world_now_us();
    leave(&b); /* nobody waits for its lease */
    UNTIL(shards_of(&a) == 2 && shards_of(&c) == 2);
    assert_true(world_now_us() - began < 2 * LEASE_MS * US_PER_MS);
    leave(&a);
    leave(&c);
}

static void each_learns_the_formats_of_all_who_live(void **state)
{
    struct member a, b;

    (void)state;
    start_of_format(&a, 0, "a", 7);
    UNTIL(a.oldest == 7 && a.newest == 7);
    start_of_format(&b, 1, "b", 5);
    UNTIL(a.oldest == 5 && b.oldest == 5 && a.newest == 7 && b.newest == 7);
    leave(&b);
    UNTIL(a.oldest == 7);
    start_of_format(&b, 1, "b", 8);
    UNTIL(b.oldest == 7 && a.newest == 8);
    hand_die(b.process, b.lease);
    UNTIL(a.newest == 7);
    leave(&a);
}

static bool has_only(const struct member *m, int shard)
{
    return shards_of(m) == 1 && m->epochs[shard] != 0;
}

/* Two releases: the shards that the older one cannot go on with are the newer one's, beyond its share; when no newer
 * one lives, the older one has them again, for the sake of their other runs. */
static void what_needs_a_newer_release_is_left_to_it_as_long_as_it_lives(void **state)
{
    struct member a, b;
    struct member *all[] = {&a, &b};

    (void)state;
    start_of_format(&a, 0, "a", 1);
    UNTIL(shards_of(&a) == 4);
    lease_needs_newer(a.lease, 0);
    lease_needs_newer(a.lease, 1);
    world_pass(3 * RENEW_MS * US_PER_MS);
    assert_int_equal(shards_of(&a), 4); /* to whom should they be given? */
    start_of_format(&b, 1, "b", 2);
    UNTIL(has_only(&a, 2) || has_only(&a, 3));
    UNTIL(each_is_owned_once(all, 2));
    assert_true(b.epochs[0] != 0 && b.epochs[1] != 0);
    world_pass(5 * RENEW_MS * US_PER_MS);
    assert_int_equal(shards_of(&a), 1); /* and it stays so */
    hand_die(b.process, b.lease);
    UNTIL(shards_of(&a) == 4);
    start_of_format(&b, 1, "b", 2);
    UNTIL(shards_of(&b) == 3 && b.epochs[0] != 0 && b.epochs[1] != 0);
    /* the older one is replaced: nothing is special any more */
    leave(&a);
    start_of_format(&a, 0, "a", 2);
    UNTIL(shards_of(&a) == 2 && shards_of(&b) == 2);
    leave(&a);
    leave(&b);
}

/* Two of the newer release share what is theirs alone, and the rest with the older one. */
static void the_newer_ones_share_what_is_theirs_alone(void **state)
{
    struct member a, b, c;
    struct member *all[] = {&a, &b, &c};

    (void)state;
    start_of_format(&a, 0, "a", 1);
    UNTIL(shards_of(&a) == 4);
    for (int16_t s = 0; s < SHARD_COUNT; s++)
        lease_needs_newer(a.lease, s);
    start_of_format(&b, 1, "b", 2);
    start_of_format(&c, 2, "c", 2);
    UNTIL(shards_of(&a) == 0 && shards_of(&b) == 2 && shards_of(&c) == 2);
    assert_true(each_is_owned_once(all, 3));
    leave(&b);
    UNTIL(shards_of(&c) == 4);
    assert_int_equal(shards_of(&a), 0);
    leave(&c);
    UNTIL(shards_of(&a) == 4);
    leave(&a);
}

static void a_shard_goes_over_when_its_owner_has_nothing_of_it_in_hand(void **state)
{
    struct member a, b;
    int64_t epochs[SHARD_COUNT];

    (void)state;
    start(&a, 0, "a");
    UNTIL(shards_of(&a) == 4);
    memcpy(epochs, a.epochs, sizeof(epochs));
    a.busy = true;
    start(&b, 1, "b");
    UNTIL(a.asked[2] && a.asked[3]);
    world_pass(3 * LEASE_MS * US_PER_MS);
    assert_int_equal(shards_of(&a), 4); /* until it says so */
    assert_int_equal(shards_of(&b), 0);
    release(&a, 3);
    UNTIL(b.epochs[3] > epochs[3]);
    UNTIL(a.epochs[3] == 0);
    assert_int_equal(a.epochs[2], epochs[2]);
    release(&a, 2);
    UNTIL(b.epochs[2] > epochs[2] && shards_of(&a) == 2);
    leave(&b);
    UNTIL(shards_of(&a) == 4);
    assert_true(a.epochs[2] > epochs[2] + 1);
    leave(&a);
}

static void a_dead_ones_shards_are_taken_when_its_lease_is_over(void **state)
{
    struct member a, b;
    int64_t died, epochs[SHARD_COUNT];

    (void)state;
    start(&a, 0, "a");
    start(&b, 1, "b");
    UNTIL(shards_of(&a) == 2 && shards_of(&b) == 2);
    memcpy(epochs, a.epochs, sizeof(epochs));
    hand_die(0, a.lease);
    died = world_now_us();
    UNTIL(shards_of(&b) == 4);
    assert_true(world_now_us() - died > (LEASE_MS - RENEW_MS) / 2 * US_PER_MS); /* not before */
    for (int s = 0; s < SHARD_COUNT; s++)
        assert_true(b.epochs[s] > epochs[s]);
    leave(&b);
}

static void who_stood_still_is_told_what_it_lost(void **state)
{
    struct member a, b;
    int64_t epochs[SHARD_COUNT];

    (void)state;
    start(&a, 0, "a");
    start(&b, 1, "b");
    UNTIL(shards_of(&a) == 2 && shards_of(&b) == 2);
    memcpy(epochs, a.epochs, sizeof(epochs));
    hand_freeze(0, 4 * LEASE_MS * US_PER_MS);
    UNTIL(shards_of(&b) == 4);
    assert_int_equal(shards_of(&a), 2); /* it knows nothing of it */
    UNTIL(a.lost >= 2);
    UNTIL(shards_of(&a) == 2 && shards_of(&b) == 2);
    for (int s = 0; s < SHARD_COUNT; s++)
        assert_true(a.epochs[s] == 0 || a.epochs[s] > epochs[s]);
    leave(&a);
    leave(&b);
}

static void whether_a_lease_is_over_is_the_databases_to_say(void **state)
{
    struct member a, b;

    (void)state;
    start(&b, 1, "b");
    UNTIL(shards_of(&b) == 4);
    hand_freeze(1, LEASE_MS / 2 * US_PER_MS); /* its own clock says that its lease lasts */
    hand_expire("b");
    start(&a, 0, "a");
    UNTIL(shards_of(&a) == 4);
    UNTIL(shards_of(&a) == 2 && shards_of(&b) == 2 && b.lost >= 4);
    leave(&a);
    leave(&b);
}

static void whoever_takes_the_name_replaces_the_former(void **state)
{
    struct member former, latter;

    (void)state;
    start(&former, 0, "same");
    UNTIL(shards_of(&former) == 4);
    start(&latter, 1, "same");
    UNTIL(shards_of(&latter) == 4);
    UNTIL(former.replaced == 1);
    assert_int_equal(shards_of(&former), 0);
    hand_die(0, former.lease);
    leave(&latter);
}

static void a_batch_keeps_its_shard_until_it_has_ended(void **state)
{
    struct member a, b;

    (void)state;
    start(&a, 0, "a");
    UNTIL(shards_of(&a) == 4);
    hand_batch_begin(0, 1, a.epochs[1]);
    hand_die(0, a.lease);
    start(&b, 1, "b");
    UNTIL(shards_of(&b) == 3);
    world_pass(500 * US_PER_MS);
    assert_int_equal(b.epochs[1], 0);
    assert_true(hand_batch_end());
    UNTIL(shards_of(&b) == 4);
    leave(&b);
}

static void a_batch_that_does_not_end_is_ended(void **state)
{
    struct member a, b;

    (void)state;
    start(&a, 0, "a");
    UNTIL(shards_of(&a) == 4);
    hand_batch_begin(0, 1, a.epochs[1]);
    hand_die(0, a.lease);
    start(&b, 1, "b");
    UNTIL(shards_of(&b) == 4);
    assert_false(hand_batch_end());
    leave(&b);
}

static void a_lost_connection_costs_no_shard(void **state)
{
    struct member a;
    int64_t epochs[SHARD_COUNT];

    (void)state;
    start(&a, 0, "a");
    UNTIL(shards_of(&a) == 4);
    memcpy(epochs, a.epochs, sizeof(epochs));
    for (int i = 0; i < 3; i++) {
        hand_lose_connections();
        world_pass(400 * US_PER_MS);
    }
    assert_memory_equal(a.epochs, epochs, sizeof(epochs));
    assert_int_equal(a.lost, 0);
    UNTIL(lease_is_live(a.lease));
    leave(&a);
}

static void a_check_is_answered_also_when_nothing_has_changed(void **state)
{
    struct member a;
    int told;

    (void)state;
    start(&a, 0, "a");
    UNTIL(shards_of(&a) == 4);
    told = a.told;
    world_pass(3 * RENEW_MS * US_PER_MS);
    assert_int_equal(a.told, told);
    lease_check(a.lease);
    assert_int_equal(a.told, told);
    UNTIL(a.told == told + 1);
    leave(&a);
}

#define SCENARIO(name) cmocka_unit_test_setup_teardown(name, shards_world_begin, shards_world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO(shards_are_shared_when_others_join_and_leave),
        SCENARIO(each_learns_the_formats_of_all_who_live),
        SCENARIO(what_needs_a_newer_release_is_left_to_it_as_long_as_it_lives),
        SCENARIO(the_newer_ones_share_what_is_theirs_alone),
        SCENARIO(a_shard_goes_over_when_its_owner_has_nothing_of_it_in_hand),
        SCENARIO(a_dead_ones_shards_are_taken_when_its_lease_is_over),
        SCENARIO(who_stood_still_is_told_what_it_lost),
        SCENARIO(whether_a_lease_is_over_is_the_databases_to_say),
        SCENARIO(whoever_takes_the_name_replaces_the_former),
        SCENARIO(a_batch_keeps_its_shard_until_it_has_ended),
        SCENARIO(a_batch_that_does_not_end_is_ended),
        SCENARIO(a_lost_connection_costs_no_shard),
        SCENARIO(a_check_is_answered_also_when_nothing_has_changed),
    };

    return cmocka_run_group_tests_name("shards", tests, shards_group_begin, shards_group_end);
}
