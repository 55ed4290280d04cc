/* Why a run is not moving: each way a run can wait, with the exact words, in explain.txt beside this file, which is
 * meant to be read. The states are histories that the engine itself has made. EXPLAIN_WRITE=1 writes the file anew. */
#include "gateway/explain_reason.h"
#include "tests/unit/base/test.h"
#include "tests/unit/engine/world.h"
#include <stdio.h>
#include <stdlib.h>

#include "common/base/banned.h"

#define FILE_MAX ((size_t)1 << 20)
#define STEP(name, rest) "\"" name "\":{" rest "}"
#define FLOW(steps) "{\"name\":\"order\",\"steps\":{" steps "}}"
#define HTTP "\"call\":\"http\",\"with\":{\"url\":\"https://pay.example/\"}"
#define CHARGE FLOW(STEP("charge", HTTP))

struct scene {
    struct world world;
    struct call call;
    struct history history;
    struct explain_facts facts;
    struct explain_queue queue;
    const char *row_reason; /* of every row that has none of its own */
};

static struct str path_of(struct scene *s, uint32_t node)
{
    struct buf path;
    struct str copy;

    buf_init(&path, STEP_PATH_SIZE);
    run_step_path(s->world.state, node, &path);
    copy = str_arena(s->world.arena, buf_str(&path));
    buf_deinit(&path);
    return copy;
}

static struct work_view view_of(struct scene *s, const struct world_row *row)
{
    uint32_t node = engine_find_row(s->world.state, row->seq);
    struct work_view work = {.kind = row->kind,
                             .dispatch = (int)row->dispatch,
                             .priority = 2,
                             .due_at = row->due_at,
                             .opened_at = s->world.history[row->seq - 1].at};
    const char *reason = row->reason != NULL ? row->reason : s->row_reason;

    if (reason != NULL)
        work.reason = str_of(reason);
    if (node == NO_NODE)
        return work;
    work.step = path_of(s, node);
    work.attempt = run_step(s->world.state, node)->attempt;
    if (row->kind == WORK_TASK)
        work.pool = run_plan_step(s->world.state, node)->pool;
    return work;
}

/* As history.c has it, of the rows and events of the world. */
static void look(struct scene *s)
{
    struct world *w = &s->world;
    struct history *h = &s->history;

    s->call.arena = w->arena;
    h->call = &s->call;
    h->state = w->state;
    h->plan = w->plan;
    h->running = false;
    h->status = str_of(run_status_name((enum run_status)w->state->status));
    h->views = arena_array(w->arena, w->plan->step_count, sizeof(*h->views));
    for (uint32_t i = 0; i < w->plan->step_count; i++)
        step_view_init(&h->views[i], &w->plan->steps[i], i < w->plan->root_count ? w->plan->steps[i].name : STR_NONE);
    for (size_t i = 0; i < w->history_count; i++) {
        struct step_view *view = history_view(h, w->history[i].step);

        if (event_ends_run(w->history[i].type))
            h->ended_at = w->history[i].at;
        else if (view != NULL)
            step_view_event(view, w->arena, &w->history[i]);
    }
    h->work = arena_array(w->arena, w->row_count + 1, sizeof(*h->work));
    for (h->work_count = 0; h->work_count < w->row_count; h->work_count++)
        h->work[h->work_count] = view_of(s, &w->rows[h->work_count]);
}

/* Seconds pass until somebody asks. */
static void after(struct scene *s, int64_t seconds)
{
    s->world.now.us += seconds * US_PER_S;
}

static void begin(struct scene *s, const char *document)
{
    world_init(&s->world, document);
    world_start(&s->world);
    after(s, 12);
}

static void defer(struct scene *s, const char *code)
{
    world_apply(&s->world, (struct engine_input){.kind = IN_RESULT,
                                                 .step = STR("charge"),
                                                 .attempt = 1,
                                                 .dispatch = 1,
                                                 .worker = STR("worker-7f"),
                                                 .result = RESULT_DEFERRED,
                                                 .code = str_of(code),
                                                 .retry_after_us = 30 * US_PER_S});
}

/* ---- the ways to wait ---- */

static void accepted(struct scene *s)
{
    world_init(&s->world, CHARGE);
    s->history.commands = 1;
}

static void queued(struct scene *s)
{
    begin(s, CHARGE);
    s->facts.ahead = 37;
}

static void queued_first(struct scene *s)
{
    begin(s, FLOW(STEP("charge", HTTP ",\"pool\":\"payments\"")));
    s->facts.ahead = 0;
}

static void queued_far_behind(struct scene *s)
{
    begin(s, CHARGE);
    after(s, 3600);
    s->facts.ahead = 10000;
    s->facts.ahead_least = true;
}

static void queued_not_told(struct scene *s)
{
    begin(s, CHARGE);
    s->facts.told = false;
}

static void no_worker(struct scene *s)
{
    begin(s, FLOW(STEP("charge", HTTP ",\"pool\":\"gpu\"")));
    s->queue = (struct explain_queue){.pool = STR("gpu"), .priority = 2, .consumers = 0};
}

static void broker_down(struct scene *s)
{
    begin(s, CHARGE);
    s->facts.broker_up = false;
}

static void broker_was_down(struct scene *s)
{
    s->facts.broker_up = false;
    begin(s, CHARGE);
    s->facts.told_at = s->world.history[0].at;
}

static void no_scheduler(struct scene *s)
{
    begin(s, CHARGE);
    s->facts.owned = false;
}

static void of_a_newer_release(struct scene *s)
{
    begin(s, CHARGE);
    s->facts.for_newer = true;
}

static void not_for_older_ones(struct scene *s)
{
    begin(s, CHARGE);
    s->facts.for_older = true;
}

static void running(struct scene *s)
{
    begin(s, CHARGE);
    world_begin(&s->world, "charge", "worker-7f");
    after(s, 4);
}

static void deferred(struct scene *s)
{
    begin(s, CHARGE);
    defer(s, "");
}

static void rate_limited(struct scene *s)
{
    begin(s, CHARGE);
    defer(s, "rate_limited");
}

static void breaker_open(struct scene *s)
{
    begin(s, CHARGE);
    defer(s, "breaker_open");
}

static void backing_off(struct scene *s)
{
    begin(s, FLOW(STEP("charge", HTTP ",\"retry\":{\"jitter\":0}")));
    world_fail(&s->world, "charge", "transient", "http_503", true, true);
}

static void signal_awaited(struct scene *s)
{
    begin(s, FLOW(STEP("review", "\"call\":\"wait_signal\",\"with\":{\"signal\":\"approved\",\"timeout\":\"2d\"}")));
}

static void signal_for_ever(struct scene *s)
{
    begin(s, FLOW(STEP("review", "\"call\":\"wait_signal\",\"with\":{\"signal\":\"approved\"}")));
}

#define AWAITED "\"call\":\"wait_event\",\"with\":{\"type\":\"paid\""

static void event_awaited(struct scene *s)
{
    begin(s, FLOW(STEP("paid", AWAITED ",\"source\":\"/shop\",\"timeout\":\"2d\"}")));
}

static void event_for_ever(struct scene *s)
{
    begin(s, FLOW(STEP("paid", AWAITED ",\"filter\":\"${ .event.data.ok }\"}")));
}

static void event_filter(struct scene *s)
{
    event_for_ever(s);
    world_event_comes(&s->world, "paid", "{\"data\":{\"ok\":7}}");
}

static void child(struct scene *s)
{
    begin(s, FLOW(STEP("refund", "\"call\":\"workflow\",\"with\":{\"name\":\"refund\"}")));
    for (uint32_t i = 0; i < s->world.plan->root_count; i++)
        run_step(s->world.state, i)->extra->child = (struct run_id){{1, 0x90, 0x0c, 0x1e, 0, 0, 0x70, 0, 0x80}};
}

static void concurrency(struct scene *s)
{
    static const struct explain_place place = {.workflow = STR("order"),
                                               .key = STR("customer 7"),
                                               .holders = STR("01900c1e-0000-7000-8000-000000000000"),
                                               .limit = 1,
                                               .held = 1,
                                               .position = 2,
                                               .waiting = 5};

    begin(s, "{\"name\":\"order\",\"concurrency\":{\"limit\":1,\"key\":\"customer 7\"},\"steps\":{" STEP("charge",
                                                                                                         HTTP) "}}");
    s->facts.place = &place;
}

static void concurrency_of_organisation(struct scene *s)
{
    static const struct explain_place place = {
        .holders = STR("01900c1e-0000-7000-8000-000000000000"), .limit = 20, .held = 20, .position = 1, .waiting = 1};

    concurrency(s);
    s->facts.place = &place;
}

static void concurrency_asked(struct scene *s)
{
    concurrency(s);
    s->facts.place = NULL;
}

static void delay(struct scene *s)
{
    begin(s, FLOW(STEP("pause", "\"call\":\"delay\",\"with\":{\"duration\":\"1h\"}")));
}

static void poll(struct scene *s)
{
    begin(s, FLOW(STEP("job", "\"call\":\"poll\",\"with\":{\"call\":\"http\",\"with\":{\"url\":\"https://x.example/\"},"
                              "\"until\":\"${ .output.done }\",\"interval\":\"30s\"}")));
    world_succeed(&s->world, "job", "{\"done\":false}");
}

#define EACH(items, concurrency)                                                                                       \
    FLOW(STEP("each", "\"call\":\"foreach\",\"with\":{\"items\":" items ",\"concurrency\":" concurrency                \
                      ",\"steps\":{\"ship\":{" HTTP "}}}"))

static void loop_room(struct scene *s)
{
    begin(s, EACH("[1,2,3,4,5]", "2"));
    world_succeed(&s->world, "each[0].ship", "1");
    world_begin(&s->world, "each[1].ship", "worker-7f");
}

static void loop(struct scene *s)
{
    begin(s, EACH("[1,2]", "2"));
    world_begin(&s->world, "each[1].ship", "worker-7f");
}

static void unknown_outcome(struct scene *s)
{
    begin(s, FLOW(STEP("notify", HTTP ",\"delivery\":\"at_most_once\",\"on_unknown\":\"wait\"")));
    world_begin(&s->world, "notify", "worker-7f");
    world_lost(&s->world, "notify");
}

#define TWO FLOW(STEP("charge", HTTP) "," STEP("stock", HTTP))
static void cancelling(struct scene *s)
{
    begin(s, TWO);
    world_begin(&s->world, "charge", "worker-7f");
    world_cancel(&s->world, false);
}

static void stopping(struct scene *s)
{
    begin(s, TWO);
    world_begin(&s->world, "stock", "worker-7f");
    world_fail(&s->world, "charge", "permanent", "http_404", true, true);
}

#define UNDO FLOW(STEP("charge", HTTP ",\"compensate\":{" HTTP "}") "," STEP("ship", HTTP ",\"needs\":[\"charge\"]"))
static void compensating(struct scene *s)
{
    begin(s, UNDO);
    world_succeed(&s->world, "charge", "{}");
    world_fail(&s->world, "ship", "permanent", "http_404", true, true);
    s->facts.ahead = 2;
}

static void notifying(struct scene *s)
{
    begin(s, "{\"name\":\"order\",\"on_failure_notify\":{" HTTP "},\"steps\":{" STEP("charge", HTTP) "}}");
    world_fail(&s->world, "charge", "permanent", "http_404", true, true);
    world_begin(&s->world, ":notify", "worker-7f");
}

static void quarantined(struct scene *s)
{
    begin(s, CHARGE);
    s->history.quarantined = true;
    s->history.quarantine_reason = STR("the scheduler died twice while applying it");
}

static void paused(struct scene *s)
{
    begin(s, TWO);
    world_begin(&s->world, "charge", "worker-7f");
    world_pause(&s->world);
    s->history.paused = world_event(&s->world, EVENT_RUN_PAUSED, NULL);
}

static void paused_with_parent(struct scene *s)
{
    begin(s, TWO);
    world_apply(&s->world, (struct engine_input){.kind = IN_PAUSE, .command = 1, .by = STR("ann"), .of_parent = true});
    s->history.paused = world_event(&s->world, EVENT_RUN_PAUSED, NULL);
}

static void repaired(struct scene *s)
{
    begin(s, FLOW(STEP("review", "\"call\":\"wait_signal\",\"with\":{\"signal\":\"approved\"}")));
    s->row_reason = "repaired";
}

static void orphan(struct scene *s)
{
    begin(s, CHARGE);
    s->world.row_count = 0;
}

/* What a commit ends and what it begins are one, so that nobody sees this but where rows were taken away. */
static void moving(struct scene *s)
{
    size_t kept = 0;

    begin(s, CHARGE);
    for (size_t i = 0; i < s->world.row_count; i++)
        if (s->world.rows[i].kind == WORK_RUN_TIMEOUT)
            s->world.rows[kept++] = s->world.rows[i];
    s->world.row_count = kept;
}

static void ended(struct scene *s)
{
    begin(s, CHARGE);
    world_succeed(&s->world, "charge", "{}");
}

static void timed_out(struct scene *s)
{
    begin(s, UNDO);
    world_succeed(&s->world, "charge", "{}");
    world_begin(&s->world, "ship", "worker-7f");
    world_run_timeout(&s->world);
}

/* Several things at once: the decisive one first. */
static void several(struct scene *s)
{
    begin(s, FLOW(STEP("charge", HTTP) "," STEP("stock", HTTP) "," STEP("mail", HTTP) "," STEP(
                 "review", "\"call\":\"wait_signal\",\"with\":{\"signal\":\"approved\"}") "," STEP("later",
                                                                                                   "\"call\":\"delay\","
                                                                                                   "\"with\":{"
                                                                                                   "\"duration\":"
                                                                                                   "\"1h\"}")));
    world_begin(&s->world, "charge", "worker-7f");
    s->facts.ahead = 1;
}

static const struct {
    const char *title;
    void (*make)(struct scene *s);
} CASES[] = {
    {"A start that no scheduler has taken yet", accepted},
    {"A task behind others", queued},
    {"A task that is next", queued_first},
    {"A task behind very many others", queued_far_behind},
    {"A task, while its scheduler has told nothing of late", queued_not_told},
    {"A pool that nobody serves", no_worker},
    {"RabbitMQ is down", broker_down},
    {"RabbitMQ was down before the task was ready", broker_was_down},
    {"All schedulers are down", no_scheduler},
    {"A run of a newer release than its scheduler", of_a_newer_release},
    {"A run that a scheduler of an older release could not go on with", not_for_older_ones},
    {"A step that runs", running},
    {"A task put off by its worker", deferred},
    {"A rate limit", rate_limited},
    {"An open breaker", breaker_open},
    {"Back-off between attempts", backing_off},
    {"A signal with an end", signal_awaited},
    {"A signal without one", signal_for_ever},
    {"An event with an end", event_awaited},
    {"An event without one", event_for_ever},
    {"An event whose filter failed", event_filter},
    {"A child run", child},
    {"A concurrency limit", concurrency},
    {"The organisation's limit of running runs", concurrency_of_organisation},
    {"A concurrency limit that has just been asked", concurrency_asked},
    {"A delay", delay},
    {"A poll between two tries", poll},
    {"A loop that is full", loop_room},
    {"A loop of which all items have begun", loop},
    {"An outcome that nobody knows", unknown_outcome},
    {"Cancelled, and an attempt still runs", cancelling},
    {"Failed, and an attempt still runs", stopping},
    {"Its timeout has passed, and what it did is undone", timed_out},
    {"What it did is being undone", compensating},
    {"Somebody is told of the failure", notifying},
    {"Quarantined", quarantined},
    {"Paused, and an attempt still runs", paused},
    {"Paused with its parent", paused_with_parent},
    {"A row that was missing and was put back", repaired},
    {"Nothing is open, a fault of ours", orphan},
    {"Nothing is open but the run's timeout", moving},
    {"Ended", ended},
    {"Several things at once", several},
};

/* ---- the file ---- */

static void put(struct buf *out, const char *title, const struct explanation *said)
{
    buf_printf(out, "## %s\nreason    %s\n", title, explain_code(said));
    if (said->phase != PHASE_NONE)
        buf_printf(out, "waits for %s\n", reason_code(said->reason.id));
    if (said->reason.step.ptr != NULL)
        buf_printf(out, "step      " STR_FMT "\n", STR_ARG(said->reason.step));
    buf_printf(out, "sentence  %s\nhint      %s\n", said->reason.sentence, explain_hint(said));
    for (size_t i = 0; i < said->more_count; i++)
        buf_printf(out, "more      %zu %s: %s\n", said->more[i].count, reason_code(said->more[i].id),
                   said->more[i].first.sentence);
    buf_append_char(out, '\n');
}

static void tell(struct buf *out, const char *title, void (*make)(struct scene *s))
{
    struct scene s = {
        .facts = {.shard = 7, .owned = true, .owner = STR("scheduler-1"), .told = true, .broker_up = true, .ahead = -1},
        .queue = {.pool = STR("default"), .priority = 2, .consumers = 1}};
    struct explanation said;

    make(&s);
    look(&s);
    s.facts.arena = s.world.arena;
    s.facts.history = &s.history;
    s.facts.now = s.world.now;
    if (s.facts.told_at.us == 0)
        s.facts.told_at = s.world.now;
    s.facts.queues = &s.queue;
    s.facts.queue_count = 1;
    explain(&s.facts, &said);
    put(out, title, &said);
    world_deinit(&s.world);
}

static void tell_all(struct buf *out)
{
    buf_append_str(
        out,
        STR("# What `explain` says of each way a run can wait: compared by test_explain.c, which can write it anew. A\n"
            "# run of workflow `order`, asked some seconds after its start.\n\n"));
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++)
        tell(out, CASES[i].title, CASES[i].make);
}

static void each_way_to_wait_has_its_words(void **state)
{
    static char kept[FILE_MAX];
    struct buf out;
    FILE *file;
    size_t length;

    (void)state;
    buf_init(&out, FILE_MAX);
    tell_all(&out);
    if (getenv("EXPLAIN_WRITE") != NULL) {
        file = fopen(GOLDEN, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(out.ptr, 1, out.len, file), out.len);
        assert_int_equal(fclose(file), 0);
    }
    file = fopen(GOLDEN, "r");
    assert_non_null(file);
    length = fread(kept, 1, sizeof(kept) - 1, file);
    (void)fclose(file);
    kept[length] = '\0';
    assert_string_equal(out.ptr, kept);
    buf_deinit(&out);
}

/* As what the run waits for, or as one of several things. */
static bool is_told(const char *text, const char *code)
{
    static const char *const lines[] = {"reason    %s\n", "waits for %s\n", "more      1 %s: "};
    bool found = false;

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        const char *name = strchr(lines[i], '%');
        struct buf line;

        buf_init(&line, 256);
        buf_append(&line, lines[i], (size_t)(name - lines[i]));
        buf_printf(&line, "%s%s", code, name + 2);
        found |= strstr(text, line.ptr) != NULL;
        buf_deinit(&line);
    }
    return found;
}

static void every_reason_is_in_the_file_and_has_a_hint(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, FILE_MAX);
    tell_all(&out);
    for (int id = 0; id < REASON_COUNT; id++) {
        struct explanation said = {.reason = {.id = (enum reason_id)id}};
        const char *code = reason_code((enum reason_id)id);

        assert_true(strlen(explain_hint(&said)) > 10);
        if (!is_told(out.ptr, code))
            fail_msg("no case has the reason %s", code);
    }
    for (int phase = PHASE_NONE + 1; phase <= PHASE_NOTIFYING; phase++)
        assert_true(is_told(out.ptr, explain_phase_name((enum explain_phase)phase)));
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_way_to_wait_has_its_words),
        cmocka_unit_test(every_reason_is_in_the_file_and_has_a_hint),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
