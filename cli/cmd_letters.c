/* dead-letter: what could not be dealt with, looked at, sent again or put away. */
#include "cli/cli.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

/* "/v1/dead-letters/{id}{verb}" */
static void letter_path(struct buf *path, const char *id, const char *verb)
{
    char *escaped = api_escape(id);

    buf_init(path, 1 << 16);
    buf_printf(path, "/v1/dead-letters/%s%s", escaped, verb);
    mem_free(escaped);
}

static void print_line(const char *name, const char *value)
{
    if (value == NULL)
        return;
    printf("%-13s", name);
    print_clean(stdout, value);
    (void)fputc('\n', stdout);
}

static void print_letter(const json_t *letter)
{
    static const char *const members[] = {"id",     "status", "at",     "kind",       "source",     "organisation",
                                          "run_id", "step",   "reason", "decided_at", "decided_by", "ancestor"};
    const json_t *properties = json_object_get(letter, "properties");

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        print_line(members[i], json_text(letter, members[i]));
    print_line("type", json_text(properties, "type"));
    print_line("message_id", json_text(properties, "message_id"));
    printf("%-13s%lld%s\n", "bytes", json_int(letter, "bytes"),
           json_is_true(json_object_get(letter, "truncated")) ? ", of which the first 1 MiB was kept" : "");
    printf("body (%s):\n", text_or(json_text(letter, "encoding"), ""));
    print_clean(stdout, text_or(json_text(letter, "body"), ""));
    (void)fputc('\n', stdout);
    print_line("sent instead:", json_text(letter, "corrected"));
}

static enum cli_exit show(struct cli *cli)
{
    bool body = take_flag(cli, "--body");
    struct answer answer;
    enum cli_exit rc;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    rc = api_get(cli, "/v1/dead-letters/", cli->argv[0], "", &answer);
    if (rc != CLI_DONE)
        return rc;
    if (body)
        (void)fputs(text_or(json_text(answer.json, "body"), ""), stdout);
    else if (cli->json)
        print_answer(cli, &answer);
    else
        print_letter(answer.json);
    answer_deinit(&answer);
    return CLI_DONE;
}

static enum cli_exit decide(struct cli *cli, const char *verb, const struct source *file, const char *done)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    struct answer answer;
    enum cli_exit rc;

    letter_path(&path, cli->argv[0], verb);
    rc = api_call(cli,
                  &(struct api_request){
                      .method = "POST", .path = path.ptr, .body = file == NULL ? STR_NONE : file->json, .source = file},
                  &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        printf("%s %s\n", done, cli->argv[0]);
    answer_deinit(&answer);
    return CLI_DONE;
}

static enum cli_exit requeue(struct cli *cli)
{
    CLEANUP(source_deinit) struct source file = {0};
    const char *body = take_option(cli, "--body");

    if (!words_left(cli, 1, 1) || (body != NULL && !source_load(body, &file)))
        return CLI_USAGE;
    return decide(cli, ":requeue", body == NULL ? NULL : &file, "requeued");
}

enum cli_exit cmd_dead_letter(struct cli *cli)
{
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";

    cli->argv++;
    cli->argc--;
    if (strcmp(verb, "list") == 0)
        return list_things(cli, "dead-letters");
    if (strcmp(verb, "show") == 0)
        return show(cli);
    if (strcmp(verb, "requeue") == 0)
        return requeue(cli);
    if (strcmp(verb, "discard") == 0)
        return words_left(cli, 1, 1) ? decide(cli, ":discard", NULL, "discarded") : CLI_USAGE;
    return usage_error("dead-letter takes list, show, requeue or discard");
}
