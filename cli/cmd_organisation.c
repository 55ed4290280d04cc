/* organisation: what it may, and whose word that is. */
#include "cli/cli.h"
#include "common/base/json_text.h"
#include <inttypes.h>

#include "common/base/banned.h"

static void print_organisation(const json_t *organisation)
{
    static const char *const titles[] = {"limit", "value", "unit", "set by", "default", "maximum", NULL};
    json_t *limits = json_object_get(organisation, "effective_limits"), *limit;
    struct table *table = table_new(titles);
    const char *name;

    print_clean(stdout, text_or(json_text(organisation, "name"), ""));
    printf(", weight %lld, since %s\n", json_int(organisation, "weight"),
           text_or(json_text(organisation, "created_at"), "?"));
    json_object_foreach(limits, name, limit)
    {
        char value[32], standard[32], most[32];
        const char *cells[] = {name, value, json_text(limit, "unit"), json_text(limit, "source"), standard, most};

        snprintf(value, sizeof(value), "%lld", json_int(limit, "value"));
        snprintf(standard, sizeof(standard), "%lld", json_int(limit, "default"));
        snprintf(most, sizeof(most), "%lld", json_int(limit, "maximum"));
        table_row(table, cells);
    }
    table_print(table);
}

static enum cli_exit show_answer(const struct cli *cli, enum cli_exit rc, struct answer *answer)
{
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, answer);
    else
        print_organisation(answer->json);
    answer_deinit(answer);
    return CLI_DONE;
}

static enum cli_exit show(struct cli *cli)
{
    struct answer answer;
    enum cli_exit rc;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    rc = api_get(cli, "/v1/organisations/", cli->argv[0], "", &answer);
    return show_answer(cli, rc, &answer);
}

/* "steps=200" as a member; what the limits are called the server knows. */
static bool put_limit(struct jw *w, const char *word)
{
    struct str value = str_of(word), name = str_cut(&value, '=');
    int64_t n = 0;

    if (value.ptr == NULL || name.len == 0 || (!str_is(value, "default") && !parse_i64(value, 0, INT64_MAX, &n)))
        return false;
    jw_key_str(w, name);
    if (str_is(value, "default"))
        jw_null(w);
    else
        jw_i64(w, n);
    return true;
}

static enum cli_exit change(struct cli *cli, struct str body)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    char *name = api_escape(cli->argv[0]);
    struct answer answer;
    enum cli_exit rc;

    buf_init(&path, 1 << 16);
    buf_printf(&path, "/v1/organisations/%s", name);
    mem_free(name);
    rc = api_call(cli, &(struct api_request){.method = "PATCH", .path = path.ptr, .body = body}, &answer);
    return show_answer(cli, rc, &answer);
}

/* Which weights there are the server knows. */
static enum cli_exit weight(struct cli *cli)
{
    char body[64];
    int64_t n = 0;

    if (!words_left(cli, 2, 2))
        return CLI_USAGE;
    if (!parse_i64(str_of(cli->argv[1]), INT64_MIN, INT64_MAX, &n))
        return usage_error("'%s' is no whole number", cli->argv[1]);
    snprintf(body, sizeof(body), "{\"weight\":%" PRId64 "}", n);
    return change(cli, str_of(body));
}

static enum cli_exit limits(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    if (!words_left(cli, 2, 64))
        return CLI_USAGE;
    buf_init(&body, 1 << 20);
    w = jw_to(&body);
    jw_obj(&w);
    jw_key(&w, "limits");
    jw_obj(&w);
    for (int i = 1; i < cli->argc; i++)
        if (!put_limit(&w, cli->argv[i]))
            return usage_error("'%s' is no limit such as steps=200 or steps=default", cli->argv[i]);
    jw_end_obj(&w);
    jw_end_obj(&w);
    return change(cli, buf_str(&body));
}

enum cli_exit cmd_organisation(struct cli *cli)
{
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";

    cli->argv++;
    cli->argc--;
    if (strcmp(verb, "show") == 0)
        return show(cli);
    if (strcmp(verb, "limits") == 0)
        return limits(cli);
    if (strcmp(verb, "weight") == 0)
        return weight(cli);
    return usage_error("organisation takes show, limits or weight");
}
