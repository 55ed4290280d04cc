/* Tasks that need secrets, between the core that publishes them and the broker: PostgreSQL's answer is this test's, and
 * the broker is. */
#include "common/seal/sealed.h"
#include "scheduler/secrets.h"
#include "scheduler/store_internal.h"
#include "tests/unit/seal/test.h"

#define ROWS_MAX 4

/* ---- PostgreSQL, which answers when the test says so ---- */

struct row {
    const char *name, *master, *wrapped, *box;
    int64_t version;
};
static struct {
    pg_done_fn done;
    void *ctx;
    struct arena *arena;
    struct str asked[ROWS_MAX];
    size_t asked_count;
    int32_t organisation;
    struct row rows[ROWS_MAX];
    size_t row_count;
} pg;

struct pg_batch *pg_batch_new(bool transaction)
{
    assert_true(transaction);
    pg.arena = arena_new(1024);
    pg.asked_count = 0;
    return (struct pg_batch *)&pg;
}
struct pg_array *pg_array_new(struct pg_batch *batch, enum pg_elem type)
{
    assert_ptr_equal(batch, &pg);
    assert_int_equal(type, PG_E_TEXT);
    return (struct pg_array *)&pg;
}
void pg_array_add(struct pg_array *array, struct pg_param value)
{
    (void)array;
    assert_in_range(pg.asked_count, 0, ROWS_MAX - 1);
    pg.asked[pg.asked_count++] = str_arena(pg.arena, (struct str){value.ptr, strlen(value.ptr)});
}
struct pg_param pg_array_param(struct pg_array *array)
{
    return (struct pg_param){.ptr = array};
}
struct pg_param pg_text(struct str s)
{
    return (struct pg_param){.ptr = s.ptr};
}
struct pg_param pg_i32(int32_t n)
{
    pg.organisation = n;
    return (struct pg_param){.ptr = &pg.organisation};
}
int pg_batch_add(struct pg_batch *batch, const char *sql, const struct pg_param *params, size_t count)
{
    (void)batch, (void)params;
    assert_non_null(strstr(sql, "FROM secret"));
    assert_int_equal(count, 2);
    return 0;
}
void pg_submit(struct pg *to, struct pg_batch *batch, pg_done_fn done, void *ctx)
{
    (void)to, (void)batch;
    pg.done = done;
    pg.ctx = ctx;
}
size_t pg_rows(const struct pg_result *res)
{
    (void)res;
    return pg.row_count;
}
struct str pg_get_str(const struct pg_result *res, size_t row, int col)
{
    const struct row *r = &pg.rows[row];
    const char *const texts[] = {r->name, NULL, r->master, r->wrapped, r->box};

    (void)res;
    return str_of(texts[col]);
}
int64_t pg_get_int(const struct pg_result *res, size_t row, int col)
{
    (void)res;
    assert_int_equal(col, 1);
    return pg.rows[row].version;
}

/* ---- the broker and the core ---- */

static struct {
    size_t count;
    char *body, *queue;
    uint64_t confirm;
    int64_t sent_at;
} published;
static size_t unconfirmed, woken;

void broker_publish(struct broker *broker, const struct sched_publish *publish, struct wall_us sent_at)
{
    (void)broker;
    mem_free(published.body);
    mem_free(published.queue);
    published.count++;
    published.body = strndup(publish->body.ptr, publish->body.len);
    published.queue = strdup(publish->queue);
    published.confirm = publish->confirm;
    published.sent_at = sent_at.us;
}
void sched_on_confirm(struct sched *sched, uint64_t confirm, enum sched_confirm outcome)
{
    (void)sched;
    assert_int_equal(outcome, SCHED_NOT_CONFIRMED);
    assert_int_equal(confirm, 77);
    unconfirmed++;
}
static void on_woken(void *ctx)
{
    (void)ctx;
    woken++;
}

static struct store store = {.options = {.woken = on_woken}};

/* Everything that is handed in is gone before the answer comes. */
static void publish_two(void)
{
    struct arena *arena = arena_new(256);
    struct sched_secret secrets[] = {{str_arena(arena, STR("/headers/a")), str_arena(arena, STR("ONE"))},
                                     {str_arena(arena, STR("/headers/\"b")), str_arena(arena, STR("TWO"))}};
    struct sched_publish publish = {.queue = arena_dup(arena, "ropewalk.task.x", 15),
                                    .type = "task",
                                    .body = str_arena(arena, STR("{\"v\":1,\"with\":{}}")),
                                    .organisation = 5,
                                    .secret_count = 2,
                                    .secrets = secrets,
                                    .persistent = true,
                                    .confirm = 77};

    secrets_publish(&store, NULL, &publish, (struct wall_us){1234});
    memset((char *)(uintptr_t)publish.body.ptr, '?', publish.body.len);
    memset((char *)(uintptr_t)secrets[0].name.ptr, '?', secrets[0].name.len);
    memset((char *)(uintptr_t)publish.queue, '?', 15);
    arena_free(arena);
}

static void answer(enum err_code rc)
{
    static const struct pg_result *const results[1] = {NULL};
    struct err err = {.code = rc, .message = "connection lost"};
    struct pg_outcome outcome = {.rc = rc, .err = &err, .results = (void *)(uintptr_t)results};

    pg.done(pg.ctx, &outcome);
    arena_free(pg.arena);
}

static int setup(void **state)
{
    (void)state;
    published.count = unconfirmed = woken = pg.row_count = 0;
    return 0;
}

static void sealed_values_go_along_where_there_are_any(void **state)
{
    (void)state;
    pg.rows[0] = (struct row){"TWO", "one", "wrapped", "box", 9};
    pg.row_count = 1;
    publish_two();
    assert_int_equal(published.count, 0); /* not before they are read */
    assert_int_equal(pg.organisation, 5);
    assert_int_equal(pg.asked_count, 2);
    assert_str(pg.asked[0], "ONE");
    assert_str(pg.asked[1], "TWO");
    answer(ERR_OK);
    assert_int_equal(published.count, 1);
    assert_int_equal(unconfirmed, 0);
    assert_string_equal(
        published.body,
        "{\"v\":1,\"with\":{},\"secrets\":[{\"pointer\":\"/headers/a\",\"name\":\"ONE\"},"
        "{\"pointer\":\"/headers/\\\"b\",\"name\":\"TWO\",\"sealed\":\"rws1:one:9:d3JhcHBlZA==:Ym94\"}]}");
    assert_string_equal(published.queue, "ropewalk.task.x");
    assert_int_equal(published.confirm, 77);
    assert_int_equal(published.sent_at, 1234);
    assert_int_equal(woken, 1);
}

static void a_task_is_not_published_without_what_could_not_be_read(void **state)
{
    (void)state;
    publish_two();
    answer(ERR_UNAVAILABLE);
    assert_int_equal(published.count, 0);
    assert_int_equal(unconfirmed, 1); /* the core publishes it again */
    assert_int_equal(woken, 1);
}

static void what_is_written_between_two_publications_is_in_the_second(void **state)
{
    (void)state;
    pg.rows[0] = (struct row){"ONE", "one", "wrapped", "old", 9};
    pg.rows[1] = (struct row){"TWO", "one", "wrapped", "box", 9};
    pg.row_count = 2;
    publish_two();
    answer(ERR_OK);
    assert_non_null(strstr(published.body, ":b2xk\"")); /* "old" */
    pg.rows[0] = (struct row){"ONE", "two", "again", "new", 10};
    publish_two();
    answer(ERR_OK);
    assert_int_equal(published.count, 2);
    assert_non_null(strstr(published.body, "rws1:two:10:YWdhaW4=:bmV3\"")); /* "new" */
    assert_null(strstr(published.body, ":b2xk\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(sealed_values_go_along_where_there_are_any, setup),
        cmocka_unit_test_setup(a_task_is_not_published_without_what_could_not_be_read, setup),
        cmocka_unit_test_setup(what_is_written_between_two_publications_is_in_the_second, setup),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    mem_free(published.body);
    mem_free(published.queue);
    return failed;
}
