/* Whole documents as a save sees them, the schema first and then the plan, at n and n+1 of each limit: neither takes
 * what the other would not, and nothing that is taken is read as something else. */
#include "common/engine/engine.h"
#include "proto/proto_messages.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void take_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    (void)message;
    (void)hint;
    buf_printf(ctx, "%s " STR_FMT "\n", code, STR_ARG(pointer));
}

/* "" or "code pointer" lines, of the schema or else of the plan. */
static char *save(struct arena *arena, struct str text, struct plan **ret)
{
    struct plan_faults faults = {.arena = arena};
    struct buf out;
    struct err err;
    char *lines;

    *ret = NULL;
    buf_init(&out, 1 << 16);
    if (jt_check(text, &JT_LIMITS_API, &err) != ERR_OK)
        buf_append_str(&out, STR("not JSON\n"));
    else if (schema_check(&SCHEMA_WORKFLOW, text, take_fault, &out, &err) == ERR_OK)
        *ret = plan_compile(text, &PLAN_LIMITS_DEFAULT, &faults);
    for (size_t i = 0; i < faults.count; i++)
        take_fault(&out, faults.items[i].code, faults.items[i].pointer, "", "");
    lines = arena_dup(arena, out.len == 0 ? "" : out.ptr, out.len);
    buf_deinit(&out);
    return lines;
}

/* A workflow with metadata of exactly `bytes`, on the document or on its step. */
static struct str with_metadata(struct arena *arena, size_t bytes, bool on_step)
{
    char *text = arena_alloc(arena, bytes + 1);

    memset(text, 'x', bytes);
    memcpy(text, "{\"x\":\"", 6);
    memcpy(text + bytes - 2, "\"}", 2);
    text[bytes] = '\0';
    return str_of(
        on_step ? arena_printf(arena, "{\"name\":\"x\",\"steps\":{\"a\":{\"call\":\"noop\",\"metadata\":%s}}}", text)
                : arena_printf(arena, "{\"name\":\"x\",\"metadata\":%s,\"steps\":{\"a\":{\"call\":\"noop\"}}}", text));
}

static void metadata_may_have_64_kib_and_no_more(void **unused)
{
    (void)unused;
    for (int on_step = 0; on_step < 2; on_step++) {
        struct arena *arena = arena_new(1 << 18);
        struct plan *plan;
        assert_string_equal(save(arena, with_metadata(arena, 65536, on_step), &plan), "");
        assert_non_null(plan);
        plan_unref(plan);
        assert_string_equal(save(arena, with_metadata(arena, 65537, on_step), &plan),
                            on_step ? "out_of_range /steps/a/metadata\n" : "out_of_range /metadata\n");
        arena_free(arena);
    }
}

static const struct {
    const char *fields; /* of the one step */
    const char *fault;  /* "": it is taken */
} steps[] = {
    {"\"call\":\"noop\",\"retry\":{\"max_attempts\":20}", ""},
    {"\"call\":\"noop\",\"retry\":{\"max_attempts\":21}", "out_of_range /steps/a/retry/max_attempts\n"},
    {"\"call\":\"noop\",\"retry\":{\"factor\":100,\"jitter\":1}", ""},
    {"\"call\":\"noop\",\"retry\":{\"jitter\":1.01}", "out_of_range /steps/a/retry/jitter\n"},
    {"\"call\":\"noop\",\"timeout\":\"366d\"", ""},
    {"\"call\":\"noop\",\"timeout\":\"367d\"", "bad_duration /steps/a/timeout\n"},
    {"\"call\":\"noop\",\"deadline\":\"0s\"", "bad_duration /steps/a/deadline\n"},
    {"\"call\":\"http\",\"with\":{\"url\":\"http://x\",\"max_response_bytes\":1048576,\"follow_redirects\":20}", ""},
    {"\"call\":\"http\",\"with\":{\"url\":\"http://x\",\"max_response_bytes\":1048577}",
     "out_of_range /steps/a/with/max_response_bytes\n"},
    {"\"call\":\"http\",\"with\":{\"url\":\"http://x\",\"follow_redirects\":21}",
     "out_of_range /steps/a/with/follow_redirects\n"},
    {"\"call\":\"http\",\"with\":{\"url\":\"http://x\",\"follow_redirects\":\"${ .input.n }\"}", ""},
    {"\"call\":\"http\",\"with\":{\"url\":\"http://x\",\"max_response_bytes\":\"${ .input.n }\"}", ""},
    {"\"call\":\"http\",\"with\":{\"url\":\"http://x\",\"query\":\"${ .input.q }\"}", ""},
    {"\"call\":\"noop\",\"idempotency\":{\"key\":\"\"}", "out_of_range /steps/a/idempotency/key\n"},
};

static void limits_of_steps_hold_at_n_and_break_at_n_plus_1(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct arena *arena = arena_new(1 << 14);
        struct plan *plan;
        const char *text = arena_printf(arena, "{\"name\":\"x\",\"steps\":{\"a\":{%s}}}", steps[i].fields);
        const char *faults = save(arena, str_of(text), &plan);
        if (strcmp(faults, steps[i].fault) != 0)
            print_error("%s\n", text);
        assert_string_equal(faults, steps[i].fault);
        plan_unref(plan);
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_may_have_64_kib_and_no_more),
        cmocka_unit_test(limits_of_steps_hold_at_n_and_break_at_n_plus_1),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
