/* The asynchronous PostgreSQL connection against a real server: pipelines, errors, lost connections, types. */
#include "tests/io/pg_fixture.h"
#include "tests/io/pg_proxy.h"
#include <unistd.h>

struct fixture {
    uv_loop_t loop;
    struct pg *pg;
    int ups, downs;
    struct err down;
};

static void on_up(void *ctx)
{
    ((struct fixture *)ctx)->ups++;
}

static void on_down(void *ctx, const struct err *err)
{
    struct fixture *f = ctx;

    f->downs++;
    f->down = *err;
}

static struct pg_options options_for(struct fixture *f, const char *url)
{
    return (struct pg_options){.loop = &f->loop,
                               .url = url,
                               .application = "test_pg",
                               .statement_timeout_ms = 2000,
                               .prepared = true,
                               .on_up = on_up,
                               .on_down = on_down,
                               .ctx = f};
}

static void begin(struct fixture *f, const char *url)
{
    struct pg_options options;

    *f = (struct fixture){0};
    assert_int_equal(uv_loop_init(&f->loop), 0);
    options = options_for(f, url);
    f->pg = pg_new(&options);
}

static void end(struct fixture *f)
{
    pg_free(f->pg);
    loop_end(&f->loop);
}

static void run(struct fixture *f, struct pg_batch *batch, struct seen *seen)
{
    *seen = (struct seen){0};
    pg_submit(f->pg, batch, seen_fill, seen);
    assert_int_equal(seen->calls, 0);
    assert_true(loop_until(&f->loop, &seen->calls, 1, 10000));
    assert_int_equal(seen->calls, 1);
}

static void run_sql(struct fixture *f, const char *sql, struct seen *seen)
{
    struct pg_batch *batch = pg_batch_new(true);

    pg_batch_add0(batch, sql);
    run(f, batch, seen);
}

static void must(struct fixture *f, const char *sql)
{
    struct seen seen;

    run_sql(f, sql, &seen);
    if (seen.rc != ERR_OK)
        fail_msg("%s: %s", sql, seen.err.message);
}

static int64_t number(struct fixture *f, const char *sql)
{
    struct seen seen;

    run_sql(f, sql, &seen);
    if (seen.rc != ERR_OK)
        fail_msg("%s: %s", sql, seen.err.message);
    return seen.ints[0];
}

static void batches_are_pipelined_and_answered_in_order(void **state)
{
    enum { N = 500 };
    static struct seen seen[N];
    struct fixture f;
    int done = 0;

    (void)state;
    memset(seen, 0, sizeof(seen));
    begin(&f, test_url());
    for (int i = 0; i < N; i++) {
        struct pg_batch *batch = pg_batch_new(i % 2 == 0);

        pg_add(batch, "SELECT $1::int8 + 1", pg_i64(i));
        pg_add(batch, "SELECT $1::text || '!'", pg_text(STR("x")));
        pg_submit(f.pg, batch, seen_fill, &seen[i]);
    }
    assert_int_equal(pg_in_flight(f.pg), N);
    assert_true(loop_until(&f.loop, &seen[N - 1].calls, 1, 10000));
    for (int i = 0; i < N; i++) {
        done += seen[i].calls;
        assert_int_equal(seen[i].rc, ERR_OK);
        assert_int_equal(seen[i].ints[0], i + 1);
        assert_string_equal(seen[i].text[1], "x!");
    }
    assert_int_equal(done, N);
    assert_int_equal(pg_in_flight(f.pg), 0);
    assert_int_equal(f.ups, 1);
    assert_int_equal(f.downs, 0);
    /* each text was prepared once */
    assert_int_equal(number(&f, "SELECT count(*) FROM pg_prepared_statements"), 3);
    end(&f);
}

static void an_error_rolls_its_batch_back_and_no_other(void **state)
{
    struct fixture f;
    struct seen first, second, third;
    struct pg_batch *a = pg_batch_new(true), *b = pg_batch_new(true), *c = pg_batch_new(true);

    (void)state;
    begin(&f, test_url());
    must(&f, "CREATE TEMP TABLE t (id int PRIMARY KEY, v text)");
    first = second = third = (struct seen){0};
    pg_add(a, "INSERT INTO t VALUES ($1, $2)", pg_i32(1), pg_text(STR("one")));
    pg_add(b, "INSERT INTO t VALUES ($1, $2)", pg_i32(2), pg_text(STR("two")));
    pg_batch_sample_clock(b);
    pg_add(b, "INSERT INTO t VALUES ($1, $2)", pg_i32(1), pg_text(STR("again")));
    pg_add(b, "INSERT INTO t VALUES ($1, $2)", pg_i32(3), pg_text(STR("three")));
    pg_add(c, "INSERT INTO t VALUES ($1, $2)", pg_i32(4), pg_text(STR("four")));
    pg_submit(f.pg, a, seen_fill, &first);
    pg_submit(f.pg, b, seen_fill, &second);
    pg_submit(f.pg, c, seen_fill, &third);
    assert_true(loop_until(&f.loop, &third.calls, 1, 10000));
    assert_int_equal(first.rc, ERR_OK);
    assert_int_equal(second.rc, ERR_CONFLICT);
    assert_string_equal(second.err.sqlstate, "23505");
    assert_int_equal(second.failed_statement, 1);
    assert_false(second.unknown);
    assert_int_equal(third.rc, ERR_OK);
    assert_int_equal(number(&f, "SELECT sum(id) FROM t"), 5);
    end(&f);
}

static void errors_are_told_apart(void **state)
{
    static const struct {
        const char *sql;
        enum err_code rc;
        const char *sqlstate;
    } rows[] = {
        {"DO $$ BEGIN RAISE EXCEPTION 'fenced' USING ERRCODE = 'RW001'; END $$", ERR_STALE, "RW001"},
        {"SELECT '{'::json", ERR_REFUSED_DATA, "22P02"},
        {"SELECT 1 / 0", ERR_REFUSED_DATA, "22012"},
        {"DO $$ BEGIN RAISE EXCEPTION 'dead' USING ERRCODE = '40P01'; END $$", ERR_BUSY, "40P01"},
        {"SELECT pg_sleep(8)", ERR_BUSY, "57014"}, /* the connection's statement_timeout */
        {"SELECT * FROM there_is_no_such_table", ERR_INTERNAL, "42P01"},
        {"SELEKT", ERR_INTERNAL, "42601"},
    };
    struct fixture f;
    struct seen seen;

    (void)state;
    begin(&f, test_url());
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        run_sql(&f, rows[i].sql, &seen);
        assert_int_equal(seen.rc, rows[i].rc);
        assert_string_equal(seen.err.sqlstate, rows[i].sqlstate);
        assert_int_equal(seen.failed_statement, 0);
    }
    /* a failed PREPARE is told by its own error, also the second time */
    run_sql(&f, "SELECT * FROM there_is_no_such_table", &seen);
    assert_string_equal(seen.err.sqlstate, "42P01");
    must(&f, "SELECT 1");
    end(&f);
}

static void a_deferred_error_at_the_commit_is_an_error(void **state)
{
    struct fixture f;
    struct seen seen, next = {0};
    struct pg_batch *batch = pg_batch_new(true), *after = pg_batch_new(true);

    (void)state;
    begin(&f, test_url());
    must(&f, "CREATE TEMP TABLE d (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
    pg_batch_add0(batch, "INSERT INTO d VALUES (1), (1)");
    pg_batch_add0(after, "SELECT count(*) FROM d");
    seen = (struct seen){0};
    pg_submit(f.pg, batch, seen_fill, &seen);
    pg_submit(f.pg, after, seen_fill, &next);
    assert_true(loop_until(&f.loop, &next.calls, 1, 10000));
    assert_int_equal(seen.rc, ERR_CONFLICT);
    assert_int_equal(seen.failed_statement, -1);
    assert_int_equal(next.rc, ERR_OK);
    assert_int_equal(next.ints[0], 0);
    end(&f);
}

static void a_killed_backend_is_replaced_and_its_batch_is_not_unknown(void **state)
{
    struct fixture f;
    struct seen first = {0}, second = {0}, later = {0};
    struct pg_batch *a = pg_batch_new(true), *b = pg_batch_new(true), *c;

    (void)state;
    begin(&f, test_url());
    must(&f, "DROP TABLE IF EXISTS public.killed");
    must(&f, "CREATE TABLE public.killed (id int)");
    pg_batch_add0(a, "INSERT INTO public.killed VALUES (1)");
    pg_batch_add0(a, "SELECT pg_terminate_backend(pg_backend_pid())");
    pg_batch_add0(a, "INSERT INTO public.killed VALUES (2)");
    pg_batch_add0(b, "INSERT INTO public.killed VALUES (3)");
    pg_submit(f.pg, a, seen_fill, &first);
    pg_submit(f.pg, b, seen_fill, &second);
    assert_true(loop_until(&f.loop, &second.calls, 1, 10000));
    assert_int_equal(first.rc, ERR_UNAVAILABLE);
    assert_string_equal(first.err.sqlstate, "57P01");
    assert_false(first.unknown);
    assert_int_equal(first.failed_statement, 1);
    assert_int_equal(second.rc, ERR_UNAVAILABLE);
    assert_false(second.unknown); /* the server ended in the batch before it */
    assert_int_equal(f.downs, 1);
    c = pg_batch_new(true);
    pg_batch_add0(c, "SELECT count(*) FROM public.killed");
    run(&f, c, &later);
    assert_int_equal(later.rc, ERR_OK);
    assert_int_equal(later.ints[0], 0);
    assert_int_equal(f.ups, 2);
    must(&f, "DROP TABLE public.killed");
    end(&f);
}

/* The same while the batch's statements are still being prepared, which waits for the table's lock. */
static void a_backend_killed_while_it_prepares_has_done_nothing(void **state)
{
    struct pg_session *admin = NULL, *killer = NULL;
    struct fixture f;
    struct seen seen = {0};
    struct err err;
    struct pg_batch *batch = pg_batch_new(true);

    (void)state;
    begin(&f, test_url());
    assert_int_equal(pg_session_open(test_url(), &admin, &err), ERR_OK);
    assert_int_equal(pg_session_open(test_url(), &killer, &err), ERR_OK);
    must(&f, "DROP TABLE IF EXISTS public.locked");
    must(&f, "CREATE TABLE public.locked (id int)");
    assert_int_equal(pg_session_script(admin, "BEGIN; LOCK TABLE public.locked", &err), ERR_OK);
    pg_batch_add0(batch, "INSERT INTO public.locked VALUES (1)");
    pg_submit(f.pg, batch, seen_fill, &seen);
    loop_for(&f.loop, 100);
    assert_int_equal(pg_session_script(killer,
                                       "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name "
                                       "= 'test_pg' AND query LIKE 'INSERT INTO public.locked%'",
                                       &err),
                     ERR_OK);
    assert_true(loop_until(&f.loop, &seen.calls, 1, 5000));
    assert_int_equal(seen.rc, ERR_UNAVAILABLE);
    assert_false(seen.unknown);
    assert_int_equal(seen.failed_statement, 0);
    assert_int_equal(pg_session_script(admin, "COMMIT", &err), ERR_OK);
    must(&f, "DROP TABLE public.locked");
    pg_session_close(admin);
    pg_session_close(killer);
    end(&f);
}

static void a_lost_answer_to_a_commit_is_unknown(void **state)
{
    struct fixture f;
    struct proxy proxy;
    struct seen seen = {0}, again;
    struct pg_batch *batch = pg_batch_new(true);
    char url[512];

    (void)state;
    *(&f) = (struct fixture){0};
    assert_int_equal(uv_loop_init(&f.loop), 0);
    proxy_start(&proxy, test_url(), url, sizeof(url));
    struct pg_options options = options_for(&f, url);
    f.pg = pg_new(&options);
    must(&f, "DROP TABLE IF EXISTS public.undecided");
    must(&f, "CREATE TABLE public.undecided (id int)");
    must(&f, "SELECT 1 FROM public.undecided");

    proxy_hold_answers(&proxy, true); /* what is sent arrives, what comes back is lost */
    pg_batch_add0(batch, "INSERT INTO public.undecided VALUES (1)");
    pg_submit(f.pg, batch, seen_fill, &seen);
    loop_for(&f.loop, 300);
    assert_int_equal(seen.calls, 0);
    proxy_cut(&proxy);
    proxy_hold_answers(&proxy, false);
    assert_true(loop_until(&f.loop, &seen.calls, 1, 10000));
    assert_int_equal(seen.rc, ERR_UNAVAILABLE);
    assert_true(seen.unknown);
    run_sql(&f, "SELECT count(*) FROM public.undecided", &again);
    assert_int_equal(again.rc, ERR_OK);
    assert_int_equal(again.ints[0], 1); /* it had happened */
    assert_int_equal(f.ups, 2);
    must(&f, "DROP TABLE public.undecided");
    end(&f);
    proxy_stop(&proxy);
}

static void a_silent_server_is_given_up(void **state)
{
    struct fixture f = {0};
    struct proxy proxy;
    struct seen seen = {0};
    struct pg_options options;
    struct pg_batch *batch = pg_batch_new(true);
    char url[512];
    struct mono_us start;

    (void)state;
    assert_int_equal(uv_loop_init(&f.loop), 0);
    proxy_start(&proxy, test_url(), url, sizeof(url));
    options = options_for(&f, url);
    options.answer_timeout_ms = 500;
    f.pg = pg_new(&options);
    must(&f, "SELECT 1");
    proxy_hold_answers(&proxy, true);
    start = clock_mono();
    pg_batch_add0(batch, "SELECT 2");
    pg_submit(f.pg, batch, seen_fill, &seen);
    assert_true(loop_until(&f.loop, &seen.calls, 1, 5000));
    assert_int_equal(seen.rc, ERR_UNAVAILABLE);
    assert_true(seen.unknown);
    assert_in_range((uint64_t)(clock_mono().us - start.us), 450 * US_PER_MS, 2000 * US_PER_MS);
    proxy_cut(&proxy);
    proxy_hold_answers(&proxy, false);
    must(&f, "SELECT 3");
    end(&f);
    proxy_stop(&proxy);
}

static void without_a_server_batches_wait_and_then_fail(void **state)
{
    struct fixture f = {0};
    struct seen seen = {0};
    struct pg_options options;
    struct pg_batch *batch = pg_batch_new(false);

    (void)state;
    assert_int_equal(uv_loop_init(&f.loop), 0);
    options = options_for(&f, "postgresql://nobody@127.0.0.1:1/nowhere");
    options.wait_ms = 300;
    f.pg = pg_new(&options);
    pg_batch_add0(batch, "SELECT 1");
    pg_submit(f.pg, batch, seen_fill, &seen);
    assert_true(loop_until(&f.loop, &seen.calls, 1, 5000));
    assert_int_equal(seen.rc, ERR_UNAVAILABLE);
    assert_false(seen.unknown);
    assert_int_equal(f.ups, 0);
    assert_int_equal(f.downs, 1); /* once, however often it was tried */
    end(&f);
}

static void names_of_hosts_are_looked_up(void **state)
{
    struct fixture f;
    char by_name[512];
    const char *url = test_url(), *at = strstr(url, "@127.0.0.1:");

    (void)state;
    assert_non_null(at);
    snprintf(by_name, sizeof(by_name), "%.*s@localhost:%s", (int)(at - url), url, at + strlen("@127.0.0.1:"));
    begin(&f, by_name); /* where it is ::1 too, nobody listens there: the next address is tried */
    must(&f, "SELECT 1");
    end(&f);
    begin(&f, "postgresql://x@no.such.host.invalid/x");
    assert_true(loop_until(&f.loop, &f.downs, 1, 6000));
    assert_non_null(strstr(f.down.message, "no.such.host.invalid"));
    end(&f);
    begin(&f, "postgresql://x@no.such.host.invalid/x");
    end(&f); /* freed while it is looked up */
}

static void a_bad_url_is_told_without_its_password(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, "postgresql://user:hunter2@[:::/x?nonsense=1");
    assert_true(loop_until(&f.loop, &f.downs, 1, 5000));
    assert_null(strstr(f.down.message, "hunter2"));
    end(&f);
}

static void what_is_in_flight_fails_when_the_connection_is_freed(void **state)
{
    struct fixture f;
    struct seen seen = {0}, waiting = {0};
    struct pg_batch *batch = pg_batch_new(true), *second = pg_batch_new(true);

    (void)state;
    begin(&f, test_url());
    must(&f, "SELECT 1");
    pg_batch_add0(batch, "SELECT pg_sleep(3)");
    pg_batch_add0(second, "SELECT 1");
    pg_submit(f.pg, batch, seen_fill, &seen);
    pg_submit(f.pg, second, seen_fill, &waiting);
    loop_for(&f.loop, 50);
    end(&f);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.rc, ERR_UNAVAILABLE);
    assert_int_equal(waiting.calls, 1);
}

static void check_arrays(void *ctx, const struct pg_outcome *outcome)
{
    int *called = ctx;
    const struct pg_result *res;

    assert_int_equal(outcome->rc, ERR_OK);
    res = outcome->results[0];
    assert_int_equal(pg_rows(res), 3);
    for (size_t row = 0; row < 3; row++) {
        bool null = row == 1;

        for (int col = 0; col < 9; col++)
            assert_int_equal(pg_is_null(res, row, col), null);
        if (null) {
            assert_int_equal(pg_get_int(res, row, 3), 0);
            assert_null(pg_get_str(res, row, 0).ptr);
            continue;
        }
        assert_true(str_is(pg_get_str(res, row, 0), row == 0 ? "t\xc3\xa9xt, \"{}\" \\" : ""));
        assert_true(str_is(pg_get_str(res, row, 1), "{\"a\": 0.1000000000000000000001}"));
        assert_int_equal(pg_get_str(res, row, 2).len, 3);
        assert_memory_equal(pg_get_str(res, row, 2).ptr, "\0\xff\1", 3);
        assert_int_equal(pg_get_int(res, row, 3), -32768);
        assert_int_equal(pg_get_int(res, row, 4), INT32_MIN);
        assert_int_equal(pg_get_int(res, row, 5), INT64_MIN);
        assert_true(pg_get_bool(res, row, 6));
        assert_int_equal(pg_get_uuid(res, row, 7).bytes[15], 16);
        assert_int_equal(pg_get_time(res, row, 8).us, INT64_C(1795233600123456));
    }
    assert_int_equal(pg_rows(outcome->results[1]), 0);
    assert_int_equal(pg_get_int(outcome->results[2], 0, 0), 100000);
    assert_true(str_is(pg_get_str(outcome->results[3], 0, 0), "{\"b\": 1}")); /* jsonb without its version byte */
    assert_true(pg_get_double(outcome->results[3], 0, 1) == 0.25);
    assert_true(str_is(pg_get_str(outcome->results[3], 0, 2), "2026-11-21 04:00:00.123456+00"));
    (*called)++;
}

static void arrays_and_types_survive_the_wire(void **state)
{
    static const enum pg_elem types[] = {PG_E_TEXT, PG_E_JSON, PG_E_BYTEA, PG_E_I16, PG_E_I32,
                                         PG_E_I64,  PG_E_BOOL, PG_E_UUID,  PG_E_TIME};
    const struct run_id id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
    const struct wall_us at = {INT64_C(1795233600123456)}; /* 2026-11-21T04:00:00.123456Z */
    struct pg_batch *batch = pg_batch_new(true);
    struct pg_array *arrays[9], *many = pg_array_new(batch, PG_E_I32), *none = pg_array_new(batch, PG_E_TEXT);
    struct fixture f;
    int called = 0;

    (void)state;
    begin(&f, test_url());
    for (int i = 0; i < 9; i++)
        arrays[i] = pg_array_new(batch, types[i]);
    for (int row = 0; row < 3; row++) {
        const struct pg_param values[] = {
            pg_text(row == 0 ? STR("t\xc3\xa9xt, \"{}\" \\") : STR("")),
            pg_json(STR("{\"a\": 0.1000000000000000000001}")),
            pg_bytea(STR("\0\xff\1")),
            pg_i16(INT16_MIN),
            pg_i32(INT32_MIN),
            pg_i64(INT64_MIN),
            pg_bool(true),
            pg_uuid(id),
            pg_time(at),
        };

        for (int i = 0; i < 9; i++)
            pg_array_add(arrays[i], row == 1 ? pg_null() : values[i]);
    }
    for (int i = 0; i < 100000; i++)
        pg_array_add(many, pg_i32(1));
    pg_add(batch, "SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)", pg_array_param(arrays[0]),
           pg_array_param(arrays[1]), pg_array_param(arrays[2]), pg_array_param(arrays[3]), pg_array_param(arrays[4]),
           pg_array_param(arrays[5]), pg_array_param(arrays[6]), pg_array_param(arrays[7]), pg_array_param(arrays[8]));
    pg_add(batch, "SELECT * FROM unnest($1)", pg_array_param(none));
    pg_add(batch, "SELECT sum(n) FROM unnest($1) n", pg_array_param(many));
    pg_add(batch, "SELECT $1::json::jsonb, 0.25::float8, $2::text, $3::timestamptz", pg_json(STR("{\"b\":1}")),
           pg_text(STR("2026-11-21 04:00:00.123456+00")), pg_time((struct wall_us){0}));
    pg_submit(f.pg, batch, check_arrays, &called);
    assert_true(loop_until(&f.loop, &called, 1, 10000));
    end(&f);
}

static void the_organisation_holds_for_its_transaction_only(void **state)
{
    struct fixture f;
    struct seen seen;
    struct pg_batch *batch = pg_batch_new(false);

    (void)state;
    begin(&f, test_url());
    pg_batch_organisation(batch, 7);
    pg_batch_add0(batch, "SELECT current_setting('ropewalk.organisation', true)");
    pg_batch_organisation(batch, 8);
    pg_batch_add0(batch, "SELECT current_setting('ropewalk.organisation', true)");
    run(&f, batch, &seen);
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.text[0], "7");
    assert_string_equal(seen.text[1], "8");
    run_sql(&f, "SELECT current_setting('ropewalk.organisation', true)", &seen);
    assert_string_equal(seen.text[0], "");
    end(&f);
}

static void sessions_are_set_up_with_and_without_prepared_statements(void **state)
{
    struct seen seen;

    (void)state;
    for (int prepared = 0; prepared < 2; prepared++) {
        struct fixture f = {0};
        struct pg_options options;
        struct pg_batch *batch = pg_batch_new(false), *second = pg_batch_new(false);
        struct seen also = {0};

        assert_int_equal(uv_loop_init(&f.loop), 0);
        options = options_for(&f, test_url());
        options.prepared = prepared == 1;
        f.pg = pg_new(&options);
        pg_batch_add0(batch, "SELECT current_setting('search_path')");
        pg_batch_sample_clock(batch);
        pg_batch_add0(batch, "SELECT current_setting('application_name')");
        pg_batch_add0(second, "SELECT 1 + 1");
        seen = (struct seen){0};
        pg_submit(f.pg, batch, seen_fill, &seen);
        pg_submit(f.pg, second, seen_fill, &also);
        assert_true(loop_until(&f.loop, &also.calls, 1, 10000));
        assert_int_equal(seen.rc, ERR_OK);
        assert_string_equal(seen.text[1], "test_pg");
        assert_non_null(strstr(seen.text[0], "ropewalk"));
        assert_true(llabs(seen.db_now.us - clock_wall().us) < 60 * US_PER_S);
        assert_int_equal(also.ints[0], 2);
        run_sql(&f, "SELECT count(*) FROM pg_prepared_statements", &seen);
        assert_int_equal(seen.ints[0], prepared == 1 ? 5 : 0);
        end(&f);
    }
}

static void a_changed_table_is_prepared_again(void **state)
{
    static const char sql[] = "SELECT * FROM changing";
    struct fixture f;
    struct seen seen;

    (void)state;
    begin(&f, test_url());
    must(&f, "CREATE TEMP TABLE changing (a int)");
    must(&f, "INSERT INTO changing VALUES (1)");
    must(&f, sql);
    must(&f, "ALTER TABLE changing ADD b int");
    run_sql(&f, sql, &seen);
    assert_int_equal(seen.rc, ERR_BUSY); /* "cached plan must not change result type": try again */
    must(&f, sql);
    end(&f);
}

struct role_seen {
    int calls;
    enum err_code rc;
    struct err err;
};

static void role_fill(void *ctx, enum err_code rc, const struct err *err)
{
    struct role_seen *seen = ctx;

    seen->calls++;
    seen->rc = rc;
    seen->err = *err;
}

static void a_superuser_is_refused(void **state)
{
    struct fixture f;
    struct role_seen seen = {0};

    (void)state;
    begin(&f, test_url());
    pg_check_role(f.pg, role_fill, &seen);
    assert_true(loop_until(&f.loop, &seen.calls, 1, 10000));
    assert_int_equal(seen.rc, ERR_FORBIDDEN);
    assert_non_null(strstr(seen.err.message, "superuser"));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_are_pipelined_and_answered_in_order),
        cmocka_unit_test(an_error_rolls_its_batch_back_and_no_other),
        cmocka_unit_test(errors_are_told_apart),
        cmocka_unit_test(a_deferred_error_at_the_commit_is_an_error),
        cmocka_unit_test(a_killed_backend_is_replaced_and_its_batch_is_not_unknown),
        cmocka_unit_test(a_backend_killed_while_it_prepares_has_done_nothing),
        cmocka_unit_test(a_lost_answer_to_a_commit_is_unknown),
        cmocka_unit_test(a_silent_server_is_given_up),
        cmocka_unit_test(without_a_server_batches_wait_and_then_fail),
        cmocka_unit_test(names_of_hosts_are_looked_up),
        cmocka_unit_test(a_bad_url_is_told_without_its_password),
        cmocka_unit_test(what_is_in_flight_fails_when_the_connection_is_freed),
        cmocka_unit_test(arrays_and_types_survive_the_wire),
        cmocka_unit_test(the_organisation_holds_for_its_transaction_only),
        cmocka_unit_test(sessions_are_set_up_with_and_without_prepared_statements),
        cmocka_unit_test(a_changed_table_is_prepared_again),
        cmocka_unit_test(a_superuser_is_refused),
    };

    return cmocka_run_group_tests_name("pg", tests, NULL, NULL);
}
