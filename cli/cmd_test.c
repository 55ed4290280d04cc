/* test: carries workflows out here, as a file of cases says, and compares. The report is TAP version 13. */
#include "cli/test_file.h"

#include "common/base/banned.h"

#define REPORT_MAX ((size_t)256 << 20)
#define FAULTS_MAX ((size_t)64 << 20)

struct report {
    const struct cli *cli;
    struct sandbox *sandbox;
    uv_loop_t *loop;
    size_t count, failed;
    struct buf json; /* of -o json: the cases, a comma between */
};

static struct str text_of(struct arena *arena, struct str object, const char *key)
{
    struct str text = STR_NONE;

    (void)jt_string(jt_get(object, key), arena, &text);
    return text;
}

static int64_t after_of(struct arena *arena, struct str object)
{
    int64_t us = 0;

    (void)duration_parse(text_of(arena, object, "at"), &us);
    return us;
}

/* As a gateway would have taken it; what the file does not say of it is made up. */
static struct str event_of(struct arena *arena, struct str said, size_t index)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct str id = text_of(arena, said, "id"), source = text_of(arena, said, "source");
    struct jw w = jw_to(&out);

    buf_init(&out, said.len * 6 + 4096);
    jw_obj(&w);
    jw_kcstr(&w, "specversion", "1.0");
    jw_kstr(&w, "id", id.ptr == NULL ? str_of(arena_printf(arena, "event-%zu", index + 1)) : id);
    jw_kstr(&w, "source", source.ptr == NULL ? STR("/test") : source);
    jw_kstr(&w, "type", text_of(arena, said, "type"));
    if (jt_get(said, "subject").ptr != NULL)
        jw_kraw(&w, "subject", jt_get(said, "subject"));
    if (jt_get(said, "data").ptr != NULL)
        jw_kraw(&w, "data", jt_get(said, "data"));
    jw_end_obj(&w);
    return str_arena(arena, buf_str(&out));
}

static void plan_events(struct test_case *test)
{
    struct jt_iter it;

    jt_iter_init(&it, jt_get(test->json, "events"));
    while (jt_next(&it)) {
        struct engine_input in = {.kind = IN_EVENT, .value = event_of(test->arena, it.value, it.index)};

        rehearsal_plan(test->world, after_of(test->arena, it.value), &in,
                       str_of(arena_printf(test->arena, "%s/events/%zu", test->pointer, it.index)));
    }
}

/* What the case wants to be said to the run: signals, settlements, a cancellation. */
static void plan_inputs(struct test_case *test)
{
    struct arena *arena = test->arena;
    struct str cancel = jt_get(test->json, "cancel");
    struct jt_iter it;

    jt_iter_init(&it, jt_get(test->json, "signals"));
    while (jt_next(&it)) {
        struct engine_input in = {.kind = IN_SIGNAL, .name = text_of(arena, it.value, "name")};

        in.value = jt_get(it.value, "payload").ptr == NULL ? STR("null") : jt_get(it.value, "payload");
        rehearsal_plan(test->world, after_of(arena, it.value), &in,
                       str_of(arena_printf(arena, "%s/signals/%zu", test->pointer, it.index)));
    }
    jt_iter_init(&it, jt_get(test->json, "settle"));
    while (jt_next(&it)) {
        struct engine_input in = {.kind = IN_SETTLE, .step = text_of(arena, it.value, "step")};

        in.as_failed = str_is(text_of(arena, it.value, "as"), "failed");
        in.value = jt_get(it.value, "output");
        rehearsal_plan(test->world, after_of(arena, it.value), &in,
                       str_of(arena_printf(arena, "%s/settle/%zu", test->pointer, it.index)));
    }
    plan_events(test);
    if (cancel.ptr != NULL)
        rehearsal_plan(
            test->world, after_of(arena, cancel),
            &(struct engine_input){.kind = IN_CANCEL, .compensate = jt_type(jt_get(cancel, "compensate")) == JT_TRUE},
            str_of(arena_printf(arena, "%s/cancel", test->pointer)));
}

static void on_refused(void *ctx, struct str what, struct str why)
{
    struct test_case *test = ctx;

    test_fault_text(test, what, "it is taken", arena_dup(test->arena, why.ptr, why.len));
}

/* ---- the report ---- */

static void put_events(struct jw *w, const struct rehearsed *run)
{
    jw_key(w, "events");
    jw_arr(w);
    for (size_t i = 0; i < run->history_count; i++) {
        const struct event *event = &run->history[i];

        jw_obj(w);
        jw_kcstr(w, "type", event_type_name(event->type));
        jw_kstr(w, "step", event->step);
        if (event->attempt > 0)
            jw_ki64(w, "attempt", event->attempt);
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

static struct str faults_of(struct test_case *test)
{
    return str_of(arena_printf(test->arena, "[" STR_FMT "]", STR_ARG(buf_str(&test->faults))));
}

static void report_json(struct report *report, struct test_case *test)
{
    struct jw w = jw_to(&report->json);

    if (report->count > 1)
        buf_append_char(&report->json, ',');
    jw_obj(&w);
    jw_kcstr(&w, "file", test->file->source.path);
    jw_kstr(&w, "name", test->name);
    jw_kbool(&w, "ok", test->fault_count == 0);
    jw_kraw(&w, "faults", faults_of(test));
    jw_kraw(&w, "run", test_run_json(test));
    jw_ki64(&w, "took_ms", rehearsal_took_us(test->world) / US_PER_MS);
    put_events(&w, rehearsal_root(test->world));
    jw_end_obj(&w);
}

static void print_text(struct str text)
{
    CLEANUP(buf_deinit) struct buf clean = {0};

    buf_init(&clean, FAULTS_MAX);
    clean_append(&clean, text);
    if (clean.len > 0)
        (void)fwrite(clean.ptr, 1, clean.len, stdout);
}

static void print_member(const char *name, struct str value)
{
    printf("    %s: ", name);
    print_text(value.ptr == NULL ? STR("null") : value);
    (void)putchar('\n');
}

static void report_text(const struct report *report, struct test_case *test)
{
    char took[40];
    struct jt_iter it;

    format_span(rehearsal_took_us(test->world), took, sizeof(took));
    printf("%s %zu - %s: ", test->fault_count == 0 ? "ok" : "not ok", report->count, test->file->source.path);
    print_text(test->name);
    printf(": %s\n", took);
    if (test->fault_count == 0)
        return;
    (void)puts("  ---");
    jt_iter_init(&it, faults_of(test));
    while (jt_next(&it)) {
        (void)fputs("  - at: ", stdout);
        print_text(jt_get(it.value, "at"));
        (void)putchar('\n');
        print_member("expected", jt_get(it.value, "expected"));
        print_member("got", jt_get(it.value, "got"));
    }
    (void)puts("  ...");
    if (jt_get(test_run_json(test), "error").ptr != NULL) {
        (void)fputs("# the run's error: ", stdout);
        print_text(jt_get(test_run_json(test), "error"));
        (void)putchar('\n');
    }
}

/* ---- cases ---- */

static struct wall_us begin_of(struct arena *arena, struct str test)
{
    struct wall_us now = {INT64_C(1767225600) * US_PER_S}; /* 2026-01-01T00:00:00Z */

    (void)wall_parse(text_of(arena, test, "now"), &now);
    return now;
}

static void run_case(struct report *report, const struct test_file *file, struct str json, size_t number)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1024);
    struct test_case test = {.file = file, .json = json, .calls = map_new()};
    struct rehearsal_port port = {.call = test_answer, .child = test_child, .refused = on_refused, .ctx = &test};
    struct str input = jt_get(json, "input");
    struct err err = {.code = ERR_OK};

    test.name = text_of(arena, json, "name");
    test.world = rehearsal_new(&port, report->sandbox, report->loop, begin_of(arena, json), test.name);
    test.arena = rehearsal_arena(test.world);
    test.pointer = arena_printf(test.arena, "/cases/%zu", number);
    buf_init(&test.faults, FAULTS_MAX);
    plan_inputs(&test);
    if (str_is(text_of(arena, jt_get(json, "expect"), "status"), "waiting"))
        rehearsal_let_wait(test.world);
    if (rehearsal_run(test.world, &file->documents[0], input.ptr == NULL ? STR("{}") : input, &err))
        test_expect(&test);
    else if (test.fault_count == 0)
        test_fault_text(&test, str_of(test.pointer), "the run is carried out", err.message);
    report->count++;
    report->failed += test.fault_count > 0;
    if (report->cli->json)
        report_json(report, &test);
    else
        report_text(report, &test);
    buf_deinit(&test.faults);
    map_free(test.calls);
    rehearsal_free(test.world);
}

static bool run_file(struct report *report, const char *path)
{
    CLEANUP(test_file_deinit) struct test_file file;
    struct jt_iter it;
    bool good = test_file_load(path, &file);

    for (size_t i = 0; i < file.document_count && good; i++)
        good = rehearsal_check_expressions(&file.documents[i], report->sandbox, report->loop);
    if (!good)
        return false;
    jt_iter_init(&it, file.cases);
    while (jt_next(&it))
        run_case(report, &file, it.value, it.index);
    return true;
}

static void print_end(struct report *report)
{
    CLEANUP(buf_deinit) struct buf out = {0};

    if (!report->cli->json) {
        printf("1..%zu\n", report->count);
        if (report->failed > 0)
            printf("# %zu of %zu cases failed\n", report->failed, report->count);
        return;
    }
    buf_init(&out, REPORT_MAX + 100);
    buf_printf(&out, "{\"cases\":[" STR_FMT "],\"failed\":%zu}", STR_ARG(buf_str(&report->json)), report->failed);
    print_document(report->cli, buf_str(&out));
}

enum cli_exit cmd_test(struct cli *cli)
{
    struct report report = {.cli = cli};
    uv_loop_t loop;
    bool good = true;

    if (!words_left(cli, 1, 1000))
        return CLI_USAGE;
    if (uv_loop_init(&loop) != 0)
        return usage_error("cannot make an event loop");
    report.loop = &loop;
    report.sandbox = sandbox_new(&loop, 1, NULL);
    buf_init(&report.json, REPORT_MAX);
    if (!cli->json)
        (void)puts("TAP version 13");
    for (int i = 0; i < cli->argc; i++)
        good = run_file(&report, cli->argv[i]) && good;
    print_end(&report);
    buf_deinit(&report.json);
    sandbox_free(report.sandbox);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop);
    return !good ? CLI_USAGE : report.failed > 0 ? CLI_NOT_SUCCEEDED : CLI_DONE;
}
