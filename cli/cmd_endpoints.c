/* endpoint: where events of runs are sent to, and what came of it. */
#include "cli/cli.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

#define BODY_MAX ((size_t)1 << 20)

/* "/v1/endpoints/{id}{rest}" */
static void endpoint_path(struct buf *path, const char *id, const char *rest)
{
    char *escaped = api_escape(id);

    buf_init(path, 1 << 16);
    buf_printf(path, "/v1/endpoints/%s%s", escaped, rest);
    mem_free(escaped);
}

static void delivery_path(struct buf *path, const char *id, const char *event, const char *rest)
{
    char *escaped = api_escape(event);

    endpoint_path(path, id, "/deliveries/");
    buf_printf(path, "%s%s", escaped, rest);
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

/* ---- what is printed ---- */

static void print_line(const char *name, const char *value)
{
    if (value == NULL || value[0] == '\0')
        return;
    printf("%-17s", name);
    print_clean(stdout, value);
    (void)fputc('\n', stdout);
}

static void print_names(const char *name, const json_t *names)
{
    size_t i;
    json_t *one;

    json_array_foreach(names, i, one)
    {
        print_line(i == 0 ? name : "", json_string_value(one));
    }
}

static void print_endpoint(const json_t *endpoint)
{
    static const char *const members[] = {
        "id",          "kind",          "url",        "description",     "disabled_reason",
        "disabled_at", "failing_since", "created_at", "old_secret_until"};

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        print_line(members[i], json_text(endpoint, members[i]));
    print_line("enabled", json_is_true(json_object_get(endpoint, "enabled")) ? "yes" : "no");
    print_names("types", json_object_get(endpoint, "types"));
    print_names("workflows", json_object_get(endpoint, "workflows"));
    printf("%-17s%lld\n", "pending", json_int(endpoint, "pending"));
    if (json_text(endpoint, "secret") == NULL)
        return;
    print_line("secret", json_text(endpoint, "secret"));
    printf("the secret is shown this once: receivers check signatures with it\n");
}

static void print_endpoints(const json_t *page)
{
    static const char *const titles[] = {"ENDPOINT", "KIND", "URL", "ENABLED", "PENDING", "FAILING SINCE", NULL};
    struct table *table = table_new(titles);
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(page, "items"), i, item)
    {
        char pending[32];

        snprintf(pending, sizeof(pending), "%lld", json_int(item, "pending"));
        table_row(table, (const char *const[]){json_text(item, "id"), json_text(item, "kind"), json_text(item, "url"),
                                               json_is_true(json_object_get(item, "enabled"))
                                                   ? "yes"
                                                   : text_or(json_text(item, "disabled_reason"), "no"),
                                               pending, json_text(item, "failing_since")});
    }
    table_print(table);
    if (json_text(page, "next_page_token") != NULL)
        printf("more: --page-token %s\n", json_text(page, "next_page_token"));
}

/* "200", "no answer: could not connect", "" */
static void format_attempt(const json_t *attempt, char *ret, size_t size)
{
    ret[0] = '\0';
    if (json_is_integer(json_object_get(attempt, "status")))
        snprintf(ret, size, "%lld", json_int(attempt, "status"));
    else if (json_is_object(attempt))
        snprintf(ret, size, "no answer: %s", text_or(json_text(attempt, "error"), ""));
}

static void print_deliveries(const json_t *page)
{
    static const char *const titles[] = {"EVENT", "TYPE", "STATUS", "ATTEMPTS", "LAST", "NEXT", NULL};
    struct table *table = table_new(titles);
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(page, "items"), i, item)
    {
        char attempts[32], last[256];

        snprintf(attempts, sizeof(attempts), "%lld", json_int(item, "attempts"));
        format_attempt(json_object_get(item, "last_attempt"), last, sizeof(last));
        table_row(table,
                  (const char *const[]){json_text(item, "id"), json_text(item, "type"), json_text(item, "status"),
                                        attempts, last[0] == '\0' ? NULL : last, json_text(item, "next_at")});
    }
    table_print(table);
    if (json_text(page, "next_page_token") != NULL)
        printf("more: --page-token %s\n", json_text(page, "next_page_token"));
}

static void print_delivery(const json_t *delivery)
{
    static const char *const members[] = {"id", "type", "run_id", "at", "status", "next_at", "expires_at"};
    const json_t *attempt;
    size_t i;

    for (i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        print_line(members[i], json_text(delivery, members[i]));
    json_array_foreach(json_object_get(delivery, "attempt_log"), i, attempt)
    {
        char last[256];

        format_attempt(attempt, last, sizeof(last));
        printf("attempt %-9lld%s, ", json_int(attempt, "attempt"), text_or(json_text(attempt, "at"), ""));
        print_clean(stdout, last);
        printf(", after %lld us\n", json_int(attempt, "took_us"));
        print_line("", json_text(attempt, "answer"));
    }
}

/* ---- asking ---- */

static enum cli_exit ask(const struct cli *cli, const char *method, const char *path, struct str body,
                         void (*print)(const json_t *answer), const char *done)
{
    struct answer answer;
    enum cli_exit rc = api_call(cli, &(struct api_request){.method = method, .path = path, .body = body}, &answer);

    if (rc != CLI_DONE)
        return rc;
    if (cli->json && answer.text_bytes > 0)
        print_answer(cli, &answer);
    else if (print != NULL)
        print(answer.json);
    else
        printf("%s %s\n", done, cli->argv[0]);
    answer_deinit(&answer);
    return CLI_DONE;
}

/* "a,b" as a list; "all" as null. */
static void put_names(struct jw *w, const char *key, const char *text)
{
    struct str rest;

    if (text == NULL)
        return;
    jw_key(w, key);
    if (strcmp(text, "all") == 0) {
        jw_null(w);
        return;
    }
    rest = str_of(text);
    jw_arr(w);
    while (rest.len > 0)
        jw_str(w, str_trim(str_cut(&rest, ',')));
    jw_end_arr(w);
}

/* What the options say; the body is the caller's. */
static struct jw begin_body(struct cli *cli, struct buf *body)
{
    const char *types = take_option(cli, "--types"), *workflows = take_option(cli, "--workflows"),
               *description = take_option(cli, "--description");
    struct jw w;

    buf_init(body, BODY_MAX);
    w = jw_to(body);
    jw_obj(&w);
    put_names(&w, "types", types);
    put_names(&w, "workflows", workflows);
    if (description != NULL)
        jw_kcstr(&w, "description", description);
    return w;
}

static enum cli_exit add(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    bool exchange = take_flag(cli, "--exchange");
    struct jw w = begin_body(cli, &body);

    if (!words_left(cli, exchange ? 0 : 1, exchange ? 0 : 1))
        return CLI_USAGE;
    if (exchange)
        jw_kcstr(&w, "kind", "exchange");
    else
        jw_kcstr(&w, "url", cli->argv[0]);
    jw_end_obj(&w);
    return ask(cli, "POST", "/v1/endpoints", buf_str(&body), print_endpoint, NULL);
}

static enum cli_exit change(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf body = {0}, path = {0};
    const char *url = take_option(cli, "--url");
    bool enable = take_flag(cli, "--enable"), disable = take_flag(cli, "--disable");
    struct jw w = begin_body(cli, &body);

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    if (enable && disable)
        return usage_error("--enable and --disable exclude each other");
    if (url != NULL)
        jw_kcstr(&w, "url", url);
    if (enable || disable)
        jw_kbool(&w, "enabled", enable);
    jw_end_obj(&w);
    endpoint_path(&path, cli->argv[0], "");
    return ask(cli, "PATCH", path.ptr, buf_str(&body), print_endpoint, NULL);
}

static enum cli_exit list(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};

    buf_init(&path, 1 << 16);
    buf_append_str(&path, STR("/v1/endpoints"));
    add_query(&path, "page_size", take_option(cli, "--limit"));
    add_query(&path, "page_token", take_option(cli, "--page-token"));
    return words_left(cli, 0, 0) ? ask(cli, "GET", path.ptr, STR_NONE, print_endpoints, NULL) : CLI_USAGE;
}

static enum cli_exit one(struct cli *cli, const char *method, const char *rest, void (*print)(const json_t *answer),
                         const char *done)
{
    CLEANUP(buf_deinit) struct buf path = {0};

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    endpoint_path(&path, cli->argv[0], rest);
    return ask(cli, method, path.ptr, STR_NONE, print, done);
}

static enum cli_exit rotate(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0}, body = {0};
    const char *overlap = take_option(cli, "--overlap");
    struct jw w;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    buf_init(&body, BODY_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    if (overlap != NULL)
        jw_kcstr(&w, "overlap", overlap);
    jw_end_obj(&w);
    endpoint_path(&path, cli->argv[0], ":rotate");
    return ask(cli, "POST", path.ptr, buf_str(&body), print_endpoint, NULL);
}

static enum cli_exit deliveries(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    const char *status = take_option(cli, "--status"), *type = take_option(cli, "--type"),
               *limit = take_option(cli, "--limit"), *token = take_option(cli, "--page-token");

    if (!words_left(cli, 1, 2))
        return CLI_USAGE;
    if (cli->argc == 2) {
        delivery_path(&path, cli->argv[0], cli->argv[1], "");
        return ask(cli, "GET", path.ptr, STR_NONE, print_delivery, NULL);
    }
    endpoint_path(&path, cli->argv[0], "/deliveries");
    add_query(&path, "status", status);
    add_query(&path, "type", type);
    add_query(&path, "page_size", limit);
    add_query(&path, "page_token", token);
    return ask(cli, "GET", path.ptr, STR_NONE, print_deliveries, NULL);
}

static enum cli_exit redeliver(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};

    if (!words_left(cli, 2, 2))
        return CLI_USAGE;
    delivery_path(&path, cli->argv[0], cli->argv[1], ":redeliver");
    return ask(cli, "POST", path.ptr, STR_NONE, NULL, "sent again to");
}

static void print_asked(const json_t *asked)
{
    printf("%s\n", text_or(json_text(asked, "id"), ""));
}

enum cli_exit cmd_endpoint(struct cli *cli)
{
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";

    cli->argv++;
    cli->argc--;
    if (strcmp(verb, "add") == 0)
        return add(cli);
    if (strcmp(verb, "list") == 0)
        return list(cli);
    if (strcmp(verb, "show") == 0)
        return one(cli, "GET", "", print_endpoint, NULL);
    if (strcmp(verb, "change") == 0)
        return change(cli);
    if (strcmp(verb, "delete") == 0)
        return one(cli, "DELETE", "", NULL, "deleted");
    if (strcmp(verb, "rotate") == 0)
        return rotate(cli);
    if (strcmp(verb, "test") == 0)
        return one(cli, "POST", ":test", print_asked, NULL);
    if (strcmp(verb, "deliveries") == 0)
        return deliveries(cli);
    if (strcmp(verb, "redeliver") == 0)
        return redeliver(cli);
    return usage_error("endpoint takes add, list, show, change, delete, rotate, test, deliveries or redeliver");
}
