/* Follows a run to its end: on a terminal a tree of its steps that is drawn again as events come, otherwise a line per
 * event. What the steps need, and so the shape of the tree, comes from the workflow's document. */
#include "cli/cli.h"
#include "common/base/clock.h"
#include <unistd.h>
#include "common/base/banned.h"

#define REDRAW_US (100 * US_PER_MS)

struct seen_step {
    char *name;
    char status[24];
    char *note;
    int depth, attempt;
    struct mono_us since, until;
};

struct watch {
    const struct cli *cli;
    bool show, terminal;
    struct seen_step *steps;
    size_t count;
    int lines_drawn;
    struct mono_us drawn_at;
    char status[32];
    bool ended;
};

static struct seen_step *find(struct watch *w, const char *name)
{
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->steps[i].name, name) == 0)
            return &w->steps[i];
    w->steps = mem_grow(w->steps, w->count + 1, sizeof(*w->steps));
    w->steps[w->count] = (struct seen_step){.name = mem_strdup(name), .status = "pending"};
    return &w->steps[w->count++];
}

static bool has_ended(const struct seen_step *s)
{
    static const char *const ends[] = {"succeeded", "failed", "timed_out", "skipped", "cancelled", "outcome_unknown"};

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (strcmp(s->status, ends[i]) == 0)
            return true;
    return false;
}

static const char *mark_of(const struct seen_step *s)
{
    if (strcmp(s->status, "succeeded") == 0)
        return "\033[32m✓\033[0m";
    if (strcmp(s->status, "skipped") == 0 || strcmp(s->status, "cancelled") == 0)
        return "\033[90m∅\033[0m";
    if (has_ended(s))
        return "\033[31m✗\033[0m";
    return strcmp(s->status, "pending") == 0 ? "\033[90m·\033[0m" : "\033[33m●\033[0m";
}

static void draw(struct watch *w, bool last)
{
    struct mono_us now = clock_mono();
    size_t done = 0;
    int bar;

    if (!w->terminal || !w->show || (!last && now.us - w->drawn_at.us < REDRAW_US))
        return;
    if (w->lines_drawn > 0)
        printf("\033[%dA", w->lines_drawn);
    for (size_t i = 0; i < w->count; i++) {
        const struct seen_step *s = &w->steps[i];
        char took[40] = "";
        if (s->since.us != 0)
            (void)snprintf(took, sizeof(took), "%.1f s",
                           (double)((s->until.us != 0 ? s->until.us : now.us) - s->since.us) / 1e6);
        done += has_ended(s);
        printf("\033[2K%*s%s %-*s %-12s %-8s %s\n", 2 * s->depth, "", mark_of(s), 28 - 2 * s->depth, s->name, s->status,
               took, s->note == NULL ? "" : s->note);
    }
    bar = w->count == 0 ? 0 : (int)(30 * done / w->count);
    printf("\033[2K[%.*s%.*s] %zu/%zu %s\n", bar, "##############################", 30 - bar,
           "..............................", done, w->count, w->status);
    w->lines_drawn = (int)w->count + 1;
    w->drawn_at = now;
    (void)fflush(stdout);
}

static void set_note(struct seen_step *s, const json_t *event)
{
    const char *code = json_text(event, "code");
    const char *message = json_text(event, "message");
    const char *branch = json_text(event, "branch");
    struct buf note;
    size_t len;

    buf_init(&note, 400);
    if (branch != NULL)
        buf_printf(&note, "branch %s", branch);
    else if (code != NULL)
        buf_printf(&note, "%s%s%.200s", code, message == NULL ? "" : ": ", message == NULL ? "" : message);
    mem_free(s->note);
    s->note = note.len == 0 ? NULL : buf_take(&note, &len);
    if (s->note == NULL)
        buf_deinit(&note);
}

static void step_event(struct watch *w, const char *type, const json_t *event)
{
    struct seen_step *s = find(w, json_text(event, "step"));
    const char *verb = strchr(type, '.') + 1;
    int attempt = (int)json_integer_value(json_object_get(event, "attempt"));

    if (strcmp(verb, "late_result") == 0)
        return;
    if (attempt > 0)
        s->attempt = attempt;
    if (s->since.us == 0)
        s->since = clock_mono();
    if (strncmp(type, "attempt.", 8) == 0 || strcmp(verb, "waiting") == 0)
        (void)snprintf(s->status, sizeof(s->status), "waiting");
    else if (strcmp(verb, "dispatched") == 0)
        (void)snprintf(s->status, sizeof(s->status), "queued");
    else if (strcmp(verb, "started") == 0)
        (void)snprintf(s->status, sizeof(s->status), "running");
    else
        (void)snprintf(s->status, sizeof(s->status), "%.20s", verb);
    if (has_ended(s))
        s->until = clock_mono();
    set_note(s, event);
    if (w->show && !w->terminal)
        printf("%s %s%s%s%s\n", s->name, s->status, s->attempt > 1 ? " (repeated)" : "", s->note == NULL ? "" : " ",
               s->note == NULL ? "" : s->note);
}

static bool on_event(void *ctx, const char *data, size_t len)
{
    struct watch *w = ctx;
    json_t *event = json_loadb(data, len, 0, NULL);
    const char *type = json_text(event, "type");

    if (type == NULL) {
        json_decref(event);
        return true;
    }
    if (json_text(event, "step") != NULL && strncmp(type, "run.", 4) != 0) {
        step_event(w, type, event);
    } else if (strncmp(type, "run.", 4) == 0) {
        const char *verb = type + 4;
        (void)snprintf(w->status, sizeof(w->status), "%.30s", strcmp(verb, "started") == 0 ? "running" : verb);
        w->ended = strcmp(verb, "started") != 0 && strcmp(verb, "cancelling") != 0 && strcmp(verb, "timing_out") != 0 &&
                   strcmp(verb, "paused") != 0 && strcmp(verb, "resumed") != 0;
        if (w->show && !w->terminal)
            printf("run %s\n", w->status);
    }
    if (!w->terminal)
        (void)fflush(stdout);
    json_decref(event);
    draw(w, w->ended);
    return !w->ended;
}

static int depth_of(const json_t *steps, const char *name, int guard)
{
    const json_t *needs = json_object_get(json_object_get(steps, name), "needs");
    int depth = 0;
    const char *parent;
    json_t *value;
    size_t i;

    if (guard > 100)
        return 0;
    if (json_is_array(needs))
        json_array_foreach(needs, i, value)
        {
            int d = json_string_value(value) == NULL ? 0 : 1 + depth_of(steps, json_string_value(value), guard + 1);
            depth = d > depth ? d : depth;
        }
    else
        json_object_foreach((json_t *)needs, parent, value)
        {
            int d = 1 + depth_of(steps, parent, guard + 1);
            depth = d > depth ? d : depth;
        }
    return depth;
}

/* All steps of the run's version, so that the tree shows what is still to come. */
static void load_shape(struct watch *w, const json_t *run)
{
    struct answer answer;
    struct buf path;
    const char *name;
    json_t *step;
    const json_t *steps;

    buf_init(&path, 4096);
    buf_printf(&path, "/v1/workflows/%s/versions/%" JSON_INTEGER_FORMAT,
               json_text(run, "workflow") == NULL ? "" : json_text(run, "workflow"),
               json_integer_value(json_object_get(run, "version")));
    if (api_call(w->cli, &(struct api_request){.method = "GET", .path = path.ptr}, &answer) == CLI_DONE) {
        steps = json_object_get(answer.json, "steps");
        json_object_foreach((json_t *)steps, name, step)
        {
            int depth = json_object_size(steps) > 60 ? 0 : depth_of(steps, name, 0);
            find(w, name)->depth = depth > 10 ? 10 : depth;
        }
        answer_deinit(&answer);
    }
    buf_deinit(&path);
}

static enum cli_exit print_end(const struct watch *w, const char *path)
{
    struct answer answer;
    const char *status;
    enum cli_exit rc = api_call(w->cli, &(struct api_request){.method = "GET", .path = path}, &answer);

    if (rc != CLI_DONE)
        return rc;
    status = json_text(answer.json, "status");
    if (w->cli->json) {
        (void)puts(answer.text);
    } else {
        json_t *error = json_object_get(answer.json, "error");
        json_t *output = json_object_get(answer.json, "output");
        char *text = json_dumps(output, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        if (json_is_object(error))
            fprintf(stderr, "run %s: %s%s%s: %s\n", status == NULL ? "" : status,
                    json_text(error, "step") == NULL ? "" : "step ",
                    json_text(error, "step") == NULL ? "" : json_text(error, "step"),
                    json_text(error, "code") == NULL ? "" : json_text(error, "code"),
                    json_text(error, "message") == NULL ? "" : json_text(error, "message"));
        (void)puts(text == NULL ? "null" : text);
        free(text);
    }
    rc = status != NULL && strcmp(status, "succeeded") == 0 ? CLI_DONE : CLI_NOT_SUCCEEDED;
    answer_deinit(&answer);
    return rc;
}

enum cli_exit watch_run(const struct cli *cli, const char *run_id, bool show, int timeout_s)
{
    struct watch w = {
        .cli = cli, .show = show, .terminal = isatty(STDOUT_FILENO) == 1 && !cli->json, .status = "pending"};
    struct answer answer;
    struct buf path, stream;
    enum cli_exit rc;

    w.show = show && !cli->json;
    buf_init(&path, 200);
    buf_init(&stream, 200);
    buf_printf(&path, "/v1/runs/%s", run_id);
    buf_printf(&stream, "/v1/runs/%s/events", run_id);
    if (w.show)
        printf("run %s\n", run_id);
    if (w.show && w.terminal &&
        api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, &answer) == CLI_DONE) {
        load_shape(&w, answer.json);
        answer_deinit(&answer);
    }
    rc = api_stream(cli, stream.ptr, on_event, &w, timeout_s);
    if (rc == CLI_DONE)
        rc = print_end(&w, path.ptr);
    else if (rc == CLI_WAIT_OVER)
        fprintf(stderr, "ropewalk: run %s has not ended within %d s; it goes on\n", run_id, timeout_s);
    for (size_t i = 0; i < w.count; i++) {
        mem_free(w.steps[i].name);
        mem_free(w.steps[i].note);
    }
    mem_free(w.steps);
    buf_deinit(&path);
    buf_deinit(&stream);
    return rc;
}
