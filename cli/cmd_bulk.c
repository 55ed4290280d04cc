/* cancel, pause, resume, retry, rerun with --all-matching: one request for every run of a filter, followed to its end.
 */
#include "cli/cli.h"
#include "common/base/json_text.h"
#include <time.h>

#include "common/base/banned.h"

#define FOLLOW_SECONDS 60
/* What is done soon is told soon; a long operation is asked about twenty times in its first minute. */
#define FIRST_PAUSE_MS 100
#define LONGEST_PAUSE_MS 4000
#define BODY_MAX ((size_t)8 << 20)

/* "workflow=x,status=running" as an object; "all" is every run there is. */
static bool put_filter(struct jw *w, const char *text)
{
    struct str rest = str_of(text);

    if (str_is(rest, "all")) {
        jw_kbool(w, "all", true);
        return true;
    }
    jw_key(w, "filter");
    jw_obj(w);
    while (rest.len > 0) {
        struct str value = str_cut(&rest, ','), name = str_cut(&value, '=');

        if (name.len == 0 || value.ptr == NULL)
            return false;
        jw_key_str(w, name);
        jw_str(w, value);
    }
    jw_end_obj(w);
    return true;
}

/* What a dry run has looked at run by run. */
static void print_looked_at(const json_t *plan, const char *member, const char *what)
{
    const json_t *found = json_object_get(plan, member);
    json_t *run, *step;
    size_t i, k;

    if (json_int(found, "count") == 0)
        return;
    printf("%s%lld of them %s\n", json_is_true(json_object_get(found, "at_least")) ? "at least " : "",
           json_int(found, "count"), what);
    json_array_foreach(json_object_get(found, "runs"), i, run)
    {
        (void)fputs("  ", stdout);
        print_clean(stdout, text_or(json_text(run, "run_id"), ""));
        (void)fputs("  ", stdout);
        print_clean(stdout, text_or(json_text(run, "reason"), ""));
        json_array_foreach(json_object_get(run, "steps"), k, step)
        {
            (void)fputs(k > 0 ? ", " : "", stdout);
            print_clean(stdout, text_or(json_string_value(step), ""));
        }
        (void)fputc('\n', stdout);
    }
}

static void print_found(const json_t *plan, const char *member, const char *what)
{
    const json_t *found = json_object_get(plan, member);
    const char *reason = json_text(found, "reason");
    json_t *run;
    size_t i;

    printf("%s%lld %s%s%s\n", json_is_true(json_object_get(found, "at_least")) ? "at least " : "",
           json_int(found, "count"), what, reason == NULL ? "" : ": ", text_or(reason, ""));
    json_array_foreach(json_object_get(found, "runs"), i, run)
    {
        (void)fputs("  ", stdout);
        print_clean(stdout, text_or(json_string_value(run), ""));
        (void)fputc('\n', stdout);
    }
}

static void print_operation(const json_t *operation)
{
    json_t *run;
    size_t i;

    printf("%lld runs asked: %lld done, %lld refused, %lld waiting\n", json_int(operation, "runs"),
           json_int(operation, "applied"), json_int(operation, "refused"),
           json_int(operation, "waiting") + json_int(operation, "held"));
    if (json_text(operation, "cancelled_at") != NULL)
        printf("cancelled: %lld are not asked any more\n", json_int(operation, "left"));
    json_array_foreach(json_object_get(operation, "refusals"), i, run)
    {
        (void)fputs("  ", stdout);
        print_clean(stdout, text_or(json_text(run, "run_id"), ""));
        (void)fputs("  ", stdout);
        print_clean(stdout, text_or(json_text(run, "reason"), ""));
        (void)fputc('\n', stdout);
    }
    json_array_foreach(json_object_get(operation, "new_runs"), i, run)
    {
        (void)fputs("  ", stdout);
        print_clean(stdout, text_or(json_text(run, "run_id"), ""));
        (void)fputs("  done again as ", stdout);
        print_clean(stdout, text_or(json_text(run, "new_run_id"), ""));
        (void)fputc('\n', stdout);
    }
}

static long longer(long pause_ms)
{
    return pause_ms * 3 / 2 < LONGEST_PAUSE_MS ? pause_ms * 3 / 2 : LONGEST_PAUSE_MS;
}

static bool is_over(const json_t *operation)
{
    const char *status = text_or(json_text(operation, "status"), "");

    return strcmp(status, "done") == 0 || strcmp(status, "cancelled") == 0;
}

/* Asks until every run has given its verdict. */
static enum cli_exit follow(const struct cli *cli, const char *id)
{
    const int64_t end = clock_mono().us + FOLLOW_SECONDS * US_PER_S;

    for (long pause_ms = FIRST_PAUSE_MS;; pause_ms = longer(pause_ms)) {
        const struct timespec pause = {.tv_sec = pause_ms / 1000, .tv_nsec = pause_ms % 1000 * 1000000};
        struct answer answer;
        enum cli_exit rc = api_get(cli, "/v1/operations/", id, "", &answer);
        bool done;

        if (rc != CLI_DONE)
            return rc;
        done = is_over(answer.json);
        if (done || clock_mono().us > end) {
            if (cli->json)
                print_answer(cli, &answer);
            else
                print_operation(answer.json);
            answer_deinit(&answer);
            if (!done)
                (void)fprintf(stderr, "ropewalk: it goes on; 'ropewalk operation %s' says how far it is\n", id);
            return done ? CLI_DONE : CLI_WAIT_OVER;
        }
        answer_deinit(&answer);
        (void)nanosleep(&pause, NULL);
    }
}

enum cli_exit bulk(struct cli *cli, const char *verb, const char *filter, struct str options)
{
    CLEANUP(buf_deinit) struct buf body = {0}, path = {0};
    bool dry_run = take_flag(cli, "--dry-run");
    const char *key = take_option(cli, "--idempotency-key");
    struct answer answer;
    struct jt_iter it;
    enum cli_exit rc;
    struct jw w;

    if (!words_left(cli, 0, 0))
        return CLI_USAGE;
    buf_init(&body, BODY_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    if (!put_filter(&w, filter))
        return usage_error("--all-matching takes conditions such as workflow=hello,status=running, or all");
    jt_iter_init(&it, options);
    while (jt_next(&it)) {
        jw_key_str(&w, it.key); /* ours: no escapes in it */
        jw_raw(&w, it.value);
    }
    if (dry_run)
        jw_kbool(&w, "dry_run", true);
    jw_end_obj(&w);
    buf_init(&path, 256);
    buf_printf(&path, "/v1/runs:%s", verb);
    rc = api_call(
        cli, &(struct api_request){.method = "POST", .path = path.ptr, .body = buf_str(&body), .idempotency_key = key},
        &answer);
    if (rc != CLI_DONE)
        return rc;
    if (!dry_run) {
        rc = follow(cli, text_or(json_text(answer.json, "id"), ""));
    } else if (cli->json) {
        print_answer(cli, &answer);
    } else {
        print_found(answer.json, "would_ask", "runs would be asked");
        print_looked_at(answer.json, "needs_confirmation",
                        "would repeat what is not to be repeated, and need a confirmation");
        print_looked_at(answer.json, "would_refuse", "would refuse");
        print_found(answer.json, "would_leave", "others match and would be left");
    }
    answer_deinit(&answer);
    return rc;
}

enum cli_exit cmd_operation(struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    bool cancel = take_flag(cli, "--cancel");
    struct answer answer;
    enum cli_exit rc;
    char *id;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    if (cancel) {
        id = api_escape(cli->argv[0]);
        buf_init(&path, BODY_MAX);
        buf_printf(&path, "/v1/operations/%s:cancel", id);
        mem_free(id);
        rc = api_call(cli, &(struct api_request){.method = "POST", .path = path.ptr, .body = STR("{}")}, &answer);
    } else {
        rc = api_get(cli, "/v1/operations/", cli->argv[0], "", &answer);
    }
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        print_operation(answer.json);
    answer_deinit(&answer);
    return CLI_DONE;
}
