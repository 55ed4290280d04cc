/* mermaid: a workflow as a picture, from the server or from a file; a run, with the states of its steps. */
#include "cli/document.h"
#include "common/engine/mermaid.h"

#include "common/base/banned.h"

#define PICTURE_MAX ((size_t)4 << 20)

/* With -o json or yaml as the member of an object: what is no JSON has no other form. */
static enum cli_exit print_picture(const struct cli *cli, struct str picture)
{
    CLEANUP(buf_deinit) struct buf json = {0};
    struct jw w = jw_to(&json);

    if (!cli->json) {
        (void)fwrite(picture.ptr, 1, picture.len, stdout);
        return CLI_DONE;
    }
    buf_init(&json, 8 * PICTURE_MAX);
    jw_obj(&w);
    jw_kstr(&w, "mermaid", picture);
    jw_end_obj(&w);
    print_document(cli, buf_str(&json));
    return CLI_DONE;
}

static enum cli_exit of_file(const struct cli *cli, const char *path)
{
    CLEANUP(document_deinit) struct document document;
    CLEANUP(buf_deinit) struct buf out = {0};

    if (!document_load(path, &document))
        return CLI_USAGE;
    buf_init(&out, PICTURE_MAX);
    mermaid_write(document.plan, &out);
    return print_picture(cli, buf_str(&out));
}

static enum cli_exit of_workflow(const struct cli *cli, const char *workflow, const char *version)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    char *name = api_escape(workflow);
    char *number = api_escape(version == NULL ? "" : version);
    struct answer answer;
    enum cli_exit rc;

    buf_init(&path, 1 << 16);
    buf_printf(&path, "/v1/workflows/%s/mermaid%s%s", name, version == NULL ? "" : "?version=", number);
    mem_free(name);
    mem_free(number);
    rc = api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, &answer);
    if (rc != CLI_DONE)
        return rc;
    rc = print_picture(cli, (struct str){answer.text, answer.text_bytes});
    answer_deinit(&answer);
    return rc;
}

/* A run tells of its own steps, of those inside loops only how many there are. */
static void find_states(const struct plan *plan, const json_t *steps, const char **states)
{
    for (uint32_t i = 0; i < plan->root_count; i++) {
        char *name = mem_dup(plan->steps[i].name.ptr, plan->steps[i].name.len);

        states[i] = json_text(json_object_get(steps, name), "status");
        mem_free(name);
    }
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct plan_step *step = &plan->steps[i];
        CLEANUP(buf_deinit) struct buf path = {0};

        if (step->role == ROLE_STEP)
            continue;
        buf_init(&path, 256);
        if (step->role == ROLE_COMPENSATE)
            buf_printf(&path, STR_FMT ":compensate", STR_ARG(step->name));
        else
            buf_append_str(&path, STR(":notify"));
        states[i] = json_text(json_object_get(steps, path.ptr), "status");
    }
}

/* Of the version that a run has; NULL is told. */
static struct plan *plan_of_run(const struct cli *cli, const json_t *run, enum cli_exit *ret_rc)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    char *name = api_escape(text_or(json_text(run, "workflow"), ""));
    struct plan *plan = NULL;
    struct answer version;

    buf_init(&path, 1 << 16);
    buf_printf(&path, "/v1/workflows/%s/versions/%lld", name, json_int(run, "version"));
    mem_free(name);
    *ret_rc = api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, &version);
    if (*ret_rc != CLI_DONE)
        return NULL;
    plan = document_compile((struct str){version.text, version.text_bytes});
    answer_deinit(&version);
    if (plan == NULL) {
        (void)fputs("ropewalk: this release cannot read the version of that run\n", stderr);
        *ret_rc = CLI_REFUSED;
    }
    return plan;
}

static enum cli_exit of_run(const struct cli *cli, const char *id)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct answer run;
    const char **states;
    struct plan *plan;
    enum cli_exit rc = api_get(cli, "/v1/runs/", id, "", &run);

    if (rc != CLI_DONE)
        return rc;
    plan = plan_of_run(cli, run.json, &rc);
    if (plan != NULL) {
        states = mem_array(plan->step_count, sizeof(*states));
        find_states(plan, json_object_get(run.json, "steps"), states);
        buf_init(&out, PICTURE_MAX);
        mermaid_write_states(plan, states, &out);
        rc = print_picture(cli, buf_str(&out));
        mem_free(states);
        plan_unref(plan);
    }
    answer_deinit(&run);
    return rc;
}

/* The name of a workflow has neither dots nor slashes; a file that is called like one is written ./so. */
static bool is_file(const char *word)
{
    return strcmp(word, "-") == 0 || strpbrk(word, "./") != NULL;
}

enum cli_exit cmd_mermaid(struct cli *cli)
{
    const char *version = take_option(cli, "--version");
    bool run = cli->argc == 2 && strcmp(cli->argv[0], "run") == 0;

    if (!words_left(cli, 1, run ? 2 : 1))
        return CLI_USAGE;
    if (version != NULL && (run || is_file(cli->argv[0])))
        return usage_error("--version is of a saved workflow");
    if (!run && is_file(cli->argv[0]))
        return of_file(cli, cli->argv[0]);
    if (!settings_load(cli))
        return CLI_USAGE;
    return run ? of_run(cli, cli->argv[1]) : of_workflow(cli, cli->argv[0], version);
}
