/* apply, validate, keys. */
#include "cli/cli.h"
#include "common/base/json_text.h"
#include "common/base/banned.h"

/* A document as JSON text: JSON files go as they are (byte for byte), YAML is converted. */
static char *load_workflow(const char *path)
{
    char error[300];
    char *text, *json = NULL;
    size_t len = 0, first = 0;

    text = read_document(path, &len);
    if (text == NULL)
        return NULL;
    while (first < len && (text[first] == ' ' || text[first] == '\n' || text[first] == '\r' || text[first] == '\t'))
        first++;
    if (first < len && text[first] == '{')
        return text;
    if (!yaml_to_json(text, len, &json, error, sizeof(error)))
        fprintf(stderr, "ropewalk: '%s': %s\n", path, error);
    mem_free(text);
    return json;
}

static char *name_of(const char *path, const char *document)
{
    json_error_t error;
    json_t *json = json_loads(document, 0, &error);
    const char *name = json_text(json, "name");
    char *copy = NULL;

    if (json == NULL)
        fprintf(stderr, "ropewalk: '%s' line %d: %s\n", path, error.line, error.text);
    else if (name == NULL)
        fprintf(stderr, "ropewalk: '%s': /name: a workflow needs a name\n", path);
    else
        copy = mem_strdup(name);
    json_decref(json);
    return copy;
}

static enum cli_exit apply_one(struct cli *cli, const char *path)
{
    char *document = load_workflow(path);
    char *name = document == NULL ? NULL : name_of(path, document);
    char *escaped, *url;
    struct answer answer;
    enum cli_exit rc;
    struct buf buf;
    size_t len;

    if (name == NULL) {
        mem_free(document);
        return CLI_USAGE;
    }
    escaped = api_escape(name);
    buf_init(&buf, 4096);
    buf_printf(&buf, "/v1/workflows/%s", escaped);
    url = buf_take(&buf, &len);
    rc = api_call(cli, &(struct api_request){.method = "PUT", .path = url, .body = document}, &answer);
    if (rc == CLI_DONE) {
        json_t *warning;
        size_t i;
        if (cli->json)
            (void)puts(answer.text);
        else
            printf("%s version %" JSON_INTEGER_FORMAT " %s\n", name,
                   json_integer_value(json_object_get(answer.json, "version")),
                   answer.status == 201 ? "saved, new workflow" : "saved");
        json_array_foreach(json_object_get(answer.json, "warnings"), i, warning)
            fprintf(stderr, "  warning %s: %s\n", json_text(warning, "pointer"), json_text(warning, "message"));
        answer_deinit(&answer);
    }
    mem_free(url);
    mem_free(escaped);
    mem_free(name);
    mem_free(document);
    return rc;
}

enum cli_exit cmd_apply(struct cli *cli)
{
    enum cli_exit worst = CLI_DONE;

    if (!words_left(cli, 1, 1000))
        return CLI_USAGE;
    for (int i = 0; i < cli->argc; i++) {
        enum cli_exit rc = apply_one(cli, cli->argv[i]);
        if (rc == CLI_UNREACHABLE)
            return rc;
        if (rc != CLI_DONE)
            worst = rc;
    }
    return worst;
}

static void print_faults(const char *path, const json_t *answer, const char *list, const char *what)
{
    json_t *fault;
    size_t i;

    json_array_foreach(json_object_get(answer, list), i, fault)
    {
        const char *hint = json_text(fault, "hint");
        const char *pointer = json_text(fault, "pointer");
        printf("%s: %s %s: %s (%s)\n", path, what, pointer == NULL || *pointer == '\0' ? "/" : pointer,
               json_text(fault, "message"), json_text(fault, "code"));
        if (hint != NULL && *hint != '\0')
            printf("    %s\n", hint);
    }
}

enum cli_exit cmd_validate(struct cli *cli)
{
    enum cli_exit worst = CLI_DONE;

    if (!words_left(cli, 1, 1000))
        return CLI_USAGE;
    for (int i = 0; i < cli->argc; i++) {
        char *document = load_workflow(cli->argv[i]);
        struct answer answer;
        enum cli_exit rc;
        if (document == NULL) {
            worst = CLI_USAGE;
            continue;
        }
        rc = api_call(cli, &(struct api_request){.method = "POST", .path = "/v1/workflows:validate", .body = document},
                      &answer);
        mem_free(document);
        if (rc == CLI_UNREACHABLE)
            return rc;
        if (rc != CLI_DONE) {
            worst = rc;
            continue;
        }
        if (cli->json)
            (void)puts(answer.text);
        else {
            print_faults(cli->argv[i], answer.json, "errors", "error");
            print_faults(cli->argv[i], answer.json, "warnings", "warning");
            if (json_is_true(json_object_get(answer.json, "valid")))
                printf("%s: valid\n", cli->argv[i]);
        }
        if (!json_is_true(json_object_get(answer.json, "valid")))
            worst = CLI_REFUSED;
        answer_deinit(&answer);
    }
    return worst;
}

static enum cli_exit keys_create(struct cli *cli)
{
    const char *role = take_option(cli, "--role");
    struct answer answer;
    enum cli_exit rc;
    json_t *body;
    char *text;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    if (role == NULL)
        return usage_error("--role is missing: viewer, trigger, operator, editor or admin");
    body = json_pack("{s:s, s:s}", "name", cli->argv[0], "role", role);
    text = json_dumps(body, 0);
    rc = api_call(cli, &(struct api_request){.method = "POST", .path = "/v1/api-keys", .body = text}, &answer);
    free(text);
    json_decref(body);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        (void)puts(answer.text);
    else
        printf("%s\n", json_text(answer.json, "key") == NULL ? "" : json_text(answer.json, "key"));
    answer_deinit(&answer);
    return CLI_DONE;
}

static enum cli_exit keys_revoke(struct cli *cli)
{
    struct answer answer;
    struct buf path;
    enum cli_exit rc;
    char *id;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    id = api_escape(cli->argv[0]);
    buf_init(&path, 4096);
    buf_printf(&path, "/v1/api-keys/%s", id);
    rc = api_call(cli, &(struct api_request){.method = "DELETE", .path = path.ptr}, &answer);
    if (rc == CLI_DONE) {
        printf("revoked %s\n", cli->argv[0]);
        answer_deinit(&answer);
    }
    buf_deinit(&path);
    mem_free(id);
    return rc;
}

enum cli_exit cmd_keys(struct cli *cli)
{
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";

    if (strcmp(verb, "list") == 0) {
        static char words[] = "keys";
        cli->argv[0] = words;
        return cmd_list(cli);
    }
    cli->argv++;
    cli->argc--;
    if (strcmp(verb, "create") == 0)
        return keys_create(cli);
    if (strcmp(verb, "revoke") == 0)
        return keys_revoke(cli);
    return usage_error("keys takes list, create or revoke");
}
