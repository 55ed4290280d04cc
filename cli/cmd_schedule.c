/* schedule: what time sets off, looked at, held up, changed, set off by hand. */
#include "cli/cli.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

/* "/v1/schedules/{id}{verb}" */
static void schedule_path(struct buf *path, const char *id, const char *verb)
{
    char *escaped = api_escape(id);

    buf_init(path, 1 << 16);
    buf_printf(path, "/v1/schedules/%s%s", escaped, verb);
    mem_free(escaped);
}

static void add_query(struct buf *path, const char *name, const char *value)
{
    char *escaped;

    if (value == NULL)
        return;
    escaped = api_escape(value);
    buf_printf(path, "%c%s=%s", memchr(path->ptr, '?', path->len) == NULL ? '?' : '&', name, escaped);
    mem_free(escaped);
}

/* Schedules are told apart by an id; people know them as WORKFLOW/TRIGGER. *ret is the id, to be freed. */
static enum cli_exit find_id(const struct cli *cli, const char *word, char **ret)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    struct str trigger = str_of(word), workflow = str_cut(&trigger, '/');
    struct answer answer;
    const json_t *item;
    enum cli_exit rc;
    size_t i;

    *ret = NULL;
    if (trigger.ptr == NULL) {
        *ret = mem_strdup(word);
        return CLI_DONE;
    }
    char *name = mem_dup(workflow.ptr, workflow.len);

    buf_init(&path, 1 << 16);
    buf_append_str(&path, STR("/v1/schedules?page_size=500"));
    add_query(&path, "workflow", name);
    mem_free(name);
    rc = api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, &answer);
    if (rc != CLI_DONE)
        return rc;
    json_array_foreach(json_object_get(answer.json, "items"), i, item)
    {
        if (*ret == NULL && str_is(trigger, json_text(item, "trigger")))
            *ret = mem_strdup(json_text(item, "id"));
    }
    answer_deinit(&answer);
    if (*ret != NULL)
        return CLI_DONE;
    fprintf(stderr, "ropewalk: not_found: there is no schedule '%s'; ropewalk schedule list shows those there are\n",
            word);
    return CLI_REFUSED;
}

static void print_list(const struct answer *answer)
{
    static const char *const titles[] = {"SCHEDULE", "WORKFLOW", "TRIGGER", "KIND", "STATUS", "NEXT", "LAST", NULL};
    struct table *table = table_new(titles);
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(answer->json, "items"), i, item)
    {
        table_row(table,
                  (const char *const[]){json_text(item, "id"), json_text(item, "workflow"), json_text(item, "trigger"),
                                        json_text(item, "kind"), json_text(item, "status"), json_text(item, "next_at"),
                                        json_text(item, "last_at")});
    }
    table_print(table);
    if (json_text(answer->json, "next_page_token") != NULL)
        printf("more: --page-token %s\n", json_text(answer->json, "next_page_token"));
}

static void print_times(const struct answer *answer)
{
    static const char *const titles[] = {"UTC", "LOCAL", "CLOCKS", NULL};
    struct table *table = table_new(titles);
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(answer->json, "items"), i, item)
    {
        table_row(table, (const char *const[]){json_text(item, "utc"), json_text(item, "local"),
                                               json_text(item, "transition")});
    }
    table_print(table);
}

static enum cli_exit look(const struct cli *cli, const char *path, void (*print)(const struct answer *answer))
{
    struct answer answer;
    enum cli_exit rc = api_call(cli, &(struct api_request){.method = "GET", .path = path}, &answer);

    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        print(&answer);
    answer_deinit(&answer);
    return CLI_DONE;
}

static enum cli_exit list(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};

    buf_init(&path, 1 << 16);
    buf_append_str(&path, STR("/v1/schedules"));
    add_query(&path, "workflow", take_option(cli, "--workflow"));
    add_query(&path, "page_size", take_option(cli, "--limit"));
    add_query(&path, "page_token", take_option(cli, "--page-token"));
    return words_left(cli, 0, 0) ? look(cli, path.ptr, print_list) : CLI_USAGE;
}

static enum cli_exit preview(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    const char *count = take_option(cli, "--n"), *after = take_option(cli, "--after");
    enum cli_exit rc;
    char *id;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    rc = find_id(cli, cli->argv[0], &id);
    if (rc != CLI_DONE)
        return rc;
    schedule_path(&path, id, "/preview");
    mem_free(id);
    add_query(&path, "n", count);
    add_query(&path, "after", after);
    return look(cli, path.ptr, print_times);
}

/* What is printed of an answer: the new run's id, or what was done. */
static enum cli_exit ask(const struct cli *cli, const char *method, const char *verb, struct str body, const char *done)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    struct answer answer;
    enum cli_exit rc;
    char *id;

    rc = find_id(cli, cli->argv[0], &id);
    if (rc != CLI_DONE)
        return rc;
    schedule_path(&path, id, verb);
    mem_free(id);
    rc = api_call(cli, &(struct api_request){.method = method, .path = path.ptr, .body = body}, &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else if (done == NULL)
        printf("%s\n", text_or(json_text(answer.json, "run_id"), ""));
    else
        printf("%s %s\n", done, cli->argv[0]);
    answer_deinit(&answer);
    return CLI_DONE;
}

static enum cli_exit override(struct cli *cli)
{
    CLEANUP(source_deinit) struct source file = {0};
    CLEANUP(buf_deinit) struct buf body = {0};
    bool remove = take_flag(cli, "--remove");
    struct str value = STR("null");

    if (!words_left(cli, remove ? 1 : 2, remove ? 1 : 2) ||
        (!remove && !take_value(cli->argv[1], "the override", &file, &value)))
        return CLI_USAGE;
    buf_init(&body, (size_t)8 << 20);
    buf_printf(&body, "{\"override\":" STR_FMT "}", STR_ARG(value));
    return ask(cli, "PATCH", "", buf_str(&body), remove ? "as in the document again:" : "overridden:");
}

enum cli_exit cmd_schedule(struct cli *cli)
{
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";

    cli->argv++;
    cli->argc--;
    if (strcmp(verb, "list") == 0)
        return list(cli);
    if (strcmp(verb, "preview") == 0)
        return preview(cli);
    if (strcmp(verb, "override") == 0)
        return override(cli);
    if (strcmp(verb, "pause") == 0)
        return words_left(cli, 1, 1) ? ask(cli, "POST", ":pause", STR_NONE, "paused") : CLI_USAGE;
    if (strcmp(verb, "resume") == 0)
        return words_left(cli, 1, 1) ? ask(cli, "POST", ":resume", STR_NONE, "goes on:") : CLI_USAGE;
    if (strcmp(verb, "trigger") == 0)
        return words_left(cli, 1, 1) ? ask(cli, "POST", ":trigger", STR_NONE, NULL) : CLI_USAGE;
    return usage_error("schedule takes list, preview, pause, resume, trigger or override");
}
