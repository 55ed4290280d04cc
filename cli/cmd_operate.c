/* signal, settle, compensate, cancel, release: what a person says to a run. rollback, diff: of versions. */
#include "cli/cli.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

/* "/v1/runs/{first}{middle}{second}{end}" with both words percent-encoded. */
static void make_path(struct buf *path, const char *first, const char *middle, const char *second, const char *end)
{
    char *a = api_escape(first);
    char *b = api_escape(second);

    buf_init(path, 1 << 16);
    buf_printf(path, "/v1/runs/%s%s%s%s", a, middle, b, end);
    mem_free(a);
    mem_free(b);
}

/* Sends a command; says `done`, or that its verdict is not here yet. */
static enum cli_exit command(const struct cli *cli, const struct api_request *request, const char *done)
{
    struct answer answer;
    enum cli_exit rc = api_call(cli, request, &answer);

    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else if (strcmp(text_or(json_text(answer.json, "status"), ""), "pending") == 0)
        (void)puts("accepted; not applied yet");
    else
        (void)puts(done);
    answer_deinit(&answer);
    return CLI_DONE;
}

enum cli_exit cmd_signal(struct cli *cli)
{
    CLEANUP(source_deinit) struct source file = {0};
    CLEANUP(buf_deinit) struct buf path = {0};
    const char *key = take_option(cli, "--idempotency-key");
    struct str payload = STR("null");

    if (!words_left(cli, 2, 3))
        return CLI_USAGE;
    if (cli->argc == 3 && !take_value(cli->argv[2], "the payload", &file, &payload))
        return CLI_USAGE;
    make_path(&path, cli->argv[0], "/signals/", cli->argv[1], "");
    return command(cli,
                   &(struct api_request){.method = "POST", .path = path.ptr, .body = payload, .idempotency_key = key},
                   "signalled");
}

enum cli_exit cmd_settle(struct cli *cli)
{
    CLEANUP(source_deinit) struct source file = {0};
    CLEANUP(buf_deinit) struct buf path = {0};
    CLEANUP(buf_deinit) struct buf body = {0};
    const char *as = take_option(cli, "--as");
    const char *output = take_option(cli, "--output");
    struct str value = STR_NONE;
    struct jw w;

    if (!words_left(cli, 2, 2))
        return CLI_USAGE;
    if (as == NULL || (strcmp(as, "succeeded") != 0 && strcmp(as, "failed") != 0))
        return usage_error("--as takes succeeded or failed");
    if (output != NULL && !take_value(output, "--output", &file, &value))
        return CLI_USAGE;
    buf_init(&body, (size_t)8 << 20);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kcstr(&w, "as", as);
    if (output != NULL)
        jw_kraw(&w, "output", value);
    jw_end_obj(&w);
    make_path(&path, cli->argv[0], "/steps/", cli->argv[1], ":settle");
    return command(cli, &(struct api_request){.method = "POST", .path = path.ptr, .body = buf_str(&body)}, "settled");
}

enum cli_exit cmd_cancel(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    bool undo = take_flag(cli, "--compensate");
    const char *filter = take_option(cli, "--all-matching");

    if (filter != NULL)
        return bulk(cli, "cancel", filter, undo ? STR("{\"compensate\":true}") : STR("{}"));
    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    make_path(&path, cli->argv[0], ":cancel", "", "");
    return command(cli,
                   &(struct api_request){
                       .method = "POST", .path = path.ptr, .body = undo ? STR("{\"compensate\":true}") : STR("{}")},
                   "cancelled: nothing new starts");
}

/* POST /v1/runs/{run}{operation}, without a body. */
static enum cli_exit operate(struct cli *cli, const char *operation, const char *done)
{
    CLEANUP(buf_deinit) struct buf path = {0};

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    make_path(&path, cli->argv[0], operation, "", "");
    return command(cli, &(struct api_request){.method = "POST", .path = path.ptr}, done);
}

enum cli_exit cmd_compensate(struct cli *cli)
{
    return operate(cli, ":compensate", "compensating");
}

enum cli_exit cmd_pause(struct cli *cli)
{
    const char *filter = take_option(cli, "--all-matching");

    return filter != NULL ? bulk(cli, "pause", filter, STR("{}"))
                          : operate(cli, ":pause", "paused: nothing new begins");
}

enum cli_exit cmd_resume(struct cli *cli)
{
    const char *filter = take_option(cli, "--all-matching");

    return filter != NULL ? bulk(cli, "resume", filter, STR("{}")) : operate(cli, ":resume", "resumed");
}

enum cli_exit cmd_release(struct cli *cli)
{
    return operate(cli, ":release", "released");
}

static bool take_version(const char *text, uint32_t *ret)
{
    if (parse_u32(str_of(text), 1, INT32_MAX, ret))
        return true;
    (void)usage_error("'%s' is no version number", text);
    return false;
}

enum cli_exit cmd_rollback(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    CLEANUP(buf_deinit) struct buf body = {0};
    struct answer answer;
    enum cli_exit rc;
    uint32_t version;
    char *name;

    if (!words_left(cli, 2, 2) || !take_version(cli->argv[1], &version))
        return CLI_USAGE;
    name = api_escape(cli->argv[0]);
    buf_init(&path, 1 << 16);
    buf_printf(&path, "/v1/workflows/%s:rollback", name);
    mem_free(name);
    buf_init(&body, 64);
    buf_printf(&body, "{\"version\":%u}", (unsigned)version);
    rc = api_call(cli, &(struct api_request){.method = "POST", .path = path.ptr, .body = buf_str(&body)}, &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        printf("%s version %lld is version %u again\n", cli->argv[0], json_int(answer.json, "version"),
               (unsigned)version);
    answer_deinit(&answer);
    return CLI_DONE;
}

static void print_value(char sign, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));

    printf("  %c ", sign);
    print_clean(stdout, text == NULL ? "" : text);
    (void)fputc('\n', stdout);
    free(text); /* jansson's own */
}

static void print_change(const json_t *change)
{
    const json_t *from = json_object_get(change, "from");
    const json_t *to = json_object_get(change, "to");

    print_clean(stdout, text_or(json_text(change, "pointer"), ""));
    printf(" %s\n", text_or(json_text(change, "op"), "changed"));
    if (from != NULL)
        print_value('-', from);
    if (to != NULL)
        print_value('+', to);
}

enum cli_exit cmd_diff(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    uint32_t from, to;
    struct answer answer;
    enum cli_exit rc;
    json_t *change;
    char *name;
    size_t i;

    if (!words_left(cli, 3, 3) || !take_version(cli->argv[1], &from) || !take_version(cli->argv[2], &to))
        return CLI_USAGE;
    name = api_escape(cli->argv[0]);
    buf_init(&path, 1 << 16);
    buf_printf(&path, "/v1/workflows/%s/versions/%u?diff=%u", name, (unsigned)to, (unsigned)from);
    mem_free(name);
    rc = api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    json_array_foreach(cli->json ? NULL : json_object_get(answer.json, "changes"), i, change)
    {
        print_change(change);
    }
    answer_deinit(&answer);
    return CLI_DONE;
}
