/* apply, validate; enable, disable, delete. */
#include "cli/cli.h"
#include "cli/yaml.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

/* The document's name, for mem_free; NULL when it says none, which is told. */
static char *name_of(const struct source *source)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(256);
    struct str name;

    if (jt_string(jt_get(source->json, "name"), arena, &name))
        return mem_dup(name.ptr, name.len);
    fprintf(stderr, "ropewalk: '%s': /name: a workflow needs a name\n", source->path);
    return NULL;
}

static void print_warnings(const struct answer *answer, const struct source *source)
{
    json_t *warning;
    size_t i;

    json_array_foreach(json_object_get(answer->json, "warnings"), i, warning)
    {
        const char *pointer = text_or(json_text(warning, "pointer"), "");

        fprintf(stderr, "%s:%d: warning: ", source->path,
                yaml_line((struct str){source->text, source->len}, str_of(pointer)));
        print_clean(stderr, *pointer == '\0' ? "/" : pointer);
        (void)fputs(": ", stderr);
        print_clean(stderr, text_or(json_text(warning, "message"), ""));
        (void)fputc('\n', stderr);
    }
}

static void print_saved(const char *name, const struct answer *answer)
{
    const char *what = "saved";

    if (answer->status == 201)
        what = "saved, new workflow";
    else if (json_is_false(json_object_get(answer->json, "changed")))
        what = "unchanged";
    printf("%s version %lld %s\n", name, json_int(answer->json, "version"), what);
}

static enum cli_exit apply_one(const struct cli *cli, const char *path)
{
    CLEANUP(buf_deinit) struct buf url = {0};
    CLEANUP(source_deinit) struct source source;
    struct answer answer;
    char *name, *escaped;
    enum cli_exit rc;

    if (!source_load(path, &source))
        return CLI_USAGE;
    name = name_of(&source);
    if (name == NULL)
        return CLI_USAGE;
    escaped = api_escape(name);
    buf_init(&url, 1 << 16);
    buf_printf(&url, "/v1/workflows/%s", escaped);
    mem_free(escaped);
    rc = api_call(cli, &(struct api_request){.method = "PUT", .path = url.ptr, .body = source.json, .source = &source},
                  &answer);
    if (rc == CLI_DONE && cli->json)
        print_answer(cli, &answer);
    else if (rc == CLI_DONE)
        print_saved(name, &answer);
    if (rc == CLI_DONE) {
        print_warnings(&answer, &source);
        answer_deinit(&answer);
    }
    mem_free(name);
    return rc;
}

/* Goes through all files; a server that cannot be reached ends it. */
static enum cli_exit each_file(struct cli *cli, enum cli_exit (*one)(const struct cli *cli, const char *path))
{
    enum cli_exit worst = CLI_DONE;

    if (!words_left(cli, 1, 1000))
        return CLI_USAGE;
    for (int i = 0; i < cli->argc; i++) {
        enum cli_exit rc = one(cli, cli->argv[i]);

        if (rc == CLI_UNREACHABLE)
            return rc;
        worst = rc == CLI_DONE ? worst : rc;
    }
    return worst;
}

enum cli_exit cmd_apply(struct cli *cli)
{
    return each_file(cli, apply_one);
}

static void print_faults(const struct source *source, const json_t *answer, const char *list, const char *what)
{
    json_t *fault;
    size_t i;

    json_array_foreach(json_object_get(answer, list), i, fault)
    {
        const char *pointer = text_or(json_text(fault, "pointer"), "");
        const char *hint = json_text(fault, "hint");
        int line = yaml_line((struct str){source->text, source->len}, str_of(pointer));

        print_clean(stdout, source->path);
        if (line > 0)
            printf(":%d", line);
        printf(": %s: ", what);
        print_clean(stdout, *pointer == '\0' ? "/" : pointer);
        (void)fputs(": ", stdout);
        print_clean(stdout, text_or(json_text(fault, "message"), ""));
        (void)fputs(" (", stdout);
        print_clean(stdout, text_or(json_text(fault, "code"), ""));
        (void)fputs(")\n", stdout);
        if (hint != NULL && *hint != '\0') {
            (void)fputs("    ", stdout);
            print_clean(stdout, hint);
            (void)putchar('\n');
        }
    }
}

static enum cli_exit validate_one(const struct cli *cli, const char *path)
{
    CLEANUP(source_deinit) struct source source;
    struct answer answer;
    enum cli_exit rc;
    bool valid;

    if (!source_load(path, &source))
        return CLI_USAGE;
    rc = api_call(cli,
                  &(struct api_request){
                      .method = "POST", .path = "/v1/workflows:validate", .body = source.json, .source = &source},
                  &answer);
    if (rc != CLI_DONE)
        return rc;
    valid = json_is_true(json_object_get(answer.json, "valid"));
    if (cli->json) {
        print_answer(cli, &answer);
    } else {
        print_faults(&source, answer.json, "errors", "error");
        print_faults(&source, answer.json, "warnings", "warning");
        if (valid)
            printf("%s: valid\n", path);
    }
    answer_deinit(&answer);
    return valid ? CLI_DONE : CLI_REFUSED;
}

enum cli_exit cmd_validate(struct cli *cli)
{
    return each_file(cli, validate_one);
}

static enum cli_exit tell_workflow(struct cli *cli, const char *method, const char *verb, const char *done)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    struct answer answer;
    enum cli_exit rc;
    char *name;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    name = api_escape(cli->argv[0]);
    buf_init(&path, 1 << 16);
    buf_printf(&path, "/v1/workflows/%s%s", name, verb);
    mem_free(name);
    rc = api_call(cli, &(struct api_request){.method = method, .path = path.ptr}, &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        printf("%s %s\n", cli->argv[0], done);
    answer_deinit(&answer);
    return CLI_DONE;
}

enum cli_exit cmd_enable(struct cli *cli)
{
    return tell_workflow(cli, "POST", ":enable", "enabled");
}

enum cli_exit cmd_disable(struct cli *cli)
{
    return tell_workflow(cli, "POST", ":disable", "disabled");
}

enum cli_exit cmd_delete(struct cli *cli)
{
    return tell_workflow(cli, "DELETE", "", "deleted; its runs stay readable");
}
