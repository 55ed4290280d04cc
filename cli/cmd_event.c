/* events publish, events tail: events that come from outside. The history of a run is cmd_read.c's. */
#include "cli/cli.h"
#include "common/base/id.h"
#include "common/base/json_text.h"
#include <time.h>

#include "common/base/banned.h"

#define TRIES 5 /* in a row, before a server that does not answer is given up */

/* ---- publish ---- */

static void print_started(const json_t *starts)
{
    size_t i;
    json_t *start;

    json_array_foreach((json_t *)starts, i, start)
    {
        if (json_text(start, "run_id") != NULL) {
            printf("%s\n", json_text(start, "run_id"));
            continue;
        }
        (void)fputs("ropewalk: ", stderr);
        print_clean(stderr, text_or(json_text(start, "workflow"), ""));
        if (json_text(start, "status") != NULL) { /* its trigger has debounce, throttle or batch */
            fprintf(stderr, ": %s\n", json_text(start, "status"));
            continue;
        }
        (void)fputs(" was not started: ", stderr);
        print_clean(stderr, text_or(json_text(start, "message"), ""));
        (void)fputc('\n', stderr);
    }
}

static void put_event(struct buf *out, struct str type, const char *source, const char *id, const char *subject,
                      struct str data)
{
    struct jw w = jw_to(out);

    jw_obj(&w);
    jw_kcstr(&w, "specversion", "1.0");
    jw_kcstr(&w, "id", id);
    jw_kcstr(&w, "source", source);
    jw_kstr(&w, "type", type);
    if (subject != NULL)
        jw_kcstr(&w, "subject", subject);
    if (data.ptr != NULL) {
        jw_kcstr(&w, "datacontenttype", "application/json");
        jw_kraw(&w, "data", data);
    }
    jw_end_obj(&w);
}

enum cli_exit events_publish(struct cli *cli)
{
    CLEANUP(source_deinit) struct source file = {0};
    CLEANUP(buf_deinit) struct buf body = {0};
    const char *id = take_option(cli, "--id"), *source = take_option(cli, "--source"),
               *subject = take_option(cli, "--subject");
    struct str data = STR_NONE;
    struct answer answer;
    enum cli_exit rc;
    char made[33];

    if (!words_left(cli, 1, 2))
        return CLI_USAGE;
    if (cli->argc == 2 && !take_value(cli->argv[1], "the data", &file, &data))
        return CLI_USAGE;
    random_token(made, sizeof(made) - 1);
    buf_init(&body, (size_t)40 << 20);
    put_event(&body, str_of(cli->argv[0]), text_or(source, "/ropewalk/cli"), text_or(id, made), subject, data);
    rc = api_call(cli, &(struct api_request){.method = "POST", .path = "/v1/events", .body = buf_str(&body)}, &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        print_started(json_object_get(answer.json, "starts"));
    answer_deinit(&answer);
    return CLI_DONE;
}

/* ---- tail ---- */

static void print_event(const json_t *item)
{
    const json_t *event = json_object_get(item, "event");
    size_t i;
    json_t *start;

    print_clean(stdout, text_or(json_text(item, "received_at"), ""));
    (void)putchar(' ');
    if (json_is_object(event)) {
        static const char *const members[] = {"type", "source", "id"};

        for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
            (void)putchar(' ');
            print_clean(stdout, text_or(json_text(event, members[i]), ""));
        }
    } else {
        printf(" number %lld, of %lld bytes", json_int(item, "number"), json_int(item, "bytes"));
    }
    json_array_foreach(json_object_get(item, "starts"), i, start)
    {
        (void)fputs(i == 0 ? " -> " : ", ", stdout);
        print_clean(stdout, text_or(json_text(start, "workflow"), ""));
        (void)putchar(' ');
        print_clean(stdout, text_or(json_text(start, "run_id"),
                                    text_or(json_text(start, "status"), text_or(json_text(start, "code"), ""))));
    }
    (void)putchar('\n');
}

/* Prints what an answer brings; *ret_after is the place behind it, *ret_count how many there were. */
static void print_page(const struct cli *cli, const struct answer *answer, struct buf *ret_after, size_t *ret_count)
{
    const json_t *items = json_object_get(answer->json, "items");
    struct str texts = answer_member(answer, "items");
    json_t *item;
    size_t i;

    *ret_count = json_array_size(items);
    json_array_foreach((json_t *)items, i, item)
    {
        if (cli->json)
            print_document(cli, jt_at(texts, i));
        else
            print_event(item);
    }
    (void)fflush(stdout);
    buf_reset(ret_after);
    buf_append_str(ret_after, str_of(text_or(json_text(answer->json, "after"), "")));
}

static void add_query(struct buf *path, const char *name, const char *value)
{
    char *escaped;

    if (value == NULL)
        return;
    escaped = api_escape(value);
    buf_printf(path, "%c%s=%s", memchr(path->ptr, '?', path->len) == NULL ? '?' : '&', name, escaped);
    mem_free(escaped);
}

struct tail {
    const char *type, *source;
    struct buf after; /* the place; empty: now */
};

static enum cli_exit read_on(struct cli *cli, struct tail *tail, size_t *ret_count)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    struct answer answer;
    enum cli_exit rc;

    buf_init(&path, 1 << 16);
    buf_append_str(&path, STR("/v1/events:tail"));
    add_query(&path, "after", tail->after.len == 0 ? NULL : tail->after.ptr);
    add_query(&path, "type", tail->type);
    add_query(&path, "source", tail->source);
    rc = api_call(cli, &(struct api_request){.method = "GET", .path = path.ptr}, &answer);
    if (rc != CLI_DONE)
        return rc;
    print_page(cli, &answer, &tail->after, ret_count);
    answer_deinit(&answer);
    return CLI_DONE;
}

enum cli_exit events_tail(struct cli *cli)
{
    const struct timespec second = {.tv_sec = 1};
    struct tail tail = {.type = take_option(cli, "--type"), .source = take_option(cli, "--source")};
    bool all = take_flag(cli, "--all"), once = take_flag(cli, "--once");
    enum cli_exit rc = CLI_DONE;
    size_t count = 0;

    if (!words_left(cli, 0, 0))
        return CLI_USAGE;
    buf_init(&tail.after, 256);
    if (all)
        buf_append_str(&tail.after, STR("0-0"));
    for (int failed = 0; failed < TRIES;) {
        rc = read_on(cli, &tail, &count);
        failed = rc == CLI_UNREACHABLE ? failed + 1 : 0;
        if (rc != CLI_DONE && rc != CLI_UNREACHABLE)
            break;
        if (rc == CLI_DONE && count > 0)
            continue; /* there may be more */
        if (once)
            break;
        (void)nanosleep(&second, NULL);
    }
    buf_deinit(&tail.after);
    return rc;
}
