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
        json_int_t items = json_integer_value(json_object_get(step, "items"));
        char what[64] = "executed";

        if (items > 0)
            (void)snprintf(what, sizeof(what), "goes on, %" JSON_INTEGER_FORMAT " item%s", items,
                           items == 1 ? "" : "s");
        const char *cells[] = {json_text(step, "step"), json_text(step, "status"), what, json_text(step, "effect"),
                               again};

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
        return bulk(cli, "retry", filter, repeat.confirm_all ? STR("{\"confirm\":true}") : STR("{}"));
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

/* JSON, or @FILE; what is not there is left out. False is told. */
static bool put_value(struct jw *w, const char *key, const char *option, const char *text, struct source *file)
{
    struct str value = str_trim(str_of(text == NULL ? "" : text));
    struct err err;

    if (text == NULL)
        return true;
    if (text[0] == '@') {
        if (!source_load(text + 1, file))
            return false;
        value = str_trim(file->json);
    } else if (jt_check(value, &JT_LIMITS_MESSAGE, &err) != ERR_OK) {
        (void)usage_error("%s is not JSON: %s; @FILE reads a file", option, err.message);
        return false;
    }
    jw_kraw(w, key, value);
    return true;
}

/* The texts of --input and --outputs stay in the caller's sources. */
static bool rerun_body(struct cli *cli, const struct repeat *repeat, struct source *input_file,
                       struct source *outputs_file, struct buf *body)
{
    const char *from = take_option(cli, "--from"), *version = take_option(cli, "--version");
    const char *input = take_option(cli, "--input"), *outputs = take_option(cli, "--outputs");
    struct jw w = jw_to(body);
    uint32_t number = 0;

    if (version != NULL && !parse_u32(str_of(version), 1, INT32_MAX, &number)) {
        (void)usage_error("'%s' is no version number", version);
        return false;
    }
    jw_obj(&w);
    if (from != NULL)
        jw_kcstr(&w, "from", from);
    if (number != 0)
        jw_ki64(&w, "version", number);
    if (!put_value(&w, "input", "--input", input, input_file) ||
        !put_value(&w, "outputs", "--outputs", outputs, outputs_file))
        return false;
    put_confirm(&w, repeat);
    jw_end_obj(&w);
    return true;
}

enum cli_exit cmd_rerun(struct cli *cli)
{
    CLEANUP(source_deinit) struct source input = {0};
    CLEANUP(source_deinit) struct source outputs = {0};
    CLEANUP(buf_deinit) struct buf path = {0};
    CLEANUP(buf_deinit) struct buf body = {0};
    const char *filter = take_option(cli, "--all-matching"), *key;
    struct repeat repeat = take_repeat(cli);
    struct answer answer;
    enum cli_exit rc;

    buf_init(&body, BODY_MAX);
    if (!rerun_body(cli, &repeat, &input, &outputs, &body))
        return CLI_USAGE;
    if (filter != NULL && repeat.plan)
        return usage_error("--plan is about one run; --all-matching takes --dry-run");
    if (filter != NULL)
        return bulk(cli, "rerun", filter, buf_str(&body));
    key = take_option(cli, "--idempotency-key");
    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    path_of(cli->argv[0], "rerun", repeat.plan, &path);
    rc = api_call(
        cli, &(struct api_request){.method = "POST", .path = path.ptr, .body = buf_str(&body), .idempotency_key = key},
        &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else if (repeat.plan)
        print_plan(&answer);
    else
        (void)puts(text_or(json_text(answer.json, "run_id"), ""));
    answer_deinit(&answer);
    return CLI_DONE;
}
