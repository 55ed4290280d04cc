/* retry, rerun: a run that has ended, done again in part or as a whole. */
#include "cli/cli.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

#define BODY_MAX ((size_t)8 << 20)

/* What both take: --plan, and --confirm, alone or with steps. */
struct repeat {
    bool plan, confirm_all;
    const char *confirm; /* "a,b", NULL: none */
};

static struct repeat take_repeat(struct cli *cli)
{
    struct repeat repeat = {.plan = take_flag(cli, "--plan"), .confirm = take_option(cli, "--confirm")};

    repeat.confirm_all = take_flag(cli, "--confirm-all");
    return repeat;
}

static void put_confirm(struct jw *w, const struct repeat *repeat)
{
    struct str rest = str_of(repeat->confirm == NULL ? "" : repeat->confirm);

    if (repeat->confirm_all)
        jw_kbool(w, "confirm", true);
    if (repeat->confirm_all || repeat->confirm == NULL)
        return;
    jw_key(w, "confirm");
    jw_arr(w);
    while (rest.len > 0)
        jw_str(w, str_cut(&rest, ','));
    jw_end_arr(w);
}

static void path_of(const char *run, const char *verb, bool plan, struct buf *path)
{
    char *id = api_escape(run);

    buf_init(path, 1 << 16);
    buf_printf(path, "/v1/runs/%s:%s%s", id, verb, plan ? "?plan=true" : "");
    mem_free(id);
}

static void print_plan(const struct answer *answer)
{
    static const char *const titles[] = {"STEP", "STATUS", "WHAT", "EFFECT", "AGAIN", NULL};
    struct table *table = table_new(titles);
    json_t *step;
    size_t i;

    json_array_foreach(json_object_get(answer->json, "reused"), i, step)
    {
        const char *cells[] = {json_text(step, "step"), json_text(step, "status"), "reused", NULL, NULL};

        table_row(table, cells);
    }
    json_array_foreach(json_object_get(answer->json, "executed"), i, step)
    {
        const char *again = json_is_true(json_object_get(step, "again")) ? "yes" : NULL;
        const char *cells[] = {json_text(step, "step"), json_text(step, "status"), "executed",
                               json_text(step, "effect"), again};

        table_row(table, cells);
    }
    table_print(table);
    json_array_foreach(json_object_get(answer->json, "needs_confirmation"), i, step)
    {
        (void)fputs(i == 0 ? "to be confirmed (--confirm STEP,... or --confirm-all): " : ", ", stdout);
        print_clean(stdout, text_or(json_string_value(step), ""));
    }
    if (i > 0)
        (void)fputc('\n', stdout);
}

enum cli_exit cmd_retry(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    CLEANUP(buf_deinit) struct buf body = {0};
    const char *filter = take_option(cli, "--all-matching");
    struct repeat repeat = take_repeat(cli);
    struct answer answer;
    enum cli_exit rc;
    struct jw w;

    if (filter != NULL && (repeat.plan || repeat.confirm != NULL))
        return usage_error("--plan and --confirm are about one run; --all-matching takes --dry-run and --confirm-all");
    if (filter != NULL)
        return bulk(cli, "retry", filter, repeat.confirm_all ? "confirm" : NULL);
    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    path_of(cli->argv[0], "retry", repeat.plan, &path);
    buf_init(&body, BODY_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    put_confirm(&w, &repeat);
    jw_end_obj(&w);
    rc = api_call(cli, &(struct api_request){.method = "POST", .path = path.ptr, .body = buf_str(&body)}, &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else if (repeat.plan)
        print_plan(&answer);
    else if (strcmp(text_or(json_text(answer.json, "status"), ""), "pending") == 0)
        (void)puts("accepted; not applied yet");
    else
        (void)puts("retried: the run goes on");
    answer_deinit(&answer);
    return CLI_DONE;
}
