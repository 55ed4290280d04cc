/* The server, over libcurl: one request, one answer. */
#include "cli/cli.h"
#include "cli/yaml.h"
#include "common/base/json_text.h"
#include <curl/curl.h>

#include "common/base/banned.h"

#define ANSWER_MAX ((size_t)64 << 20)

void answer_deinit(struct answer *answer)
{
    mem_free(answer->text);
    json_decref(answer->json);
    *answer = (struct answer){0};
}

struct str answer_member(const struct answer *answer, const char *name)
{
    /* jansson has found the text to be JSON. */
    struct str value = answer->json == NULL ? STR_NONE : jt_get((struct str){answer->text, answer->text_bytes}, name);

    return jt_type(value) == JT_NULL ? STR_NONE : value;
}

char *api_escape(const char *text)
{
    char *escaped = curl_easy_escape(NULL, text, 0);
    char *copy = mem_strdup(escaped == NULL ? "" : escaped);

    curl_free(escaped);
    return copy;
}

static size_t take_body(char *ptr, size_t size, size_t n, void *ctx)
{
    struct buf *body = ctx;

    buf_append(body, ptr, size * n);
    return body->overflow ? 0 : size * n;
}

static struct curl_slist *add_header(struct curl_slist *headers, const char *name, const char *value)
{
    CLEANUP(buf_deinit) struct buf line = {0};

    buf_init(&line, 1 << 16);
    buf_printf(&line, "%s: %s", name, value);
    return curl_slist_append(headers, line.ptr);
}

struct curl_slist *api_headers(const struct cli *cli, const struct api_request *request, const char *last_event_id)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    CLEANUP(buf_deinit) struct buf bearer = {0};

    buf_init(&bearer, 4096);
    buf_printf(&bearer, "Bearer %s", cli->key);
    if (!request->stranger)
        headers = add_header(headers, "Authorization", bearer.ptr);
    for (size_t i = 0; request->headers != NULL && request->headers[i] != NULL; i++)
        headers = curl_slist_append(headers, request->headers[i]);
    if (request->body.ptr != NULL && request->headers == NULL)
        headers = add_header(headers, "Content-Type", "application/json");
    if (request->idempotency_key != NULL)
        headers = add_header(headers, "Idempotency-Key", request->idempotency_key);
    if (last_event_id != NULL)
        headers = add_header(headers, "Accept", "text/event-stream");
    if (last_event_id != NULL && last_event_id[0] != '\0')
        headers = add_header(headers, "Last-Event-ID", last_event_id);
    return headers;
}

/* said: what has been said above; a fault that says no more is only given its place. */
static void print_fault(const json_t *fault, const struct source *source, const char *said)
{
    const char *message = text_or(json_text(fault, "message"), "");
    const char *pointer = text_or(json_text(fault, "pointer"), "");
    const char *hint = json_text(fault, "hint");
    int line = 0;

    if (source != NULL)
        line = yaml_line((struct str){source->text, source->len}, str_of(pointer));
    (void)fputs("  ", stderr);
    if (source != NULL)
        print_clean(stderr, source->path);
    if (line > 0)
        fprintf(stderr, ":%d", line);
    (void)fputs(source == NULL ? "" : ": ", stderr);
    print_clean(stderr, *pointer == '\0' ? "/" : pointer);
    if (said == NULL || strcmp(message, said) != 0) {
        (void)fputs(": ", stderr);
        print_clean(stderr, message);
    }
    (void)fputs(" (", stderr);
    print_clean(stderr, text_or(json_text(fault, "code"), ""));
    (void)fputs(")\n", stderr);
    if (hint != NULL && *hint != '\0') {
        (void)fputs("      ", stderr);
        print_clean(stderr, hint);
        (void)fputc('\n', stderr);
    }
}

/* problem+json, for people: what, where each fault is, and what to do about it. */
void api_problem(const struct answer *answer, const struct source *source)
{
    const char *code = json_text(answer->json, "code");
    const char *detail = json_text(answer->json, "detail");
    size_t i;
    json_t *fault;

    if (detail == NULL)
        detail = json_text(answer->json, "title");
    fprintf(stderr, "ropewalk: the server refused (%ld%s", answer->status, code == NULL ? "" : " ");
    print_clean(stderr, code);
    (void)fputs(detail == NULL ? ")" : "): ", stderr);
    print_clean(stderr, detail);
    (void)fputc('\n', stderr);
    json_array_foreach(json_object_get(answer->json, "errors"), i, fault)
    {
        print_fault(fault, source, detail);
    }
    if (answer->json == NULL && answer->text_bytes > 0) {
        char head[301] = "";

        (void)snprintf(head, sizeof(head), "%s", answer->text);
        (void)fputs("  ", stderr);
        print_clean(stderr, head);
        (void)fputc('\n', stderr);
    }
}

enum cli_exit api_unreachable(const struct cli *cli, const char *why)
{
    fprintf(stderr, "ropewalk: cannot reach %s: %s\n  is it running, and is ROPEWALK_URL right?\n", cli->url, why);
    return CLI_UNREACHABLE;
}

static CURLcode perform(const struct cli *cli, const struct api_request *request, struct buf *body, long *status,
                        char *why)
{
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = api_headers(cli, request, NULL);
    CLEANUP(buf_deinit) struct buf url = {0};
    CURLcode rc;

    if (curl == NULL)
        return CURLE_OUT_OF_MEMORY;
    buf_init(&url, 1 << 16);
    buf_printf(&url, "%s%s", cli->url, request->path);
    curl_easy_setopt(curl, CURLOPT_URL, url.ptr);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, request->timeout_ms > 0 ? request->timeout_ms : 90000L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    if (request->body.ptr != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body.ptr);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
    } else if (strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
    }
    rc = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return rc;
}

enum cli_exit api_call(const struct cli *cli, const struct api_request *request, struct answer *ret)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    char why[CURL_ERROR_SIZE] = "";
    CURLcode rc;

    *ret = (struct answer){0};
    buf_init(&body, ANSWER_MAX);
    rc = perform(cli, request, &body, &ret->status, why);
    if (rc != CURLE_OK && request->quiet)
        return CLI_UNREACHABLE;
    if (rc != CURLE_OK)
        return api_unreachable(cli, body.overflow    ? "the answer is longer than 64 MiB"
                                    : why[0] == '\0' ? curl_easy_strerror(rc)
                                                     : why);
    ret->text = mem_dup(body.len == 0 ? "" : body.ptr, body.len);
    ret->text_bytes = body.len;
    ret->json = json_parse((struct str){ret->text, ret->text_bytes});
    if (ret->status >= 200 && ret->status < 300)
        return CLI_DONE;
    if (!request->quiet)
        api_problem(ret, request->source);
    answer_deinit(ret);
    return CLI_REFUSED;
}

enum cli_exit api_get(const struct cli *cli, const char *before, const char *word, const char *after,
                      struct answer *ret)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    char *escaped = api_escape(word);
    enum cli_exit rc;

    buf_init(&path, 1 << 16);
    buf_printf(&path, "%s%s%s", before, escaped, after);
    mem_free(escaped);
    rc = api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, ret);
    return rc;
}
