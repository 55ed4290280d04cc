/* The contract of the store, third part: what concurrency keys do with what is asked of them. */
#include "tests/contract/store_kit.h"
#include "tests/contract/store_scenarios.h"

#include "common/base/banned.h"

static struct sched_admission_row ask(struct run_id key, struct run_id run, uint32_t seq, uint32_t bound,
                                      struct str mode)
{
    return (struct sched_admission_row){.shard = SHARD,
                                        .key = key,
                                        .run = run,
                                        .organisation = 1,
                                        .seq = seq,
                                        .bound = bound,
                                        .mode = mode,
                                        .workflow = STR("w"),
                                        .name = STR("\"k\\u0000\"")};
}

static struct sched_admission_row release(struct run_id key, struct run_id run, uint32_t seq)
{
    struct sched_admission_row row = ask(key, run, seq, 0, STR_NONE);

    row.release = true;
    return row;
}

/* What is told to whom: "slot_grant 0:3, cancel 1", runs by their place among `runs`; each word is taken away. */
static const char *told(const struct sched_admission_row *rows, size_t count, const struct run_id *runs,
                        size_t run_count)
{
    static char text[512];
    struct sched_batch batch = {.admission_count = count, .admissions = rows};
    struct sched_command_key keys[16];
    size_t len = 0;

    assert_commits(&batch);
    (void)fetched();
    assert_true(heard.command_count <= 16);
    text[0] = '\0';
    for (size_t i = 0; i < heard.command_count; i++) {
        const struct sched_command *c = &heard.command_rows[i];
        struct str seq = jt_get(c->body, "seq"), refused = jt_get(c->body, "refused");
        size_t who = 0;

        while (who < run_count && !run_id_eq(runs[who], c->run))
            who++;
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s" STR_FMT " %zu%s" STR_FMT "%s", i == 0 ? "" : ", ",
                                STR_ARG(c->kind), who, seq.ptr == NULL ? "" : ":", STR_ARG(seq),
                                refused.ptr == NULL ? "" : " refused");
        keys[i] = (struct sched_command_key){SHARD, c->id};
    }
    batch = (struct sched_batch){.command_delete_count = heard.command_count, .command_deletes = keys};
    assert_commits(&batch);
    return text;
}

#define ASK_MAX 4
struct game {
    struct run_id key, runs[ASK_MAX];
};

static struct game begin(void)
{
    struct game g = {.key = new_id(SHARD)};

    for (size_t i = 0; i < ASK_MAX; i++)
        g.runs[i] = new_run();
    return g;
}

#define assert_told(g, rows, count, text) assert_string_equal(told((rows), (count), (g).runs, ASK_MAX), (text))

static void a_slot_goes_to_who_asked_first_and_no_more_than_there_are(void **state)
{
    struct game g = begin();
    struct sched_admission_row rows[ASK_MAX];

    (void)state;
    for (uint32_t i = 0; i < ASK_MAX; i++)
        rows[i] = ask(g.key, g.runs[i], 3 + i, 2, STR("queue"));
    assert_told(g, rows, ASK_MAX, "slot_grant 0:3, slot_grant 1:4");
    rows[0] = release(g.key, g.runs[1], 9);
    assert_told(g, rows, 1, "slot_grant 2:5");
    rows[0] = release(g.key, g.runs[3], 9); /* it waits no more */
    rows[1] = release(g.key, g.runs[0], 9);
    assert_told(g, rows, 2, "");
    rows[0] = release(g.key, g.runs[2], 9);
    rows[1] = ask(g.key, g.runs[3], 12, 1, STR("queue"));
    assert_told(g, rows, 2, "slot_grant 3:12");
}

static void whom_the_keys_have_told_something_is_in_the_outcome(void **state)
{
    struct game g = begin();
    struct sched_admission_row row = ask(g.key, g.runs[0], 1, 1, STR("queue"));
    struct sched_batch batch = {.admission_count = 1, .admissions = &row};

    (void)state;
    assert_commits(&batch);
    assert_int_equal(heard.outcome.told_count, 1);
    batch = (struct sched_batch){0};
    assert_commits(&batch);
    assert_int_equal(heard.outcome.told_count, 0);
}

static void asking_twice_and_giving_back_twice_change_nothing(void **state)
{
    struct game g = begin();
    struct sched_admission_row rows[2] = {ask(g.key, g.runs[0], 1, 1, STR("queue")),
                                          ask(g.key, g.runs[1], 1, 1, STR("queue"))};

    (void)state;
    assert_told(g, rows, 2, "slot_grant 0:1");
    assert_told(g, rows, 2, "slot_grant 0:1"); /* the first is told again */
    rows[0] = release(g.key, g.runs[0], 5);
    assert_told(g, rows, 1, "slot_grant 1:1");
    assert_told(g, rows, 1, "");
    rows[0] = release(g.key, g.runs[1], 1); /* of before it asked */
    rows[1] = ask(g.key, g.runs[2], 1, 1, STR("queue"));
    assert_told(g, rows, 2, "");
}

static void skip_and_cancel_oldest_are_told_so(void **state)
{
    struct game g = begin();
    struct sched_admission_row rows[2] = {ask(g.key, g.runs[0], 1, 1, STR("skip")),
                                          ask(g.key, g.runs[1], 2, 1, STR("skip"))};

    (void)state;
    assert_told(g, rows, 2, "slot_grant 0:1, slot_grant 1:2 refused");
    rows[0] = ask(g.key, g.runs[2], 3, 1, STR("cancel_oldest"));
    assert_told(g, rows, 1, "cancel 0");
    rows[0] = ask(g.key, g.runs[3], 4, 1, STR("cancel_oldest"));
    assert_told(g, rows, 1, "cancel 2"); /* the first has been told */
    rows[0] = release(g.key, g.runs[0], 9);
    assert_told(g, rows, 1, "slot_grant 3:4"); /* not to who is about to end */
    rows[0] = release(g.key, g.runs[2], 9);
    assert_told(g, rows, 1, "");
}

static void who_has_ended_gets_no_slot_and_who_takes_one_gets_it(void **state)
{
    struct game g = begin();
    struct sched_admission_row rows[3] = {ask(g.key, g.runs[0], 1, 1, STR("queue")),
                                          ask(g.key, g.runs[1], 1, 1, STR("queue")),
                                          ask(g.key, new_id(SHARD), 1, 1, STR("queue"))};
    struct sched_run_row end = {.run = g.runs[0], .organisation = 1, .status = RUN_CANCELLED, .ended_at = now_wall()};
    struct sched_batch batch = {.run_count = 1, .runs = &end};

    (void)state;
    assert_commits(&batch);
    assert_told(g, rows, 3, "slot_grant 1:1");
    rows[0] = ask(g.key, g.runs[2], 7, 0, STR("take"));
    rows[1] = ask(g.key, g.runs[3], 1, 1, STR("queue"));
    assert_told(g, rows, 2, "");
    rows[0] = release(g.key, g.runs[1], 5);
    assert_told(g, rows, 1, ""); /* the one that was taken counts */
    rows[0] = release(g.key, g.runs[2], 9);
    assert_told(g, rows, 1, "slot_grant 3:1");
}

static void each_asks_by_its_own_bound(void **state)
{
    struct game g = begin();
    struct sched_admission_row rows[3] = {ask(g.key, g.runs[0], 1, 1, STR("queue")),
                                          ask(g.key, g.runs[1], 1, 2, STR("queue")),
                                          ask(g.key, g.runs[2], 1, 0, STR("queue"))};

    (void)state;
    assert_told(g, rows, 3, "slot_grant 0:1, slot_grant 1:1, slot_grant 2:1"); /* the organisation has no limit */
    rows[0] = ask(g.key, g.runs[3], 1, 3, STR("queue"));
    assert_told(g, rows, 1, "");
    rows[0] = release(g.key, g.runs[0], 2);
    assert_told(g, rows, 1, "slot_grant 3:1");
}

#define WAITING 150
#define ADMITTED_MAX 100

/* How many of the commands that are there grant a slot; all are taken away but those of the key, of which there is one
 * or none. */
static size_t granted(struct run_id key, size_t *ret_of_key)
{
    struct sched_command_key keys[WAITING + 1];
    struct sched_batch batch = {.command_deletes = keys};
    size_t grants = 0;

    (void)fetched();
    assert_true(heard.command_count <= WAITING + 1);
    *ret_of_key = 0;
    for (size_t i = 0; i < heard.command_count; i++) {
        const struct sched_command *c = &heard.command_rows[i];

        grants += str_is(c->kind, "slot_grant");
        if (run_id_eq(c->run, key)) {
            assert_str(c->kind, STR("slot_release"));
            ++*ret_of_key;
        }
        keys[batch.command_delete_count++] = (struct sched_command_key){SHARD, c->id};
    }
    assert_commits(&batch);
    return grants;
}

static void many_are_let_in_by_and_by(void **state)
{
    static struct sched_admission_row rows[WAITING + 1];
    struct run_id key = new_id(SHARD);
    struct sched_batch batch = {.admission_count = WAITING + 1, .admissions = rows};
    struct sched_admission_row more[2];
    size_t of_key;

    (void)state;
    for (uint32_t i = 0; i <= WAITING; i++)
        rows[i] = ask(key, new_run(), 1, i < 2 ? 1 : 1000, STR("queue"));
    assert_commits(&batch);
    assert_int_equal(granted(key, &of_key), 1);
    assert_int_equal(of_key, 0);
    /* the second goes next, and all behind it may */
    more[0] = release(key, rows[0].run, 2);
    more[1] = release(key, rows[1].run, 2);
    batch = (struct sched_batch){.admission_count = 2, .admissions = more};
    assert_commits(&batch);
    assert_int_equal(granted(key, &of_key), ADMITTED_MAX);
    assert_int_equal(of_key, 1);
    more[0] = release(key, key, 0); /* what the key has told itself */
    batch = (struct sched_batch){.admission_count = 1, .admissions = more};
    assert_commits(&batch);
    assert_int_equal(granted(key, &of_key), WAITING - ADMITTED_MAX);
    assert_int_equal(of_key, 0);
}

const struct CMUnitTest store_admission_tests[] = {
    STORE_SCENARIO(a_slot_goes_to_who_asked_first_and_no_more_than_there_are),
    STORE_SCENARIO(whom_the_keys_have_told_something_is_in_the_outcome),
    STORE_SCENARIO(asking_twice_and_giving_back_twice_change_nothing),
    STORE_SCENARIO(skip_and_cancel_oldest_are_told_so),
    STORE_SCENARIO(who_has_ended_gets_no_slot_and_who_takes_one_gets_it),
    STORE_SCENARIO(each_asks_by_its_own_bound),
    STORE_SCENARIO(many_are_let_in_by_and_by),
};
const size_t store_admission_count = sizeof(store_admission_tests) / sizeof(store_admission_tests[0]);
