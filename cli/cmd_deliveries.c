/* deliveries: what webhooks brought, looked at and taken again. */
#include "cli/cli.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

static void print_line(const char *name, const char *value)
{
    if (value == NULL)
        return;
    printf("%-17s", name);
    print_clean(stdout, value);
    (void)fputc('\n', stdout);
}

static void print_map(const char *name, const json_t *map)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)map, key, value)
    {
        printf("%-17s", name);
        print_clean(stdout, key);
        (void)fputs(": ", stdout);
        print_clean(stdout, text_or(json_string_value(value), ""));
        (void)fputc('\n', stdout);
    }
}

static void print_delivery(const json_t *delivery)
{
    static const char *const members[] = {"id",     "at",     "workflow", "trigger",         "stage",
                                          "reason", "run_id", "address",  "redelivered_from"};
    size_t i;
    json_t *audit;

    for (i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        print_line(members[i], json_text(delivery, members[i]));
    printf("%-17s%lld, after %lld us\n", "answered", json_int(delivery, "status"), json_int(delivery, "took_us"));
    json_array_foreach(json_object_get(delivery, "audit"), i, audit)
    {
        print_line("audit", json_string_value(audit));
    }
    if (json_is_true(json_object_get(delivery, "old_secret")))
        print_line("signed with", "the secret that is being replaced");
    print_line("can go again", json_is_true(json_object_get(delivery, "redeliverable")) ? "yes" : "no");
    print_map("header", json_object_get(delivery, "headers"));
    print_map("query", json_object_get(delivery, "query"));
    printf("%-17s%lld bytes, the first 4 KiB:\n", "body", json_int(delivery, "body_bytes"));
    print_clean(stdout, text_or(json_text(delivery, "excerpt"), ""));
    (void)fputc('\n', stdout);
}

static enum cli_exit show(struct cli *cli)
{
    struct answer answer;
    enum cli_exit rc;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    rc = api_get(cli, "/v1/deliveries/", cli->argv[0], "", &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        print_delivery(answer.json);
    answer_deinit(&answer);
    return CLI_DONE;
}

static void query_add(struct buf *path, const char *name, const char *value)
{
    char *escaped;

    if (value == NULL)
        return;
    escaped = api_escape(value);
    buf_printf(path, "%c%s=%s", memchr(path->ptr, '?', path->len) == NULL ? '?' : '&', name, escaped);
    mem_free(escaped);
}

static void print_counts(const json_t *items)
{
    static const char *const titles[] = {"STAGE", "REASON", "STATUS", "COUNT", NULL};
    struct table *table = table_new(titles);
    json_t *item;
    size_t i;

    json_array_foreach(items, i, item)
    {
        char status[24], count[24];

        (void)snprintf(status, sizeof(status), "%lld", json_int(item, "status"));
        (void)snprintf(count, sizeof(count), "%lld", json_int(item, "count"));
        table_row(table, (const char *const[]){json_text(item, "stage"), json_text(item, "reason"), status, count});
    }
    table_print(table);
}

static enum cli_exit count(struct cli *cli)
{
    static const char *const filters[] = {"--workflow", "--trigger", "--stage", "--reason", "--status", "--run"};
    CLEANUP(buf_deinit) struct buf path = {0};
    struct answer answer;
    enum cli_exit rc;

    buf_init(&path, 1 << 16);
    buf_append_str(&path, STR("/v1/deliveries:count"));
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
        query_add(&path, filters[i] + 2, take_option(cli, filters[i]));
    if (!words_left(cli, 0, 0))
        return CLI_USAGE;
    rc = api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        print_counts(json_object_get(answer.json, "items"));
    answer_deinit(&answer);
    return CLI_DONE;
}

static enum cli_exit redeliver(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    const char *key = take_option(cli, "--idempotency-key");
    struct answer answer;
    enum cli_exit rc;
    char *escaped;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    escaped = api_escape(cli->argv[0]);
    buf_init(&path, 1 << 16);
    buf_printf(&path, "/v1/deliveries/%s:redeliver", escaped);
    mem_free(escaped);
    rc = api_call(cli, &(struct api_request){.method = "POST", .path = path.ptr, .idempotency_key = key}, &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        printf("%s\n", text_or(json_text(answer.json, "run_id"), ""));
    answer_deinit(&answer);
    return CLI_DONE;
}

enum cli_exit cmd_deliveries(struct cli *cli)
{
    static const struct {
        const char *verb;
        enum cli_exit (*run)(struct cli *cli);
    } verbs[] = {{"show", show}, {"count", count}, {"redeliver", redeliver}};

    if (cli->argc == 0 || cli->argv[0][0] == '-')
        return list_things(cli, "deliveries");
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(cli->argv[0], verbs[i].verb) == 0) {
            cli->argv++;
            cli->argc--;
            return verbs[i].run(cli);
        }
    return usage_error("deliveries takes show, count or redeliver, or options of a list");
}
