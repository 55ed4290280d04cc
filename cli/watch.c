/* Follows a run to its end by its events: on a terminal a picture, otherwise a line per event. The shape of the tree
 * comes from the document of the run's version. */
#include "cli/watch.h"
#include "cli/terminal.h"
#include "common/base/json_text.h"
#include <unistd.h>

#include "common/base/banned.h"

#define REDRAW_US (100 * US_PER_MS)
#define DEPTH_MAX 8

bool watch_step_ended(const struct watch_step *step)
{
    static const char *const ends[] = {"succeeded", "failed", "timed_out", "skipped", "cancelled", "outcome_unknown"};

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        if (strcmp(step->status, ends[i]) == 0)
            return true;
    }
    return false;
}

int64_t watch_now_us(const struct watch *w)
{
    return clock_mono().us + w->clock_offset_us;
}

static struct watch_step *step_add(struct watch *w, const char *name)
{
    w->steps = mem_grow(w->steps, w->count + 1, sizeof(*w->steps));
    w->steps[w->count] = (struct watch_step){.name = mem_strdup(name), .status = "pending", .parent = -1};
    return &w->steps[w->count++];
}

static struct watch_step *step_find(struct watch *w, const char *name)
{
    for (size_t i = 0; i < w->count; i++) {
        if (strcmp(w->steps[i].name, name) == 0)
            return &w->steps[i];
    }
    return step_add(w, name);
}

/* Events are a little old when they come, so the newest offset seen is the nearest. */
static int64_t event_time(struct watch *w, const json_t *event)
{
    const char *text = json_text(event, "at");
    struct wall_us at;
    int64_t offset;

    if (text == NULL || !wall_parse(str_of(text), &at))
        return watch_now_us(w);
    offset = at.us - clock_mono().us;
    if (!w->clock_known || offset > w->clock_offset_us)
        w->clock_offset_us = offset;
    w->clock_known = true;
    return at.us;
}

static void set_note(struct watch_step *step, const json_t *data)
{
    const char *branch = json_text(data, "branch");
    const char *code = json_text(data, "code");
    const char *message = json_text(data, "message");
    char note[400] = "";

    if (branch != NULL)
        (void)snprintf(note, sizeof(note), "branch %s", branch);
    else if (code != NULL)
        (void)snprintf(note, sizeof(note), "%s%s%s", code, message == NULL ? "" : ": ", text_or(message, ""));
    mem_free(step->note);
    step->note = note[0] == '\0' ? NULL : mem_strdup(note);
}

static void step_event(struct watch *w, const char *type, const json_t *event)
{
    struct watch_step *step = step_find(w, json_text(event, "step"));
    const char *verb = strchr(type, '.') + 1;
    int64_t at = event_time(w, event);
    long long attempt = json_int(event, "attempt");

    if (strcmp(verb, "late_result") == 0)
        return;
    if (attempt > 0 && attempt < 100000)
        step->attempt = (int)attempt;
    if (step->since_us == 0)
        step->since_us = at;
    if (strcmp(type, "attempt.failed") == 0 || strcmp(verb, "waiting") == 0)
        (void)snprintf(step->status, sizeof(step->status), "waiting");
    else if (strcmp(verb, "dispatched") == 0)
        (void)snprintf(step->status, sizeof(step->status), "queued");
    else
        (void)snprintf(step->status, sizeof(step->status), "%.*s", (int)sizeof(step->status) - 1,
                       strcmp(verb, "started") == 0 ? "running" : verb);
    step->until_us = watch_step_ended(step) ? at : 0;
    set_note(step, json_object_get(event, "data"));
    if (w->terminal)
        return;
    print_clean(stdout, step->name);
    printf(" %s", step->status);
    if (step->attempt > 1)
        printf(", attempt %d", step->attempt);
    if (step->note != NULL) {
        (void)fputs(", ", stdout);
        print_clean(stdout, step->note);
    }
    (void)putchar('\n');
}

static void run_event(struct watch *w, const char *type)
{
    const char *verb = type + strlen("run.");

    w->ended = run_event_is_end(type);
    (void)snprintf(w->status, sizeof(w->status), "%.*s", (int)sizeof(w->status) - 1,
                   strcmp(verb, "started") == 0 ? "running" : verb);
    if (!w->terminal)
        printf("run %s\n", w->status);
}

static void on_tick(void *ctx)
{
    struct watch *w = ctx;

    if (w->terminal && clock_mono().us - w->drawn_at.us >= REDRAW_US)
        watch_draw(w, false);
}

static bool on_event(void *ctx, struct str data)
{
    struct watch *w = ctx;
    json_t *event = json_parse(data);
    const char *type = json_text(event, "type");

    if (!w->show) {
        w->ended = type != NULL && run_event_is_end(type);
    } else if (type != NULL && strncmp(type, "run.", 4) == 0) {
        (void)event_time(w, event);
        run_event(w, type);
    } else if (type != NULL && strchr(type, '.') != NULL && json_text(event, "step") != NULL) {
        step_event(w, type, event);
    }
    json_decref(event);
    if (w->show && !w->terminal)
        (void)fflush(stdout);
    if (w->show && w->terminal && w->ended)
        watch_draw(w, true);
    else
        on_tick(w);
    return !w->ended;
}

/* The steps of a document with what each needs, by index. */
struct shape {
    const json_t *steps;
    size_t count;
    const char **names;
    int *parents, *depths;
};

static int shape_find(const struct shape *shape, const char *name)
{
    for (size_t i = 0; name != NULL && i < shape->count; i++) {
        if (strcmp(shape->names[i], name) == 0)
            return (int)i;
    }
    return -1;
}

static int shape_depth(struct shape *shape, int at);

/* A step is drawn below the deepest of those it needs: all of them have to come before. */
static void shape_consider(struct shape *shape, int at, const char *needed)
{
    int parent = shape_find(shape, needed);
    int depth;

    if (parent < 0)
        return;
    depth = shape_depth(shape, parent) + 1;
    if (depth > shape->depths[at]) {
        shape->depths[at] = depth;
        shape->parents[at] = parent;
    }
}

static int shape_depth(struct shape *shape, int at)
{
    const json_t *needs = json_object_get(json_object_get(shape->steps, shape->names[at]), "needs");
    const char *name;
    json_t *value;
    size_t i;

    if (shape->depths[at] >= 0)
        return shape->depths[at];
    shape->depths[at] = 0; /* also what ends a cycle, which a saved document has not */
    json_array_foreach(needs, i, value)
    {
        shape_consider(shape, at, json_string_value(value));
    }
    json_object_foreach((json_t *)needs, name, value)
    {
        shape_consider(shape, at, name);
    }
    return shape->depths[at];
}

static size_t shape_children(const struct shape *shape, int parent)
{
    size_t count = 0;

    for (size_t i = 0; i < shape->count; i++)
        count += shape->parents[i] == parent ? 1 : 0;
    return count;
}

/* Adds the steps below `parent` in the order of the document, each followed by those below it. A plain chain stays a
 * list, and what is deep goes no further to the right. */
static void shape_lay_out(struct watch *w, const struct shape *shape, int parent, int drawn_parent, int depth)
{
    for (size_t i = 0; i < shape->count; i++) {
        struct watch_step *step;
        bool flat;

        if (shape->parents[i] != parent)
            continue;
        step = step_add(w, shape->names[i]);
        step->parent = drawn_parent;
        step->depth = depth;
        flat = shape_children(shape, (int)i) == 1 && (drawn_parent < 0 || depth >= DEPTH_MAX);
        shape_lay_out(w, shape, (int)i, flat ? drawn_parent : (int)w->count - 1, flat ? depth : depth + 1);
    }
}

static void lay_out(struct watch *w, const json_t *steps)
{
    struct shape shape = {.steps = steps, .count = json_object_size(steps)};
    const char *name;
    json_t *step;
    size_t n = 0;

    if (shape.count == 0 || shape.count > 2000)
        return;
    shape.names = mem_array(shape.count, sizeof(*shape.names));
    shape.parents = mem_array(shape.count, sizeof(*shape.parents));
    shape.depths = mem_array(shape.count, sizeof(*shape.depths));
    json_object_foreach((json_t *)steps, name, step)
    {
        shape.names[n] = name;
        shape.parents[n] = shape.depths[n] = -1;
        n++;
    }
    for (size_t i = 0; i < shape.count; i++)
        (void)shape_depth(&shape, (int)i);
    shape_lay_out(w, &shape, -1, -1, 0);
    mem_free(shape.names);
    mem_free(shape.parents);
    mem_free(shape.depths);
}

/* All steps of the run's version, so that the picture shows what is still to come. Without it, steps appear as they do.
 */
static void load_shape(struct watch *w, const char *run_id)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    struct answer run, version;
    char *name;

    if (api_get(w->cli, "/v1/runs/", run_id, "", &run) != CLI_DONE)
        return;
    name = api_escape(text_or(json_text(run.json, "workflow"), ""));
    buf_init(&path, 1 << 16);
    buf_printf(&path, "/v1/workflows/%s/versions/%lld", name, json_int(run.json, "version"));
    mem_free(name);
    answer_deinit(&run);
    if (api_call(w->cli, &(struct api_request){.method = "GET", .path = path.ptr, .quiet = true}, &version) != CLI_DONE)
        return;
    lay_out(w, json_object_get(version.json, "steps"));
    answer_deinit(&version);
}

static void print_error(const struct answer *answer, const char *status)
{
    const json_t *error = json_object_get(answer->json, "error");
    const char *step = json_text(error, "step");

    fprintf(stderr, "run %s", status);
    if (json_is_object(error)) {
        (void)fputs(step == NULL ? ": " : ": step ", stderr);
        print_clean(stderr, step);
        (void)fputs(step == NULL ? "" : " ", stderr);
        print_clean(stderr, json_text(error, "code"));
        (void)fputs(": ", stderr);
        print_clean(stderr, json_text(error, "message"));
    }
    (void)fputc('\n', stderr);
}

/* The output goes to stdout, digits as they came; why there is none, to stderr. */
static enum cli_exit print_end(const struct cli *cli, const char *run_id)
{
    struct answer answer;
    struct str output;
    const char *status;
    bool succeeded;
    enum cli_exit rc = api_get(cli, "/v1/runs/", run_id, "", &answer);

    if (rc != CLI_DONE)
        return rc;
    status = text_or(json_text(answer.json, "status"), "");
    succeeded = strcmp(status, "succeeded") == 0;
    output = answer_member(&answer, "output");
    if (cli->json) {
        print_answer(cli, &answer);
    } else {
        if (!succeeded)
            print_error(&answer, status);
        if (succeeded || output.ptr != NULL)
            printf(STR_FMT "\n", STR_ARG(output.ptr == NULL ? STR("null") : output));
    }
    answer_deinit(&answer);
    return succeeded ? CLI_DONE : CLI_NOT_SUCCEEDED;
}

enum cli_exit watch_run(const struct cli *cli, const char *run_id, bool show, int timeout_s)
{
    struct watch w = {.cli = cli, .show = show && !cli->json, .status = "pending"};
    struct api_listener listener = {.on_event = on_event, .ctx = &w, .timeout_s = timeout_s};
    CLEANUP(buf_deinit) struct buf path = {0};
    enum cli_exit rc;

    w.terminal = w.show && terminal_is_good();
    w.colours = getenv("NO_COLOR") == NULL;
    w.clock_offset_us = clock_wall().us - clock_mono().us;
    if (w.show)
        printf("run %s\n", run_id);
    if (w.terminal) {
        load_shape(&w, run_id);
        listener.on_tick = on_tick;
    }
    buf_init(&path, 1 << 12);
    buf_printf(&path, "/v1/runs/%s/events", run_id);
    rc = api_stream(cli, path.ptr, &listener);
    if (rc == CLI_DONE)
        rc = print_end(cli, run_id);
    else if (rc == CLI_WAIT_OVER)
        fprintf(stderr, "ropewalk: run %s has not ended within %d s; it goes on\n", run_id, timeout_s);
    for (size_t i = 0; i < w.count; i++) {
        mem_free(w.steps[i].name);
        mem_free(w.steps[i].note);
    }
    mem_free(w.steps);
    return rc;
}
