/* Expectations: what a case says that its run comes to, against what the history says. */
#include "cli/test_file.h"

#include "common/base/banned.h"

#define FACTS_MAX ((size_t)64 << 20)

static const char *const statuses[] = {"succeeded", "failed",      "partially_completed", "cancelled",
                                       "timed_out", "compensated", "compensation_failed", "waiting"};

/* ---- shape ---- */

static void check_status(struct test_file *file, struct str status, const char *pointer)
{
    struct str text = STR_NONE;

    if (jt_string(status, file->arena, &text)) {
        for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
            if (str_is(text, statuses[i]))
                return;
        }
    }
    test_file_fault(file, pointer,
                    "must be succeeded, failed, partially_completed, cancelled, timed_out, compensated, "
                    "compensation_failed or waiting");
}

static void check_steps(struct test_file *file, struct str steps, const char *pointer)
{
    struct jt_iter it;

    if (jt_type(steps) != JT_OBJECT) {
        test_file_fault(file, pointer, "must be an object from steps to what is expected of them");
        return;
    }
    jt_iter_init(&it, steps);
    while (jt_next(&it))
        (void)test_fields(file, it.value, "status attempts branch output error",
                          test_below(file->arena, pointer, it.key));
}

static void check_order(struct test_file *file, struct str order, const char *pointer)
{
    struct jt_iter it;

    if (jt_type(order) != JT_ARRAY || jt_count(order) < 2)
        test_file_fault(file, pointer, "must be a list of at least two steps, in the order in which they end");
    jt_iter_init(&it, jt_type(order) == JT_ARRAY ? order : STR_NONE);
    while (jt_next(&it)) {
        if (jt_type(it.value) != JT_STRING)
            test_file_fault(file, pointer, "must be a list of steps");
    }
}

static void check_duration(struct test_file *file, struct str duration, const char *pointer)
{
    int64_t us;

    if (jt_type(duration) == JT_STRING) {
        if (!duration_parse((struct str){duration.ptr + 1, duration.len - 2}, &us))
            test_file_fault(file, pointer, "must be a duration such as \"5m\"");
        return;
    }
    if (!test_fields(file, duration, "min max", pointer))
        return;
    (void)test_duration(file, duration, "min", pointer, &us);
    (void)test_duration(file, duration, "max", pointer, &us);
}

void test_check_expect(struct test_file *file, struct str expect, const char *pointer)
{
    struct arena *arena = file->arena;
    struct str exact = jt_get(expect, "exact");

    if (expect.ptr == NULL || (jt_type(expect) == JT_OBJECT && jt_count(expect) == 0)) {
        test_file_fault(file, pointer, "a case expects something");
        return;
    }
    if (!test_fields(file, expect, "status output error steps order duration exact", pointer))
        return;
    if (jt_get(expect, "status").ptr != NULL)
        check_status(file, jt_get(expect, "status"), test_below(arena, pointer, STR("status")));
    if (jt_get(expect, "steps").ptr != NULL)
        check_steps(file, jt_get(expect, "steps"), test_below(arena, pointer, STR("steps")));
    if (jt_get(expect, "order").ptr != NULL)
        check_order(file, jt_get(expect, "order"), test_below(arena, pointer, STR("order")));
    if (jt_get(expect, "duration").ptr != NULL)
        check_duration(file, jt_get(expect, "duration"), test_below(arena, pointer, STR("duration")));
    if (exact.ptr != NULL && jt_type(exact) != JT_TRUE && jt_type(exact) != JT_FALSE)
        test_file_fault(file, test_below(arena, pointer, STR("exact")), "must be true or false");
}

/* ---- facts ---- */

struct fact {
    const char *status;
    unsigned attempts;
    struct str branch, code, message, output;
    size_t ended; /* how many events came before its end, 0: it has not ended */
};

static const char *status_after(const struct event *event)
{
    switch (event->type) {
    case EVENT_STEP_DISPATCHED:
        return "queued";
    case EVENT_STEP_STARTED:
        return "running";
    case EVENT_STEP_WAITING:
    case EVENT_STEP_LISTENING:
    case EVENT_ATTEMPT_FAILED:
        return "waiting";
    case EVENT_STEP_SETTLED:
        return str_is(event->as, "failed") ? "failed" : "succeeded";
    case EVENT_STEP_SUCCEEDED:
    case EVENT_STEP_FAILED:
    case EVENT_STEP_TIMED_OUT:
    case EVENT_STEP_SKIPPED:
    case EVENT_STEP_CANCELLED:
    case EVENT_STEP_OUTCOME_UNKNOWN:
        return event_type_name(event->type) + sizeof("step.") - 1;
    default:
        return NULL; /* of the run, or what changes no step */
    }
}

static void take_event(struct arena *arena, struct map *facts, const struct rehearsed *run, struct str path,
                       const struct event *event, size_t number)
{
    const char *status = status_after(event);
    struct fact *fact = map_get(facts, path);

    if (status == NULL)
        return;
    if (fact == NULL) {
        fact = arena_alloc(arena, sizeof(*fact));
        (void)map_put(facts, path, fact);
    }
    fact->status = status;
    fact->attempts = event->attempt > fact->attempts ? event->attempt : fact->attempts;
    if (event->type < EVENT_STEP_SUCCEEDED)
        return;
    fact->ended = number;
    fact->branch = event->branch;
    fact->code = event->code;
    fact->message = event->message;
    fact->output = event->ref != 0 ? rehearsed_body(run, event->ref) : event->output;
}

/* The output of a loop is put together of its items'; what has been forgotten with an iteration has none. */
static void take_loops(const struct rehearsed *run, struct map *facts, const char *prefix, struct arena *arena)
{
    for (uint32_t i = 0; i < run->state->plan->root_count; i++) {
        const struct plan_step *step = &run->state->plan->steps[i];
        struct fact *fact = map_get(facts, str_of(arena_printf(arena, "%s" STR_FMT, prefix, STR_ARG(step->name))));

        if (step->kind == CALL_FOREACH && fact != NULL)
            fact->output = rehearsed_output(run, i);
    }
}

static struct map *facts_of(const struct test_case *test)
{
    struct map *facts = map_new();
    const struct rehearsed *root = rehearsal_root(test->world);

    for (const struct rehearsed *run = rehearsal_runs(test->world); run != NULL; run = run->next) {
        const char *prefix = run == root ? "" : arena_printf(test->arena, STR_FMT "/", STR_ARG(run->document->name));

        for (size_t i = 0; i < run->history_count; i++) {
            const struct event *event = &run->history[i];

            if (event->step.ptr != NULL)
                take_event(test->arena, facts, run,
                           str_of(arena_printf(test->arena, "%s" STR_FMT, prefix, STR_ARG(event->step))), event, i + 1);
        }
        take_loops(run, facts, prefix, test->arena);
    }
    return facts;
}

static struct str fact_json(struct arena *arena, const struct fact *fact)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w = jw_to(&out);

    buf_init(&out, FACTS_MAX);
    jw_obj(&w);
    jw_kcstr(&w, "status", fact == NULL ? "pending" : fact->status);
    jw_ki64(&w, "attempts", fact == NULL ? 0 : fact->attempts);
    if (fact != NULL) {
        jw_kstr(&w, "branch", fact->branch);
        jw_kraw(&w, "output", fact->output);
        if (fact->code.ptr != NULL && strcmp(fact->status, "succeeded") != 0) {
            jw_key(&w, "error");
            jw_obj(&w);
            jw_kstr(&w, "code", fact->code);
            jw_kstr(&w, "message", fact->message);
            jw_end_obj(&w);
        }
    }
    jw_end_obj(&w);
    return str_arena(arena, buf_str(&out));
}

/* ---- expectations ---- */

static void expect_steps(struct test_case *test, const struct map *facts, struct str steps, const char *at, bool exact)
{
    const struct plan *plan = rehearsal_root(test->world)->state->plan;
    struct jt_iter it;

    jt_iter_init(&it, steps);
    while (jt_next(&it)) {
        const char *below = test_below(test->arena, at, it.key);
        const struct fact *fact = map_get(facts, it.key);
        struct jt_iter member;

        if (fact == NULL && plan_find(plan, it.key) == NO_NODE) {
            test_fault_text(test, str_of(below), "a step", "no step of this path has begun");
            continue;
        }
        jt_iter_init(&member, it.value);
        while (jt_next(&member))
            test_match(test, str_of(test_below(test->arena, below, member.key)), member.value,
                       jt_get_str(fact_json(test->arena, fact), member.key), exact);
    }
}

static void expect_order(struct test_case *test, const struct map *facts, struct str order, const char *at)
{
    struct str before = STR_NONE;
    struct jt_iter it;
    size_t last = 0;

    jt_iter_init(&it, order);
    while (jt_next(&it)) {
        const char *here = arena_printf(test->arena, "%s/%zu", at, it.index);
        const struct fact *fact;
        struct str path;

        (void)jt_string(it.value, test->arena, &path);
        fact = map_get(facts, path);
        if (fact == NULL || fact->ended == 0) {
            test_fault_text(test, str_of(here), arena_printf(test->arena, "'" STR_FMT "' ends", STR_ARG(path)),
                            "it has not ended");
            continue;
        }
        if (fact->ended < last)
            test_fault_text(
                test, str_of(here),
                arena_printf(test->arena, "'" STR_FMT "' ends after '" STR_FMT "'", STR_ARG(path), STR_ARG(before)),
                "it ends before");
        last = fact->ended;
        before = path;
    }
}

static void duration_text(int64_t us, char *ret, size_t size)
{
    if (us % US_PER_S == 0)
        (void)snprintf(ret, size, "%llds", (long long)(us / US_PER_S));
    else
        (void)snprintf(ret, size, "%lldms", (long long)(us / US_PER_MS));
}

static void expect_duration(struct test_case *test, struct str duration, const char *at)
{
    int64_t took = rehearsal_took_us(test->world), min = 0, max = INT64_MAX;
    struct str text;
    char got[40];

    if (jt_string(duration, test->arena, &text)) {
        (void)duration_parse(text, &max);
    } else {
        if (jt_string(jt_get(duration, "min"), test->arena, &text))
            (void)duration_parse(text, &min);
        if (jt_string(jt_get(duration, "max"), test->arena, &text))
            (void)duration_parse(text, &max);
    }
    duration_text(took, got, sizeof(got));
    if (took < min || took > max)
        test_fault_text(test, str_of(at), took < min ? "longer" : "not so long", got);
}

static const struct event *last_end(const struct rehearsed *run)
{
    for (size_t i = run->history_count; i > 0; i--) {
        if (event_ends_run(run->history[i - 1].type))
            return &run->history[i - 1];
    }
    return NULL;
}

/* {"status", "output", "error": {"code", "message", "step"}}; a run that waits for what never comes is waiting. */
struct str test_run_json(struct test_case *test)
{
    const struct rehearsed *root = rehearsal_root(test->world);
    const struct event *end = last_end(root);
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w = jw_to(&out);

    buf_init(&out, FACTS_MAX);
    jw_obj(&w);
    jw_kcstr(&w, "status",
             run_ended((enum run_status)root->state->status) ? run_status_name((enum run_status)root->state->status)
                                                             : "waiting");
    if (end != NULL && end->output.ptr != NULL)
        jw_kraw(&w, "output", end->output);
    if (end != NULL && end->code.ptr != NULL) {
        jw_key(&w, "error");
        jw_obj(&w);
        jw_kstr(&w, "code", end->code);
        jw_kstr(&w, "message", end->message);
        if (end->step.ptr != NULL)
            jw_kstr(&w, "step", end->step);
        jw_end_obj(&w);
    }
    jw_end_obj(&w);
    return str_arena(test->arena, buf_str(&out));
}

void test_expect(struct test_case *test)
{
    static const char *const members[] = {"status", "output", "error"};
    struct str expect = jt_get(test->json, "expect"), run = test_run_json(test);
    const char *at = test_below(test->arena, test->pointer, STR("expect"));
    struct map *facts = facts_of(test);
    bool exact = jt_type(jt_get(expect, "exact")) == JT_TRUE;

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (jt_get(expect, members[i]).ptr != NULL)
            test_match(test, str_of(test_below(test->arena, at, str_of(members[i]))), jt_get(expect, members[i]),
                       jt_get(run, members[i]), exact);
    }
    expect_steps(test, facts, jt_get(expect, "steps"), test_below(test->arena, at, STR("steps")), exact);
    expect_order(test, facts, jt_get(expect, "order"), test_below(test->arena, at, STR("order")));
    if (jt_get(expect, "duration").ptr != NULL)
        expect_duration(test, jt_get(expect, "duration"), test_below(test->arena, at, STR("duration")));
    map_free(facts);
}
