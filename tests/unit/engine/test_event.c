/* Events as they are stored: every type with every field comes back as it was; what does not fit is refused. */
#include "common/base/ensure.h"
#include "common/engine/event.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const enum event_type types[] = {
#define EVENT(number, id, name, format) EVENT_##id,
#include "common/engine/event.def"
#undef EVENT
};

/* Text that JSON has to escape, and text that is empty: both are there, and neither is absent. */
#define AWKWARD "\"\\/\b\f\n\r\t\x01 ü 日本 \xf0\x9f\x8e\x89 ${ .x }"

enum field {
    F_BRANCH,
    F_CODE,
    F_CLASS,
    F_MESSAGE,
    F_STATUS,
    F_DETAIL,
    F_DUE,
    F_WORKER,
    F_GENERATION,
    F_DISPATCH,
    F_STARTED,
    F_ENDED,
    F_COMMAND,
    F_BY,
    FIELDS
};

static void set_field(struct event *e, enum field field, struct str text)
{
    switch (field) {
    case F_BRANCH:
        e->branch = text;
        break;
    case F_CODE:
        e->code = text;
        break;
    case F_CLASS:
        e->error_class = text;
        break;
    case F_MESSAGE:
        e->message = text;
        break;
    case F_STATUS:
        e->http_status = 599;
        break;
    case F_DETAIL:
        e->detail = STR("{\"a\":[0.10,null,\"\\u0041\"]}");
        break;
    case F_DUE:
        e->due_at.us = INT64_C(253402300799999999);
        break;
    case F_WORKER:
        e->worker = text;
        break;
    case F_GENERATION:
        e->generation = UINT16_MAX;
        break;
    case F_DISPATCH:
        e->dispatch = UINT32_MAX;
        break;
    case F_STARTED:
        e->started_at.us = 1;
        break;
    case F_ENDED:
        e->ended_at.us = -1;
        break;
    case F_COMMAND:
        e->command = INT64_MAX;
        break;
    case F_BY:
        e->by = text;
        break;
    case FIELDS:
        break;
    }
}

static bool same_text(struct str a, struct str b)
{
    return (a.ptr == NULL) == (b.ptr == NULL) && str_eq(a, b);
}

static void assert_same(const struct event *a, const struct event *b)
{
    assert_true(same_text(a->branch, b->branch));
    assert_true(same_text(a->by, b->by));
    assert_true(same_text(a->code, b->code));
    assert_true(same_text(a->error_class, b->error_class));
    assert_true(same_text(a->message, b->message));
    assert_int_equal(a->http_status, b->http_status);
    assert_true(same_text(a->detail, b->detail));
    assert_int_equal(a->due_at.us, b->due_at.us);
    assert_true(same_text(a->worker, b->worker));
    assert_int_equal(a->generation, b->generation);
    assert_int_equal(a->dispatch, b->dispatch);
    assert_int_equal(a->started_at.us, b->started_at.us);
    assert_int_equal(a->ended_at.us, b->ended_at.us);
    assert_int_equal(a->command, b->command);
}

static void round_trip(const struct event *event)
{
    struct arena *arena = arena_new(1024);
    struct event back = {.seq = event->seq, .type = event->type};
    struct buf data;
    struct err err;

    buf_init(&data, 1 << 16);
    event_encode_data(event, &data);
    if (data.len > 0)
        assert_int_equal(jt_check(buf_str(&data), &JT_LIMITS_MESSAGE, &err), ERR_OK);
    assert_int_equal(event_decode_data(data.len == 0 ? STR_NONE : buf_str(&data), arena, &back, &err), ERR_OK);
    assert_same(event, &back);
    buf_deinit(&data);
    arena_free(arena);
}

static void every_type_with_every_field_alone_and_with_all_comes_back(void **unused)
{
    static const struct str texts[] = {{"", 0}, {"x", 1}, {AWKWARD, sizeof(AWKWARD) - 1}};

    (void)unused;
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++) {
            struct event all = {.seq = 1, .type = types[t]};
            round_trip(&all); /* with nothing */
            for (int f = 0; f < FIELDS; f++) {
                struct event one = {.seq = 1, .type = types[t]};
                set_field(&one, (enum field)f, texts[k]);
                set_field(&all, (enum field)f, texts[k]);
                round_trip(&one);
            }
            round_trip(&all);
        }
    }
}

static void an_event_without_fields_stores_nothing(void **unused)
{
    struct event event = {.seq = 7, .type = EVENT_RUN_CANCELLING};
    struct buf data;

    (void)unused;
    buf_init(&data, 100);
    event_encode_data(&event, &data);
    assert_int_equal(data.len, 0);
    buf_append_char(&data, 'x'); /* also behind something else */
    event_encode_data(&event, &data);
    assert_string_equal(data.ptr, "x");
    buf_deinit(&data);
}

static void names_and_numbers_are_each_used_once(void **unused)
{
    (void)unused;
    for (size_t a = 0; a < sizeof(types) / sizeof(types[0]); a++) {
        assert_non_null(event_type_name(types[a]));
        for (size_t b = 0; b < a; b++)
            assert_string_not_equal(event_type_name(types[a]), event_type_name(types[b]));
    }
    assert_null(event_type_name(EVENT_NONE));
    assert_null(event_type_name((enum event_type)32767));
}

static void data_of_another_form_is_refused_and_new_fields_are_ignored(void **unused)
{
    struct arena *arena = arena_new(1024);
    struct event event = {.seq = 1, .type = EVENT_STEP_FAILED};
    struct err err;

    (void)unused;
    assert_int_equal(event_decode_data(STR("[]"), arena, &event, &err), ERR_INTERNAL);
    assert_int_equal(event_decode_data(STR("{\"code\":1}"), arena, &event, &err), ERR_INTERNAL);
    assert_int_equal(event_decode_data(STR("{\"generation\":65536}"), arena, &event, &err), ERR_INTERNAL);
    assert_int_equal(event_decode_data(STR("{\"dispatch\":-1}"), arena, &event, &err), ERR_INTERNAL);
    assert_int_equal(event_decode_data(STR("{\"due_at\":\"soon\"}"), arena, &event, &err), ERR_INTERNAL);
    assert_int_equal(event_decode_data(STR("{\"later\":{\"x\":1},\"code\":\"c\"}"), arena, &event, &err), ERR_OK);
    assert_true(str_is(event.code, "c"));
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_with_every_field_alone_and_with_all_comes_back),
        cmocka_unit_test(an_event_without_fields_stores_nothing),
        cmocka_unit_test(names_and_numbers_are_each_used_once),
        cmocka_unit_test(data_of_another_form_is_refused_and_new_fields_are_ignored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
