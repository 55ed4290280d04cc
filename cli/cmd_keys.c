/* keys. */
#include "cli/cli.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

static enum cli_exit keys_create(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    const char *role = take_option(cli, "--role");
    struct answer answer;
    enum cli_exit rc;
    struct jw w;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    if (role == NULL)
        return usage_error("--role is missing: viewer, trigger, operator, editor or admin");
    buf_init(&body, 1 << 16);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kcstr(&w, "name", cli->argv[0]);
    jw_kcstr(&w, "role", role);
    jw_end_obj(&w);
    rc =
        api_call(cli, &(struct api_request){.method = "POST", .path = "/v1/api-keys", .body = buf_str(&body)}, &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        (void)puts(text_or(json_text(answer.json, "key"), ""));
    answer_deinit(&answer);
    return CLI_DONE;
}

static enum cli_exit keys_revoke(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    struct answer answer;
    enum cli_exit rc;
    char *id;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    id = api_escape(cli->argv[0]);
    buf_init(&path, 1 << 16);
    buf_printf(&path, "/v1/api-keys/%s", id);
    mem_free(id);
    rc = api_call(cli, &(struct api_request){.method = "DELETE", .path = path.ptr}, &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        printf("revoked %s\n", cli->argv[0]);
    answer_deinit(&answer);
    return CLI_DONE;
}

enum cli_exit cmd_keys(struct cli *cli)
{
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";

    cli->argv++;
    cli->argc--;
    if (strcmp(verb, "list") == 0)
        return list_things(cli, "keys");
    if (strcmp(verb, "create") == 0)
        return keys_create(cli);
    if (strcmp(verb, "revoke") == 0)
        return keys_revoke(cli);
    return usage_error("keys takes list, create or revoke");
}
