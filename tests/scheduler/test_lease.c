/* Leases and shards between schedulers: sharing, taking over, giving up, being replaced, frozen owners. Each scheduler
 * has a loop of its own here; one whose loop does not run is frozen. */
#include "scheduler/lease.h"
#include "tests/scheduler/scheduler_fixture.h"

#define LEASE_MS 900
#define RENEW_MS 200

struct member {
    uv_loop_t loop;
    struct lease *lease;
    int64_t epochs[16]; /* 0: not ours */
    int replaced, told, left, released, lost, renewals;
    bool clock;
    int oldest, newest; /* event formats */
};

static void on_shards(void *ctx, const struct sched_shard_change *changes, size_t count)
{
    struct member *m = ctx;

    m->told++;
    for (size_t i = 0; i < count; i++) {
        m->epochs[changes[i].shard] = changes[i].gained ? changes[i].epoch : 0;
        m->lost += !changes[i].gained;
    }
}

static void on_surplus(void *ctx, int16_t shard)
{
    struct member *m = ctx;

    m->epochs[shard] = 0;
    m->released++;
    lease_release(m->lease, shard);
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
    struct member *m = ctx;

    (void)at;
    m->clock = llabs(now.us - clock_wall().us) < 60 * US_PER_S;
}

static void on_left(void *ctx)
{
    ((struct member *)ctx)->left++;
}

static struct str health(void *ctx)
{
    ((struct member *)ctx)->renewals++;
    return STR("{}");
}

static void member_begin_renewing(struct member *m, const char *name, int lease_ms, int renew_ms)
{
    struct lease_options options = {.loop = &m->loop,
                                    .url = url,
                                    .name = name,
                                    .format = 1,
                                    .lease_ms = lease_ms,
                                    .renew_ms = renew_ms,
                                    .on_shards = on_shards,
                                    .on_surplus = on_surplus,
                                    .on_replaced = on_replaced,
                                    .on_clock = on_clock,
                                    .on_formats = on_formats,
                                    .health = health,
                                    .ctx = m};

    *m = (struct member){0};
    random_bytes(options.me.bytes, sizeof(options.me.bytes));
    assert_int_equal(uv_loop_init(&m->loop), 0);
    m->lease = lease_new(&options);
}

static void member_begin(struct member *m, const char *name, int lease_ms)
{
    member_begin_renewing(m, name, lease_ms, RENEW_MS);
}

static void member_end(struct member *m)
{
    lease_leave(m->lease, on_left, m);
    assert_true(loop_until(&m->loop, &m->left, 1, 5000));
    lease_free(m->lease);
    loop_end(&m->loop);
}

static int shards_of(const struct member *m)
{
    int count = 0;

    for (int i = 0; i < 16; i++)
        count += m->epochs[i] != 0;
    assert_int_equal(count, lease_shards(m->lease));
    return count;
}

/* Runs all loops until every member has as many shards as wanted; gives the milliseconds it took. */
static int64_t run_until(struct member **members, const int *wanted, size_t count, int ms)
{
    struct mono_us start = clock_mono();

    while (clock_mono().us - start.us < ms * US_PER_MS) {
        bool all = true;

        for (size_t i = 0; i < count; i++) {
            loop_for(&members[i]->loop, 5);
            all = all && shards_of(members[i]) == wanted[i];
        }
        if (all)
            return (clock_mono().us - start.us) / US_PER_MS;
    }
    for (size_t i = 0; i < count; i++)
        print_message("member %zu has %d shards, not %d\n", i, shards_of(members[i]), wanted[i]);
    fail_msg("not within %d ms", ms);
    return -1;
}

static void shards_are_shared_by_those_who_live(void **state)
{
    struct member a, b, c;
    struct member *all[] = {&a, &b, &c};

    (void)state;
    member_begin(&a, "a", LEASE_MS);
    run_until(all, (const int[]){16}, 1, 3000);
    assert_true(a.clock);
    assert_true(lease_is_live(a.lease));
    member_begin(&b, "b", LEASE_MS);
    run_until(all, (const int[]){8, 8}, 2, 3000);
    member_begin(&c, "c", LEASE_MS);
    run_until(all, (const int[]){6, 5, 5}, 3, 3000);
    /* who gave a shard up is told that it is another's: it would hear the shard's messages for ever */
    assert_int_equal(a.released, 10);
    assert_true(loop_until(&a.loop, &a.lost, 10, 3000));
    assert_true(loop_until(&b.loop, &b.lost, b.released, 3000));
    for (int i = 0; i < 16; i++)
        assert_int_equal((a.epochs[i] != 0) + (b.epochs[i] != 0) + (c.epochs[i] != 0), 1);
    member_end(&b); /* gives up in one transaction: nobody waits for a lease */
    all[1] = &c;
    assert_true(run_until(all, (const int[]){8, 8}, 2, 3000) < LEASE_MS);
    member_end(&a);
    member_end(&c);
}

static void a_frozen_owner_loses_its_shards_and_is_told_when_it_wakes(void **state)
{
    struct member a, b;
    struct member *both[] = {&a, &b}, *only_b[] = {&b};
    int64_t took, epochs[16];

    (void)state;
    member_begin(&a, "a", LEASE_MS);
    member_begin(&b, "b", LEASE_MS);
    run_until(both, (const int[]){8, 8}, 2, 3000);
    memcpy(epochs, a.epochs, sizeof(epochs));
    took = run_until(only_b, (const int[]){16}, 1, 5000); /* a's loop does not run */
    assert_true(took <= LEASE_MS + 2 * RENEW_MS + 300);
    for (int i = 0; i < 16; i++)
        if (epochs[i] != 0)
            assert_true(b.epochs[i] > epochs[i]);
    assert_false(lease_is_live(a.lease));
    run_until(both, (const int[]){8, 8}, 2, 5000); /* it wakes, is told, and gets its share again */
    for (int i = 0; i < 16; i++)
        assert_true(a.epochs[i] == 0 || a.epochs[i] > epochs[i]);
    member_end(&a);
    member_end(&b);
}

static void a_half_sent_batch_of_a_dead_owner_does_not_keep_its_shard(void **state)
{
    struct pg_session *holder = must_open(url), *admin = must_open(db.url);
    struct member a;
    struct member *all[] = {&a};
    struct err err;

    (void)state;
    must_script(admin,
                "UPDATE shard SET incarnation = '22222222-2222-2222-2222-222222222222', epoch = 100 WHERE shard = 5");
    must_script(holder, "BEGIN; SELECT shard_guard('22222222-2222-2222-2222-222222222222', '{5}', '{100}')");
    member_begin(&a, "a", LEASE_MS);
    run_until(all, (const int[]){15}, 1, 2000);
    run_until(all, (const int[]){16}, 1, 5000);
    assert_int_equal(a.epochs[5], 101);
    assert_int_not_equal(pg_session_script(holder, "COMMIT", &err), ERR_OK); /* its connection was ended */
    member_end(&a);
    pg_session_close(holder);
    pg_session_close(admin);
}

static void a_running_batch_keeps_its_shard_until_it_has_ended(void **state)
{
    struct pg_session *holder = must_open(url), *admin = must_open(db.url);
    struct member a;
    struct member *all[] = {&a};

    (void)state;
    must_script(admin,
                "UPDATE shard SET incarnation = '22222222-2222-2222-2222-222222222222', epoch = 200 WHERE shard = 5");
    must_script(holder, "BEGIN; SELECT shard_guard('22222222-2222-2222-2222-222222222222', '{5}', '{200}')");
    member_begin(&a, "a", LEASE_MS);
    run_until(all, (const int[]){15}, 1, 2000);
    loop_for(&a.loop, 500);
    assert_int_equal(shards_of(&a), 15);
    must_script(holder, "COMMIT");
    assert_true(run_until(all, (const int[]){16}, 1, 3000) < 1000);
    member_end(&a);
    pg_session_close(holder);
    pg_session_close(admin);
}

static void whoever_takes_the_name_replaces_the_former(void **state)
{
    struct member old, new;
    struct member *first[] = {&old}, *second[] = {&new};

    (void)state;
    member_begin(&old, "same", LEASE_MS);
    run_until(first, (const int[]){16}, 1, 3000);
    member_begin(&new, "same", LEASE_MS);
    run_until(second, (const int[]){16}, 1, 3000); /* at once: the former's lease is gone with its row */
    assert_true(loop_until(&old.loop, &old.replaced, 1, 3000));
    assert_int_equal(shards_of(&old), 0);
    lease_free(old.lease);
    loop_end(&old.loop);
    member_end(&new);
}

static void a_lost_connection_costs_no_shard(void **state)
{
    struct pg_session *admin = must_open(db.url);
    struct member a;
    struct member *all[] = {&a};
    int64_t epochs[16];

    (void)state;
    member_begin(&a, "a", LEASE_MS);
    run_until(all, (const int[]){16}, 1, 3000);
    memcpy(epochs, a.epochs, sizeof(epochs));
    for (int i = 0; i < 3; i++) {
        must_script(admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = "
                           "'ropewalk-scheduler lease' AND datname = current_database()");
        loop_for(&a.loop, 400);
    }
    assert_int_equal(shards_of(&a), 16);
    assert_memory_equal(epochs, a.epochs, sizeof(epochs));
    assert_true(lease_is_live(a.lease));
    member_end(&a);
    pg_session_close(admin);
}

static void a_check_is_answered_also_without_changes(void **state)
{
    struct member a;
    struct member *all[] = {&a};
    int told;

    (void)state;
    member_begin(&a, "a", LEASE_MS);
    run_until(all, (const int[]){16}, 1, 3000);
    loop_for(&a.loop, 3 * RENEW_MS);
    told = a.told;
    lease_check(a.lease);
    assert_true(loop_until(&a.loop, &a.told, told + 1, 1000));
    loop_for(&a.loop, 3 * RENEW_MS);
    assert_int_equal(a.told, told + 1);
    member_end(&a);
}

/* The lease would be renewed after a minute. */
static void news_are_told_at_once_also_while_a_renewal_is_under_way(void **state)
{
    struct member a;
    struct member *all[] = {&a};
    int before;

    (void)state;
    member_begin_renewing(&a, "a", 120000, 60000);
    run_until(all, (const int[]){16}, 1, 3000);
    loop_for(&a.loop, 3 * RENEW_MS);
    before = a.renewals;
    lease_has_news(a.lease);
    while (a.renewals == before) /* until it is sent; its answer has not come */
        uv_run(&a.loop, UV_RUN_ONCE);
    lease_has_news(a.lease);
    assert_true(loop_until(&a.loop, &a.renewals, before + 2, 5000));
    loop_for(&a.loop, 3 * RENEW_MS);
    assert_int_equal(a.renewals, before + 2);
    member_end(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_are_shared_by_those_who_live),
        cmocka_unit_test(a_frozen_owner_loses_its_shards_and_is_told_when_it_wakes),
        cmocka_unit_test(a_half_sent_batch_of_a_dead_owner_does_not_keep_its_shard),
        cmocka_unit_test(a_running_batch_keeps_its_shard_until_it_has_ended),
        cmocka_unit_test(whoever_takes_the_name_replaces_the_former),
        cmocka_unit_test(a_lost_connection_costs_no_shard),
        cmocka_unit_test(a_check_is_answered_also_without_changes),
        cmocka_unit_test(news_are_told_at_once_also_while_a_renewal_is_under_way),
    };

    return cmocka_run_group_tests_name("lease", tests, make_database, drop_database);
}
