/* The sandbox with programs that mean harm: each costs its own request an error, within seconds, and nobody else
 * anything. */
#include "common/base/metrics.h"
#include "tests/unit/sandbox/helper.h"
#include <signal.h>
#include <stdio.h>

static const char *const hostile[] = {
    "def f: f; f",                                    /* no end */
    "repeat(.)",                                      /* no end */
    "last(range(1e12))",                              /* no end in sight */
    "[limit(1e9; repeat(\"x\"))]",                    /* memory, or time */
    "[range(1e9)] | length",                          /* memory */
    "\"x\" * 1e10 | length",                          /* 10 GiB */
    "reduce range(60) as $i (\"x\"; . + .) | length", /* doubles for ever */
    "\"abc\" | gsub(\"\"; \"a\"; \"g\")",             /* never ends in 1.6 */
    "\"x\" | index(\"\")",                            /* aborts */
    "[range(3)] | .[nan:1]",                          /* leaves its array */
    "1 | strftime([])",                               /* aborts */
    "def f: [f]; f",                                  /* deep recursion */
    "def f(x): f(x | x); f(.)",                       /* closures on closures */
    "[recurse([.]; true)] | length",                  /* no end, growing */
    "import \"f\" as $d {search: \"/etc\"}; $d",      /* files */
    "$ENV.PATH | error",                              /* the environment */
    "input",
    "until(false; . + 1)",
    "[.[]?, .] as $x | label $out | repeat($x)",
    "reduce range(1e6) as $i (1; [.]) | tojson", /* deep value: printing recurses */
};
#define HOSTILE (sizeof(hostile) / sizeof(hostile[0]))

static void each_hostile_program_fails_alone_and_within_seconds(void **state)
{
    struct sandbox_limits limits = SANDBOX_LIMITS_DEFAULT;
    struct asked bad[HOSTILE], good[HOSTILE];
    struct bench b;

    (void)state;
    limits.wall_ms = 1000; /* half of what it is, for the test's sake */
    bench_init(&b, 2, &limits);
    warm_up(&b, 2);
    for (size_t i = 0; i < HOSTILE; i++) {
        ask(&b, &bad[i], (int32_t)i, hostile[i], "1");
        ask(&b, &good[i], 1000 + (int32_t)i, ". + 1", "1");
        wait_for(&b, &bad[i]);
        wait_for(&b, &good[i]);
        if (bad[i].status == SANDBOX_OK || bad[i].took_ms > 5000)
            fail_msg("%s: status %d after %.0f ms: %s", hostile[i], (int)bad[i].status, bad[i].took_ms, bad[i].text);
        if (good[i].status != SANDBOX_OK || good[i].took_ms > 2500)
            fail_msg("beside %s: %s after %.0f ms", hostile[i], good[i].text, good[i].took_ms);
    }
    bench_deinit(&b);
}

static void what_waits_behind_a_killed_program_runs_again(void **state)
{
    int64_t killed = metric_get(METRIC_SANDBOX_KILLED);
    struct asked bad, behind[50];
    struct bench b;

    (void)state;
    bench_init(&b, 1, NULL);
    warm_up(&b, 1);
    ask(&b, &bad, 1, "1 | strftime([])", "1");
    for (size_t i = 0; i < 50; i++)
        ask(&b, &behind[i], i % 2 == 0 ? 1 : 2, ". + 1", "1");
    wait_for_all(&b);
    assert_int_equal(bad.status, SANDBOX_FAILED);
    assert_non_null(strstr(bad.text, "signal"));
    for (size_t i = 0; i < 50; i++)
        assert_string_equal(behind[i].text, "2");
    assert_int_equal(metric_get(METRIC_SANDBOX_KILLED), killed + 1);
    assert_true(sandbox_stats(b.sandbox).processes >= 1);
    bench_deinit(&b);
}

/* Some of their requests have been sent to the child that is held up, behind the program that does it. */
static void others_do_not_wait_for_a_program_without_end(void **state)
{
    struct asked bad, others[20];
    double worst = 0;
    struct bench b;

    (void)state;
    bench_init(&b, 2, NULL);
    warm_up(&b, 2);
    ask(&b, &bad, 0, "def f: f; f", "1");
    for (int i = 0; i < 20; i++)
        ask(&b, &others[i], 2 + i % 2, ".", "1"); /* on either child; each compiles once */
    wait_for_all(&b);
    assert_int_equal(bad.status, SANDBOX_FAILED);
    assert_string_equal(bad.text, "the expression took longer than 2000 ms");
    assert_true(bad.took_ms >= 1900);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(others[i].status, SANDBOX_OK);
        worst = others[i].took_ms > worst ? others[i].took_ms : worst;
        assert_true(others[i].order < bad.order);
    }
    print_message("          others waited at most %.0f ms\n", worst);
    bench_deinit(&b);
}

static void after_three_strikes_an_organisation_has_a_child_of_its_own(void **state)
{
    struct asked a, good;
    struct bench b;

    (void)state;
    bench_init(&b, 1, NULL);
    warm_up(&b, 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(sandbox_stats(b.sandbox).own, 0);
        ask(&b, &a, 5, "1 | strftime([])", "1");
        wait_for(&b, &a);
        assert_int_equal(a.status, SANDBOX_FAILED);
    }
    assert_int_equal(sandbox_stats(b.sandbox).own, 1);
    warm_up(&b, 1);
    ask(&b, &a, 5, "def f: f; f", "1");
    ask(&b, &good, 6, ".", "1");
    wait_for(&b, &good);
    assert_false(a.done);
    assert_true(good.took_ms < 500);
    wait_for(&b, &a);
    ask(&b, &good, 5, ". + 1", "1");
    wait_for(&b, &good);
    assert_string_equal(good.text, "2");
    bench_deinit(&b);
}

static void many_hostile_organisations_do_not_stop_the_others(void **state)
{
    struct asked bad[12], good[12];
    struct bench b;

    (void)state;
    bench_init(&b, 2, NULL);
    warm_up(&b, 2);
    for (int i = 0; i < 12; i++)
        ask(&b, &bad[i], i, i % 2 == 0 ? "def f: f; f" : "[range(1e9)]", "1");
    for (int i = 0; i < 12; i++)
        ask(&b, &good[i], 100 + i, ".", "1");
    wait_for_all(&b);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(bad[i].status, SANDBOX_FAILED);
        assert_int_equal(good[i].status, SANDBOX_OK);
    }
    bench_deinit(&b);
}

static void a_child_killed_from_outside_is_nobodys_fault(void **state)
{
    struct asked a;
    struct bench b;
    int pids[8];
    unsigned count;

    (void)state;
    bench_init(&b, 1, NULL);
    warm_up(&b, 1);
    ask(&b, &a, 1, "last(range(300000))", "1");
    for (int i = 0; i < 5; i++)
        (void)uv_run(&b.loop, UV_RUN_NOWAIT);
    count = child_pids(pids, 8);
    assert_int_equal(count, 1);
    kill(pids[0], SIGKILL);
    wait_for(&b, &a);
    assert_string_equal(a.text, "299999");
    assert_int_equal(sandbox_stats(b.sandbox).own, 0);
    bench_deinit(&b);
}

static void an_idle_child_that_dies_is_replaced(void **state)
{
    struct asked a;
    struct bench b;
    int pids[8];

    (void)state;
    bench_init(&b, 2, NULL);
    warm_up(&b, 2);
    assert_int_equal(child_pids(pids, 8), 2);
    kill(pids[0], SIGTERM);
    kill(pids[1], SIGKILL);
    for (unsigned i = 0; i < 2; i++) {
        ask(&b, &a, (int32_t)i, ".", "1");
        wait_for(&b, &a);
        assert_string_equal(a.text, "1");
    }
    assert_int_equal(child_pids(pids, 8), 2);
    bench_deinit(&b);
}

RUN_WITH_CHILDREN(TEST(each_hostile_program_fails_alone_and_within_seconds),
                  TEST(what_waits_behind_a_killed_program_runs_again),
                  TEST(others_do_not_wait_for_a_program_without_end),
                  TEST(after_three_strikes_an_organisation_has_a_child_of_its_own),
                  TEST(many_hostile_organisations_do_not_stop_the_others),
                  TEST(a_child_killed_from_outside_is_nobodys_fault), TEST(an_idle_child_that_dies_is_replaced))
