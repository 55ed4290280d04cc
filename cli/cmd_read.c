/* get, list, events, explain. */
#include "cli/cli.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

static void print_member(const struct answer *answer, const char *name)
{
    struct str value = answer_member(answer, name);

    if (value.ptr == NULL)
        return;
    printf("%s: ", name);
    print_json(value);
}

/* Why a step is where it is: its error, its branch, or what skipped it. */
static void step_note(const json_t *step, char *ret, size_t size)
{
    const json_t *error = json_object_get(step, "error");
    const json_t *because = json_object_get(step, "skipped_because");
    const char *branch = json_text(step, "branch");

    ret[0] = '\0';
    if (json_is_object(error))
        (void)snprintf(ret, size, "%s: %s", text_or(json_text(error, "code"), ""),
                       text_or(json_text(error, "message"), ""));
    else if (branch != NULL)
        (void)snprintf(ret, size, "branch %s", branch);
    else if (json_is_object(because))
        (void)snprintf(ret, size, "%s",
                       text_or(json_text(because, "message"), text_or(json_text(because, "kind"), "skipped")));
}

static void print_steps(const json_t *steps)
{
    static const char *const titles[] = {"STEP", "STATUS", "ATTEMPTS", "TOOK", "WHY", NULL};
    struct table *table = table_new(titles);
    const char *name;
    json_t *step;

    json_object_foreach((json_t *)steps, name, step)
    {
        char attempts[24], took[40], note[400];
        const char *cells[] = {name, json_text(step, "status"), attempts, took, note};

        (void)snprintf(attempts, sizeof(attempts), "%zu", json_array_size(json_object_get(step, "attempts")));
        format_took(json_text(step, "queued_at"), json_text(step, "ended_at"), false, took, sizeof(took));
        step_note(step, note, sizeof(note));
        table_row(table, cells);
    }
    table_print(table);
}

static void print_run(const struct answer *answer)
{
    const json_t *run = answer->json;
    char took[40];

    format_took(json_text(run, "created_at"), json_text(run, "ended_at"), true, took, sizeof(took));
    printf("run %s of %s version %lld: %s, %s\n", text_or(json_text(run, "id"), ""),
           text_or(json_text(run, "workflow"), ""), json_int(run, "version"), text_or(json_text(run, "status"), ""),
           took);
    print_steps(json_object_get(run, "steps"));
    print_member(answer, "error");
    print_member(answer, "output");
}

enum cli_exit cmd_get(struct cli *cli)
{
    struct answer answer;
    const char *what = cli->argc > 0 ? cli->argv[0] : "";
    bool run = strcmp(what, "run") == 0;
    enum cli_exit rc;

    if (strcmp(what, "runs") == 0 || strcmp(what, "workflows") == 0)
        return cmd_list(cli);
    if (!run && strcmp(what, "workflow") != 0)
        return usage_error("get takes run ID or workflow NAME; list takes runs or workflows");
    if (!words_left(cli, 2, 2))
        return CLI_USAGE;
    rc = api_get(cli, run ? "/v1/runs/" : "/v1/workflows/", cli->argv[1], "", &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else if (run)
        print_run(&answer);
    else
        print_json((struct str){answer.text, answer.text_bytes});
    answer_deinit(&answer);
    return CLI_DONE;
}

static void query_add(struct buf *path, const char *name, const char *value)
{
    char *escaped_name = api_escape(name);
    char *escaped = api_escape(value);

    buf_printf(path, "%c%s=%s", memchr(path->ptr, '?', path->len) == NULL ? '?' : '&', escaped_name, escaped);
    mem_free(escaped_name);
    mem_free(escaped);
}

static bool list_query(struct cli *cli, struct buf *path)
{
    static const struct {
        const char *option, *name;
    } options[] = {{"--workflow", "workflow"}, {"--status", "status"},        {"--reason", "reason"},
                   {"--trigger", "trigger"},   {"--stage", "stage"},          {"--run", "run"},
                   {"--limit", "page_size"},   {"--page-token", "page_token"}};
    const char *value;

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        value = take_option(cli, options[i].option);
        if (value != NULL)
            query_add(path, options[i].name, value);
    }
    while ((value = take_option(cli, "--label")) != NULL) {
        CLEANUP(buf_deinit) struct buf name = {0};
        const char *equals = strchr(value, '=');

        if (equals == NULL) {
            (void)usage_error("--label takes KEY=VALUE, not '%s'", value);
            return false;
        }
        buf_init(&name, 4096);
        buf_printf(&name, "label.%.*s", (int)(equals - value), value);
        query_add(path, name.ptr, equals + 1);
    }
    return true;
}

static void run_row(struct table *table, const json_t *item)
{
    char version[24], took[40];

    (void)snprintf(version, sizeof(version), "%lld", json_int(item, "version"));
    format_took(json_text(item, "created_at"), json_text(item, "ended_at"), true, took, sizeof(took));
    table_row(table, (const char *const[]){json_text(item, "id"), json_text(item, "workflow"), version,
                                           json_text(item, "status"), json_text(item, "created_at"), took});
}

static void workflow_row(struct table *table, const json_t *item)
{
    char version[24];

    (void)snprintf(version, sizeof(version), "%lld", json_int(item, "version"));
    table_row(table, (const char *const[]){json_text(item, "name"), version,
                                           json_is_false(json_object_get(item, "enabled")) ? "no" : "yes",
                                           json_text(item, "updated_at")});
}

static void key_row(struct table *table, const json_t *item)
{
    table_row(table, (const char *const[]){json_text(item, "id"), json_text(item, "name"), json_text(item, "role"),
                                           json_text(item, "prefix"), json_text(item, "created_at")});
}

static void letter_row(struct table *table, const json_t *item)
{
    table_row(table, (const char *const[]){json_text(item, "id"), json_text(item, "status"), json_text(item, "at"),
                                           json_text(item, "kind"), json_text(item, "run_id"), json_text(item, "step"),
                                           json_text(item, "reason")});
}

static void version_row(struct table *table, const json_t *item)
{
    char version[24], bytes[24];

    (void)snprintf(version, sizeof(version), "%lld", json_int(item, "version"));
    (void)snprintf(bytes, sizeof(bytes), "%lld", json_int(item, "bytes"));
    table_row(table, (const char *const[]){version, json_text(item, "created_at"), json_text(item, "created_by"), bytes,
                                           json_text(item, "hash")});
}

static void secret_row(struct table *table, const json_t *item)
{
    char version[24], used[24];

    (void)snprintf(version, sizeof(version), "%lld", json_int(item, "version"));
    (void)snprintf(used, sizeof(used), "%zu", json_array_size(json_object_get(item, "used_by")));
    table_row(table, (const char *const[]){json_text(item, "name"), version, json_text(item, "updated_at"),
                                           json_text(item, "updated_by"), json_text(item, "last_used_at"), used});
}

static void delivery_row(struct table *table, const json_t *item)
{
    char status[24];

    (void)snprintf(status, sizeof(status), "%lld", json_int(item, "status"));
    table_row(table, (const char *const[]){json_text(item, "id"), json_text(item, "at"), json_text(item, "workflow"),
                                           json_text(item, "trigger"), status, json_text(item, "stage"),
                                           json_text(item, "reason"), json_text(item, "run_id")});
}

static const char *const delivery_titles[] = {"DELIVERY", "AT",     "WORKFLOW", "TRIGGER", "STATUS",
                                              "STAGE",    "REASON", "RUN",      NULL};
static const char *const secret_titles[] = {"SECRET", "VERSION", "UPDATED", "BY", "LAST USED", "PLACES", NULL};
static const char *const version_titles[] = {"VERSION", "SAVED", "BY", "BYTES", "HASH", NULL};
static const char *const letter_titles[] = {"LETTER", "STATUS", "AT", "KIND", "RUN", "STEP", "REASON", NULL};
static const char *const run_titles[] = {"RUN", "WORKFLOW", "VERSION", "STATUS", "CREATED", "TOOK", NULL};
static const char *const workflow_titles[] = {"WORKFLOW", "VERSION", "ENABLED", "UPDATED", NULL};
static const char *const key_titles[] = {"KEY", "NAME", "ROLE", "PREFIX", "CREATED", NULL};

static const struct {
    const char *name, *path;
    const char *const *titles;
    void (*row)(struct table *table, const json_t *item);
} lists[] = {
    {"runs", "/v1/runs", run_titles, run_row},
    {"workflows", "/v1/workflows", workflow_titles, workflow_row},
    {"versions", "/v1/workflows/", version_titles, version_row}, /* of the workflow of --workflow */
    {"keys", "/v1/api-keys", key_titles, key_row},
    {"dead-letters", "/v1/dead-letters", letter_titles, letter_row},
    {"secrets", "/v1/secrets", secret_titles, secret_row},
    {"deliveries", "/v1/deliveries", delivery_titles, delivery_row},
};
#define LIST_COUNT (sizeof(lists) / sizeof(lists[0]))

static bool versions_path(struct cli *cli, struct buf *path)
{
    const char *workflow = take_option(cli, "--workflow");
    char *name;

    if (workflow == NULL) {
        (void)usage_error("list versions needs --workflow WORKFLOW");
        return false;
    }
    name = api_escape(workflow);
    buf_printf(path, "%s/versions", name);
    mem_free(name);
    return true;
}

enum cli_exit list_things(struct cli *cli, const char *what)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    struct table *table;
    struct answer answer;
    enum cli_exit rc;
    json_t *item;
    size_t i, at = 0;

    while (at < LIST_COUNT && strcmp(what, lists[at].name) != 0)
        at++;
    if (at == LIST_COUNT)
        return usage_error("list takes runs, workflows, versions, keys, secrets, dead-letters or deliveries, not '%s'",
                           what);
    buf_init(&path, 1 << 16);
    buf_append_str(&path, str_of(lists[at].path));
    if (strcmp(what, "versions") == 0 && !versions_path(cli, &path))
        return CLI_USAGE;
    if (!list_query(cli, &path) || !words_left(cli, 0, 0))
        return CLI_USAGE;
    rc = api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json) {
        print_answer(cli, &answer);
    } else {
        table = table_new(lists[at].titles);
        json_array_foreach(json_object_get(answer.json, "items"), i, item)
        {
            lists[at].row(table, item);
        }
        table_print(table);
        if (json_text(answer.json, "next_page_token") != NULL)
            printf("more: --page-token %s\n", json_text(answer.json, "next_page_token"));
    }
    answer_deinit(&answer);
    return CLI_DONE;
}

/* The first word that is no option says what; without one it is runs. */
enum cli_exit cmd_list(struct cli *cli)
{
    const char *what = "runs";

    if (cli->argc > 0 && cli->argv[0][0] != '-') {
        what = cli->argv[0];
        cli->argv++;
        cli->argc--;
    }
    return list_things(cli, what);
}

bool run_event_is_end(const char *type)
{
    static const char *const ends[] = {"run.succeeded", "run.failed",      "run.partially_completed", "run.cancelled",
                                       "run.timed_out", "run.compensated", "run.compensation_failed"};

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        if (strcmp(type, ends[i]) == 0)
            return true;
    }
    return false;
}

static void print_event(const json_t *event)
{
    const json_t *data = json_object_get(event, "data");
    const char *step = json_text(event, "step");
    const char *code = json_text(data, "code");
    const char *branch = json_text(data, "branch");

    printf("%6lld  %s  ", json_int(event, "seq"), text_or(json_text(event, "at"), ""));
    print_clean(stdout, json_text(event, "type"));
    if (step != NULL) {
        (void)putchar(' ');
        print_clean(stdout, step);
    }
    if (json_int(event, "attempt") > 1)
        printf(" attempt %lld", json_int(event, "attempt"));
    if (branch != NULL) {
        (void)fputs(", branch ", stdout);
        print_clean(stdout, branch);
    } else if (code != NULL) {
        (void)fputs(", ", stdout);
        print_clean(stdout, code);
    }
    if (json_text(data, "message") != NULL) {
        (void)fputs(": ", stdout);
        print_clean(stdout, json_text(data, "message"));
    }
    (void)putchar('\n');
}

static bool on_event(void *ctx, struct str data)
{
    const struct cli *cli = ctx;
    json_t *event = json_parse(data);
    const char *type = json_text(event, "type");
    bool end = type != NULL && run_event_is_end(type);

    if (cli->json)
        print_document(cli, data);
    else if (type != NULL)
        print_event(event);
    (void)fflush(stdout);
    json_decref(event);
    return !end;
}

/* The whole history, page by page. */
static enum cli_exit events_so_far(const struct cli *cli, const char *path)
{
    CLEANUP(buf_deinit) struct buf page = {0};
    bool more = true;

    buf_init(&page, 1 << 16);
    buf_printf(&page, "%s?page_size=500", path);
    while (more) {
        struct answer answer;
        enum cli_exit rc = api_call(cli, &(struct api_request){.method = "GET", .path = page.ptr}, &answer);
        const char *token;
        json_t *event;
        size_t i;

        if (rc != CLI_DONE)
            return rc;
        token = json_text(answer.json, "next_page_token");
        if (cli->json)
            print_answer(cli, &answer);
        else
            json_array_foreach(json_object_get(answer.json, "items"), i, event)
            {
                print_event(event);
            }
        buf_reset(&page);
        buf_printf(&page, "%s?page_size=500", path);
        more = token != NULL;
        if (more)
            query_add(&page, "page_token", token);
        answer_deinit(&answer);
    }
    return CLI_DONE;
}

enum cli_exit cmd_events(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    struct api_listener listener = {.on_event = on_event, .ctx = cli};
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";
    bool publish = strcmp(verb, "publish") == 0, follow;
    char *id;

    if (publish || strcmp(verb, "tail") == 0) {
        cli->argv++;
        cli->argc--;
        return publish ? events_publish(cli) : events_tail(cli);
    }
    follow = take_flag(cli, "-f");
    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    id = api_escape(cli->argv[0]);
    buf_init(&path, 1 << 16);
    buf_printf(&path, "/v1/runs/%s/events", id);
    mem_free(id);
    return follow ? api_stream(cli, path.ptr, &listener) : events_so_far(cli, path.ptr);
}

static void print_line(const char *before, const char *text)
{
    (void)fputs(before, stdout);
    print_clean(stdout, text);
    (void)putchar('\n');
}

/* The sentence on a line of its own, why the child is not moving, what to do, and what else is open. */
static void print_explanation(const struct answer *answer)
{
    const json_t *child = json_object_get(answer->json, "child"), *more;
    size_t i;

    print_line("", text_or(json_text(answer->json, "sentence"), answer->text));
    if (json_text(child, "sentence") != NULL)
        print_line("  its child: ", json_text(child, "sentence"));
    if (json_text(answer->json, "hint") != NULL)
        print_line("  what to do: ", text_or(json_text(child, "hint"), json_text(answer->json, "hint")));
    json_array_foreach(json_object_get(answer->json, "more"), i, more)
    {
        char head[80];

        (void)snprintf(head, sizeof(head), "  besides, %lld %s: ", json_int(more, "count"),
                       text_or(json_text(more, "reason"), "open"));
        print_line(head, text_or(json_text(more, "sentence"), ""));
    }
}

enum cli_exit cmd_explain(struct cli *cli)
{
    struct answer answer;
    enum cli_exit rc;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    rc = api_get(cli, "/v1/runs/", cli->argv[0], "/explain", &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json) {
        print_answer(cli, &answer);
    } else {
        print_explanation(&answer);
    }
    answer_deinit(&answer);
    return CLI_DONE;
}
