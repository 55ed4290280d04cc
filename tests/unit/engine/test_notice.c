/* What others are told of a run, and what not. */
#include "common/engine/notice.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct run_id RUN = {{0x01, 0x90, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0x2a}};

static enum notice of(enum event_type type, const char *step, const char *waits)
{
    return notice_of(&(struct event){.type = type,
                                     .step = step == NULL ? STR_NONE : str_of(step),
                                     .waits = waits == NULL ? STR_NONE : str_of(waits)});
}

static void every_type_of_event_is_told_or_not(void **state)
{
    (void)state;
    assert_int_equal(of(EVENT_RUN_STARTED, NULL, NULL), NOTICE_RUN_STARTED);
    for (int type = 0; type < 256; type++)
        assert_int_equal(of((enum event_type)type, NULL, NULL) == NOTICE_RUN_ENDED,
                         event_ends_run((enum event_type)type));
    assert_int_equal(of(EVENT_STEP_FAILED, "a", NULL), NOTICE_STEP_FAILED);
    assert_int_equal(of(EVENT_STEP_TIMED_OUT, "each[3].go", NULL), NOTICE_STEP_FAILED);
    assert_int_equal(of(EVENT_STEP_OUTCOME_UNKNOWN, "a:compensate", NULL), NOTICE_STEP_FAILED);
    assert_int_equal(of(EVENT_STEP_FAILED, "each[3]", NULL), NOTICE_NONE);
    assert_int_equal(of(EVENT_ATTEMPT_FAILED, "a", NULL), NOTICE_NONE);
    assert_int_equal(of(EVENT_STEP_WAITING, "a", "signal"), NOTICE_STEP_WAITING);
    assert_int_equal(of(EVENT_STEP_WAITING, "a", "child"), NOTICE_NONE);
    assert_int_equal(of(EVENT_STEP_WAITING, "a", NULL), NOTICE_NONE);
}

static void types_are_found_by_their_names(void **state)
{
    (void)state;
    for (int n = NOTICE_NONE + 1; n < NOTICE_COUNT; n++)
        assert_int_equal(notice_find(str_of(notice_type((enum notice)n))), n);
    assert_int_equal(notice_find(STR("ropewalk.run")), NOTICE_NONE);
    assert_int_equal(notice_find(STR_NONE), NOTICE_NONE);
    assert_int_equal(notice_find(STR(NOTICE_TEST)), NOTICE_NONE);
}

static void ids_of_a_run_sort_as_its_events_do(void **state)
{
    char a[NOTICE_ID_SIZE], b[NOTICE_ID_SIZE];

    (void)state;
    notice_id(RUN, 9, a);
    notice_id(RUN, 10, b);
    assert_true(strcmp(a, b) < 0);
    assert_string_equal(a, "01900000-0000-7000-8000-00000000002a-000009");
    notice_id(RUN, UINT32_MAX, b); /* fits */
    assert_int_equal(strlen(b), 47);
}

static void assert_says(const struct event *event, const char *expected)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct run_state run = {.id = RUN};
    struct err err;

    buf_init(&out, 65536);
    notice_write(&(struct notice_source){"acme", STR("ship-it"), 3, &run}, event, &out);
    assert_int_equal(jt_check(buf_str(&out), &JT_LIMITS_API, &err), ERR_OK);
    assert_string_equal(out.ptr, expected);
}

#define HEAD(seq, type)                                                                                                \
    "{\"specversion\":\"1.0\",\"id\":\"01900000-0000-7000-8000-00000000002a-" seq "\","                                \
    "\"source\":\"/organisations/acme/workflows/ship-it\",\"type\":\"ropewalk." type "\","                             \
    "\"time\":\"1970-01-01T00:00:01.000Z\",\"datacontenttype\":\"application/json\","                                  \
    "\"subject\":\"01900000-0000-7000-8000-00000000002a\",\"data\":{\"organisation\":\"acme\","                        \
    "\"workflow\":\"ship-it\",\"version\":3,\"run_id\":\"01900000-0000-7000-8000-00000000002a\","

static void what_is_said_is_who_and_how_and_never_what_was_in_it(void **state)
{
    (void)state;
    assert_says(&(struct event){.seq = 1, .type = EVENT_RUN_STARTED, .at = {US_PER_S}},
                HEAD("000001", "run.started") "\"status\":\"running\"}}");
    assert_says(&(struct event){.seq = 9,
                                .type = EVENT_RUN_FAILED,
                                .at = {US_PER_S},
                                .step = STR("a"),
                                .code = STR("http_500"),
                                .error_class = STR("transient"),
                                .message = STR("planted"),
                                .output = STR("\"planted\"")},
                HEAD("000009", "run.ended") "\"status\":\"failed\",\"step\":\"a\","
                                            "\"error\":{\"code\":\"http_500\",\"class\":\"transient\"}}}");
    assert_says(&(struct event){.seq = 12,
                                .type = EVENT_STEP_TIMED_OUT,
                                .at = {US_PER_S},
                                .step = STR("each[3].go"),
                                .attempt = 2,
                                .code = STR("timeout"),
                                .detail = STR("\"planted\"")},
                HEAD("000012", "step.failed") "\"status\":\"timed_out\",\"step\":\"each[3].go\",\"attempt\":2,"
                                              "\"error\":{\"code\":\"timeout\"}}}");
    assert_says(&(struct event){.seq = 5,
                                .type = EVENT_STEP_WAITING,
                                .at = {US_PER_S},
                                .step = STR("ok"),
                                .waits = STR("signal"),
                                .name = STR("appr\"oved"),
                                .due_at = {2 * US_PER_S}},
                HEAD("000005", "step.waiting") "\"status\":\"waiting\",\"step\":\"ok\",\"signal\":\"appr\\\"oved\","
                                               "\"until\":\"1970-01-01T00:00:02.000Z\"}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_of_event_is_told_or_not),
        cmocka_unit_test(types_are_found_by_their_names),
        cmocka_unit_test(ids_of_a_run_sort_as_its_events_do),
        cmocka_unit_test(what_is_said_is_who_and_how_and_never_what_was_in_it),
    };

    return cmocka_run_group_tests_name("notice", tests, NULL, NULL);
}
