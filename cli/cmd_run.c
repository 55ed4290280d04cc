/* run: starts one. */
#include "cli/cli.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

/* "key=value" as a member of an object. */
static bool add_label(struct jw *labels, const char *text)
{
    const char *equals = strchr(text, '=');

    if (equals == NULL || equals == text) {
        (void)usage_error("--label takes KEY=VALUE, not '%s'", text);
        return false;
    }
    jw_key_str(labels, (struct str){text, (size_t)(equals - text)});
    jw_cstr(labels, equals + 1);
    return true;
}

/* {"input", "labels", "priority", "start_at_step"} of the options. */
static bool start_body(struct cli *cli, struct source *input_file, struct buf *body)
{
    const char *input = take_option(cli, "--input");
    const char *priority = take_option(cli, "--priority");
    const char *start_at = take_option(cli, "--start-at-step");
    const char *label = take_option(cli, "--label");
    struct str json = input == NULL ? STR("{}") : str_trim(str_of(input));
    struct jw w = jw_to(body);
    struct err err;

    if (input != NULL && input[0] == '@') {
        if (!source_load(input + 1, input_file))
            return false;
        json = str_trim(input_file->json);
    } else if (jt_check(json, &JT_LIMITS_MESSAGE, &err) != ERR_OK) {
        (void)usage_error("--input is not JSON: %s; @FILE reads a file", err.message);
        return false;
    }
    jw_obj(&w);
    jw_kraw(&w, "input", json);
    if (priority != NULL)
        jw_kcstr(&w, "priority", priority);
    if (start_at != NULL)
        jw_kcstr(&w, "start_at_step", start_at);
    if (label != NULL) {
        jw_key(&w, "labels");
        jw_obj(&w);
        for (; label != NULL; label = take_option(cli, "--label")) {
            if (!add_label(&w, label))
                return false;
        }
        jw_end_obj(&w);
    }
    jw_end_obj(&w);
    return true;
}

static enum cli_exit start(struct cli *cli, const char *key, struct answer *answer)
{
    CLEANUP(source_deinit) struct source input = {0};
    CLEANUP(buf_deinit) struct buf body = {0};
    CLEANUP(buf_deinit) struct buf path = {0};
    char *name;

    buf_init(&body, (size_t)8 << 20);
    if (!start_body(cli, &input, &body) || !words_left(cli, 1, 1))
        return CLI_USAGE;
    name = api_escape(cli->argv[0]);
    buf_init(&path, 1 << 16);
    buf_printf(&path, "/v1/workflows/%s/runs", name);
    mem_free(name);
    return api_call(
        cli, &(struct api_request){.method = "POST", .path = path.ptr, .body = buf_str(&body), .idempotency_key = key},
        answer);
}

enum cli_exit cmd_run(struct cli *cli)
{
    bool watch = take_flag(cli, "--watch");
    bool wait = take_flag(cli, "--wait");
    const char *key = take_option(cli, "--idempotency-key");
    const char *timeout = take_option(cli, "--timeout");
    uint32_t timeout_s = 0;
    struct answer answer;
    const char *id;
    enum cli_exit rc;

    if (timeout != NULL && !parse_u32(str_of(timeout), 1, 366 * 86400, &timeout_s))
        return usage_error("--timeout takes seconds, not '%s'", timeout);
    if (key != NULL && (*key == '\0' || key[strcspn(key, "\r\n")] != '\0' || strlen(key) > 255))
        return usage_error("--idempotency-key takes one line of 1 to 255 bytes");
    rc = start(cli, key, &answer);
    if (rc != CLI_DONE)
        return rc;
    id = text_or(json_text(answer.json, "run_id"), "");
    if (watch || wait)
        rc = watch_run(cli, id, watch, (int)timeout_s);
    else if (cli->json)
        print_answer(cli, &answer);
    else
        (void)puts(id);
    answer_deinit(&answer);
    return rc;
}
