/* Helpers of the tests that talk to a real PostgreSQL: a loop that runs until something has happened, and one batch at
 * a time with its outcome kept. The server is the one of ROPEWALK_ADMIN_PG_URL. */
#pragma once
#include "common/base/ensure.h"
#include "common/io/pg.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* What an outcome said, after its batch has gone; up to 8 results of one cell each. */
struct seen {
    int calls;
    enum err_code rc;
    bool unknown;
    int failed_statement;
    size_t count;
    int64_t ints[8];
    int64_t rows[8];
    char text[8][64];
    struct wall_us db_now;
    struct err err;
};

static inline const char *test_url(void)
{
    const char *url = getenv("ROPEWALK_ADMIN_PG_URL");

    if (url == NULL || *url == '\0') {
        puts("skipped: ROPEWALK_ADMIN_PG_URL is not set");
        exit(77);
    }
    return url;
}

static inline void seen_fill(void *ctx, const struct pg_outcome *outcome)
{
    struct seen *seen = ctx;

    seen->calls++;
    seen->rc = outcome->rc;
    seen->unknown = outcome->unknown;
    seen->failed_statement = outcome->failed_statement;
    seen->count = outcome->count;
    seen->db_now = outcome->db_now;
    seen->err = *outcome->err;
    for (size_t i = 0; outcome->rc == ERR_OK && i < outcome->count && i < 8; i++) {
        struct str s;

        seen->rows[i] = (int64_t)pg_rows(outcome->results[i]);
        if (seen->rows[i] == 0)
            continue;
        s = pg_get_str(outcome->results[i], 0, 0);
        snprintf(seen->text[i], sizeof(seen->text[i]), STR_FMT, STR_ARG(s));
        if (s.len == 2 || s.len == 4 || s.len == 8)
            seen->ints[i] = pg_get_int(outcome->results[i], 0, 0);
    }
}

/* Runs the loop until *flag or for `ms`. */
static inline void on_loop_alarm(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

static inline bool loop_until(uv_loop_t *loop, const int *count, int wanted, int ms)
{
    struct mono_us end = {clock_mono().us + ms * US_PER_MS};
    uv_timer_t alarm;

    uv_timer_init(loop, &alarm);
    while (*count < wanted && clock_mono().us < end.us) {
        uv_timer_start(&alarm, on_loop_alarm, 20, 0);
        uv_run(loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&alarm, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
    return *count >= wanted;
}

static inline void loop_for(uv_loop_t *loop, int ms)
{
    const int never = 0;

    loop_until(loop, &never, 1, ms);
}

static inline void loop_end(uv_loop_t *loop)
{
    uv_run(loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(loop), 0);
}
