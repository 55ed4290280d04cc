/* run, get, list, events, explain. */
#include "cli/cli.h"
#include "common/base/json_text.h"
#include "common/base/banned.h"

static char *input_text(const char *option)
{
    size_t len;

    if (option == NULL)
        return mem_strdup("{}");
    if (option[0] == '@')
        return read_document(option + 1, &len);
    return mem_strdup(option);
}

/* "key=value" to an object of labels. */
static bool add_label(struct buf *labels, const char *text)
{
    const char *equals = strchr(text, '=');

    if (equals == NULL || equals == text) {
        (void)usage_error("--label takes KEY=VALUE, not '%s'", text);
        return false;
    }
    if (labels->len > 0)
        buf_append_char(labels, ',');
    json_quote(labels, (struct str){text, (size_t)(equals - text)});
    buf_append_char(labels, ':');
    json_quote(labels, str_of(equals + 1));
    return true;
}

static bool start_body(struct cli *cli, struct buf *body)
{
    char *input = input_text(take_option(cli, "--input"));
    const char *label;
    struct buf labels;
    struct err err;
    bool good = input != NULL;

    if (!good)
        return false;
    buf_init(&labels, 1 << 20);
    while (good && (label = take_option(cli, "--label")) != NULL)
        good = add_label(&labels, label);
    if (good && jt_check(str_trim(str_of(input)), &JT_LIMITS_MESSAGE, &err) != ERR_OK) {
        (void)usage_error("--input is not JSON: %s", err.message);
        good = false;
    }
    if (good)
        buf_printf(body, "{\"input\":%s%s%s%s}", input, labels.len > 0 ? ",\"labels\":{" : "",
                   labels.len > 0 ? labels.ptr : "", labels.len > 0 ? "}" : "");
    buf_deinit(&labels);
    mem_free(input);
    return good;
}

enum cli_exit cmd_run(struct cli *cli)
{
    bool watch = take_flag(cli, "--watch");
    bool wait = take_flag(cli, "--wait");
    const char *key = take_option(cli, "--idempotency-key");
    const char *timeout = take_option(cli, "--timeout");
    uint32_t timeout_s = 0;
    struct answer answer;
    struct buf body, path;
    enum cli_exit rc = CLI_USAGE;
    char *name;

    if (timeout != NULL && !parse_u32(str_of(timeout), 1, 366 * 86400, &timeout_s))
        return usage_error("--timeout takes seconds, not '%s'", timeout);
    buf_init(&body, 8 << 20);
    if (!start_body(cli, &body) || !words_left(cli, 1, 1)) {
        buf_deinit(&body);
        return CLI_USAGE;
    }
    name = api_escape(cli->argv[0]);
    buf_init(&path, 4096);
    buf_printf(&path, "/v1/workflows/%s/runs", name);
    rc = api_call(cli,
                  &(struct api_request){.method = "POST", .path = path.ptr, .body = body.ptr, .idempotency_key = key},
                  &answer);
    if (rc == CLI_DONE) {
        const char *id = json_text(answer.json, "run_id");
        if (watch || wait)
            rc = watch_run(cli, id == NULL ? "" : id, watch, (int)timeout_s);
        else if (cli->json)
            (void)puts(answer.text);
        else
            (void)puts(id == NULL ? "" : id);
        answer_deinit(&answer);
    }
    mem_free(name);
    buf_deinit(&path);
    buf_deinit(&body);
    return rc;
}

static enum cli_exit get(const struct cli *cli, struct answer *answer, const char *format, const char *word)
{
    char *escaped = api_escape(word);
    struct buf path;
    enum cli_exit rc;

    buf_init(&path, 8192);
    buf_append_str(&path, str_of(format));
    buf_append_str(&path, str_of(escaped));
    rc = api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, answer);
    buf_deinit(&path);
    mem_free(escaped);
    return rc;
}

static void print_dump(const char *title, const json_t *value)
{
    char *text;

    if (value == NULL || json_is_null(value))
        return;
    text = json_dumps(value, JSON_ENCODE_ANY | JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    printf("%s: %s\n", title, text == NULL ? "" : text);
    free(text);
}

static void print_steps(const json_t *steps)
{
    static const char *const titles[] = {"STEP", "STATUS", "ATTEMPTS", "TOOK", "WHY", NULL};
    struct table *table = table_new(titles);
    const char *name;
    json_t *step;

    json_object_foreach((json_t *)steps, name, step)
    {
        const json_t *error = json_object_get(step, "error");
        const json_t *because = json_object_get(step, "skipped_because");
        const char *branch = json_text(step, "branch");
        char attempts[24], took[40], why[400] = "";
        const char *cells[] = {name, json_text(step, "status"), attempts, took, why};
        (void)snprintf(attempts, sizeof(attempts), "%zu", json_array_size(json_object_get(step, "attempts")));
        format_duration(json_text(step, "queued_at"), json_text(step, "ended_at"), false, took, sizeof(took));
        if (json_is_object(error))
            (void)snprintf(why, sizeof(why), "%s: %.300s",
                           json_text(error, "code") == NULL ? "" : json_text(error, "code"),
                           json_text(error, "message") == NULL ? "" : json_text(error, "message"));
        else if (branch != NULL)
            (void)snprintf(why, sizeof(why), "branch %s", branch);
        else if (json_is_object(because)) {
            char *text = json_dumps(because, JSON_COMPACT);
            (void)snprintf(why, sizeof(why), "%.390s", text == NULL ? "" : text);
            free(text);
        }
        table_row(table, cells);
    }
    table_print(table);
}

static void print_run(const json_t *run)
{
    char took[40];

    format_duration(json_text(run, "created_at"), json_text(run, "ended_at"), true, took, sizeof(took));
    printf("run %s of %s version %" JSON_INTEGER_FORMAT ": %s, %s\n", json_text(run, "id"), json_text(run, "workflow"),
           json_integer_value(json_object_get(run, "version")), json_text(run, "status"), took);
    print_steps(json_object_get(run, "steps"));
    print_dump("error", json_object_get(run, "error"));
    print_dump("output", json_object_get(run, "output"));
}

enum cli_exit cmd_get(struct cli *cli)
{
    struct answer answer;
    enum cli_exit rc;
    bool run;

    if (!words_left(cli, 2, 2))
        return CLI_USAGE;
    run = strcmp(cli->argv[0], "run") == 0;
    if (!run && strcmp(cli->argv[0], "workflow") != 0)
        return usage_error("get takes run ID or workflow NAME");
    rc = get(cli, &answer, run ? "/v1/runs/" : "/v1/workflows/", cli->argv[1]);
    if (rc != CLI_DONE)
        return rc;
    if (run && !cli->json)
        print_run(answer.json);
    else
        (void)puts(answer.text);
    answer_deinit(&answer);
    return CLI_DONE;
}

/* Adds "&name=value" when the option is there. */
static void add_query(struct cli *cli, struct buf *path, const char *option, const char *name)
{
    const char *value = take_option(cli, option);
    char *escaped;

    if (value == NULL)
        return;
    escaped = api_escape(value);
    buf_printf(path, "&%s=%s", name, escaped);
    mem_free(escaped);
}

static enum cli_exit list_query(struct cli *cli, struct buf *path)
{
    const char *label;

    add_query(cli, path, "--workflow", "workflow");
    add_query(cli, path, "--status", "status");
    add_query(cli, path, "--limit", "page_size");
    add_query(cli, path, "--page-token", "page_token");
    while ((label = take_option(cli, "--label")) != NULL) {
        const char *equals = strchr(label, '=');
        char *key, *value;
        if (equals == NULL)
            return usage_error("--label takes KEY=VALUE, not '%s'", label);
        key = mem_dup(label, (size_t)(equals - label));
        value = api_escape(equals + 1);
        buf_printf(path, "&label.%s=%s", key, value);
        mem_free(key);
        mem_free(value);
    }
    return CLI_DONE;
}

static void print_items(const char *what, const json_t *items)
{
    static const char *const run_titles[] = {"RUN", "WORKFLOW", "VERSION", "STATUS", "CREATED", "TOOK", NULL};
    static const char *const workflow_titles[] = {"WORKFLOW", "VERSION", "ENABLED", "UPDATED", NULL};
    static const char *const key_titles[] = {"KEY", "NAME", "ROLE", "PREFIX", "CREATED", NULL};
    bool runs = strcmp(what, "runs") == 0, keys = strcmp(what, "keys") == 0;
    struct table *table = table_new(runs ? run_titles : keys ? key_titles : workflow_titles);
    json_t *item;
    size_t i;

    json_array_foreach(items, i, item)
    {
        char version[24], took[40];
        (void)snprintf(version, sizeof(version), "%" JSON_INTEGER_FORMAT,
                       json_integer_value(json_object_get(item, "version")));
        format_duration(json_text(item, "created_at"), json_text(item, "ended_at"), true, took, sizeof(took));
        if (runs)
            table_row(table, (const char *const[]){json_text(item, "id"), json_text(item, "workflow"), version,
                                                   json_text(item, "status"), json_text(item, "created_at"), took});
        else if (keys)
            table_row(table,
                      (const char *const[]){json_text(item, "id"), json_text(item, "name"), json_text(item, "role"),
                                            json_text(item, "prefix"), json_text(item, "created_at")});
        else
            table_row(table, (const char *const[]){json_text(item, "name"), version,
                                                   json_is_true(json_object_get(item, "enabled")) ? "yes" : "no",
                                                   json_text(item, "updated_at")});
    }
    table_print(table);
}

enum cli_exit cmd_list(struct cli *cli)
{
    struct answer answer;
    struct buf path;
    enum cli_exit rc;
    const char *what = cli->argc > 0 ? cli->argv[0] : "";
    bool keys = strcmp(what, "keys") == 0;

    if (!keys && strcmp(what, "runs") != 0 && strcmp(what, "workflows") != 0)
        return usage_error("list takes runs, workflows or keys");
    buf_init(&path, 16384);
    buf_printf(&path, "/v1/%s?", keys ? "api-keys" : what);
    rc = list_query(cli, &path);
    if (rc != CLI_DONE || !words_left(cli, 1, 1)) {
        buf_deinit(&path);
        return CLI_USAGE;
    }
    if (path.ptr[path.len - 1] == '?') {
        path.ptr[--path.len] = '\0';
    } else {
        char *ampersand = strchr(path.ptr, '&');
        memmove(ampersand, ampersand + 1, strlen(ampersand));
    }
    rc = api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, &answer);
    buf_deinit(&path);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        (void)puts(answer.text);
    else {
        print_items(what, json_object_get(answer.json, "items"));
        if (json_text(answer.json, "next_page_token") != NULL)
            printf("more: --page-token %s\n", json_text(answer.json, "next_page_token"));
    }
    answer_deinit(&answer);
    return CLI_DONE;
}

static bool print_event(void *ctx, const char *data, size_t len)
{
    const struct cli *cli = ctx;
    json_t *event = json_loadb(data, len, 0, NULL);
    const char *type = json_text(event, "type");
    bool end = type != NULL && strncmp(type, "run.", 4) == 0 && strcmp(type, "run.started") != 0 &&
               strcmp(type, "run.cancelling") != 0 && strcmp(type, "run.timing_out") != 0;

    if (cli->json)
        printf("%.*s\n", (int)len, data);
    else
        printf("%6" JSON_INTEGER_FORMAT "  %s  %-22s %s\n", json_integer_value(json_object_get(event, "seq")),
               json_text(event, "at") == NULL ? "" : json_text(event, "at"), type == NULL ? "" : type,
               json_text(event, "step") == NULL ? "" : json_text(event, "step"));
    (void)fflush(stdout);
    json_decref(event);
    return !end;
}

enum cli_exit cmd_events(struct cli *cli)
{
    bool follow = take_flag(cli, "-f");
    struct answer answer;
    char *id;
    struct buf path;
    enum cli_exit rc;
    json_t *event;
    size_t i;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    id = api_escape(cli->argv[0]);
    buf_init(&path, 4096);
    buf_printf(&path, "/v1/runs/%s/events", id);
    if (follow) {
        rc = api_stream(cli, path.ptr, print_event, cli, 0);
    } else {
        rc = api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, &answer);
        if (rc == CLI_DONE && cli->json)
            (void)puts(answer.text);
        if (rc == CLI_DONE && !cli->json)
            json_array_foreach(json_object_get(answer.json, "items"), i, event)
            {
                char *text = json_dumps(event, 0);
                (void)print_event(cli, text, strlen(text));
                free(text);
            }
        if (rc == CLI_DONE)
            answer_deinit(&answer);
    }
    buf_deinit(&path);
    mem_free(id);
    return rc;
}

enum cli_exit cmd_explain(struct cli *cli)
{
    struct answer answer;
    struct buf path;
    enum cli_exit rc;
    char *id;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    id = api_escape(cli->argv[0]);
    buf_init(&path, 4096);
    buf_printf(&path, "/v1/runs/%s/explain", id);
    rc = api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, &answer);
    buf_deinit(&path);
    mem_free(id);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        (void)puts(answer.text);
    else
        (void)puts(json_text(answer.json, "sentence") == NULL ? answer.text : json_text(answer.json, "sentence"));
    answer_deinit(&answer);
    return CLI_DONE;
}
