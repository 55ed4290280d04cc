/* What the files of the command line share. One thread, blocking calls. */
#pragma once
#include "common/base/clock.h"
#include "common/base/str.h"
#include <jansson.h>

enum cli_exit {
    CLI_DONE = 0,
    CLI_NOT_SUCCEEDED = 1, /* the run ended otherwise than succeeded */
    CLI_USAGE = 2,         /* usage or settings */
    CLI_REFUSED = 3,       /* by the server */
    CLI_UNREACHABLE = 4,
    CLI_WAIT_OVER = 5,
};

struct cli {
    char *url; /* ROPEWALK_URL, without a slash at the end */
    char *key; /* ROPEWALK_API_KEY, or the first line of ROPEWALK_API_KEY_FILE */
    bool json; /* -o json: the server's answer as it came; also with -o yaml */
    bool yaml; /* the same as YAML */
    int argc;  /* what is left after the options that were taken */
    char **argv;
};

/* ---- options.c: words and settings ---- */
/* Takes "--name VALUE" or "--name=VALUE" out of the words; NULL when absent. */
const char *take_option(struct cli *cli, const char *name);
bool take_flag(struct cli *cli, const char *name);
/* Are between `min` and `max` words left, none an unknown option? Prints what is wrong. */
bool words_left(struct cli *cli, int min, int max);
enum cli_exit usage_error(const char *format, ...) PRINTF_LIKE(1, 2);
/* The command that usage errors are of from now on. */
void usage_is(const char *name, const char *takes);
/* Prints all that is wrong with the settings. */
bool settings_load(struct cli *cli);

/* ---- source.c: documents ---- */
/* A file as it was read, and as JSON text: the same bytes when it is JSON. */
struct source {
    const char *path; /* "-" is standard input */
    char *text;
    size_t len;
    struct buf converted; /* of YAML */
    struct str json;
};
bool source_load(const char *path, struct source *ret); /* prints the reason of a false; end with source_deinit */
/* The same of a text, which is taken over; `path` is what it is called. */
bool source_from(const char *path, char *text, size_t len, struct source *ret);
void source_deinit(struct source *source);
/* JSON as an argument, or @FILE; `what` is its name in what is printed of a false. *ret lives as long as both. */
bool take_value(const char *text, const char *what, struct source *file, struct str *ret);
char *read_file(const char *path, size_t *ret_len); /* at most 4 MiB, NUL behind; prints the reason of a NULL */

/* ---- api.c, api_stream.c: HTTP ---- */
struct answer {
    long status;
    char *text; /* body, NUL behind; mem_free */
    size_t text_bytes;
    json_t *json; /* NULL when the body is not JSON */
};
void answer_deinit(struct answer *answer);
/* The JSON text of a member of the answer's object, digits as they came. STR_NONE when absent or null. */
struct str answer_member(const struct answer *answer, const char *name);

struct api_request {
    const char *method;          /* "GET" */
    const char *path;            /* "/v1/runs?..." */
    struct str body;             /* STR_NONE: none */
    const char *idempotency_key; /* NULL: none */
    const struct source *source; /* what the body was read from, for line numbers; NULL */
    bool quiet;                  /* say nothing when it is refused */
    bool stranger;               /* without the API key */
    const char *const *headers;  /* "name: value", NULL at the end, also of the body's type; NULL: none */
    long timeout_ms;             /* 0: 90 s */
};
/* CLI_DONE with the answer for 2xx. Otherwise prints what went wrong and what to do. */
enum cli_exit api_call(const struct cli *cli, const struct api_request *request, struct answer *ret);
/* GET with path made of `before`, the percent-encoded word, and `after`. */
enum cli_exit api_get(const struct cli *cli, const char *before, const char *word, const char *after,
                      struct answer *ret);
char *api_escape(const char *text); /* percent-encoded; mem_free */

/* Server-sent events: on_event gets each message's data and returns false to stop; on_tick (may be NULL) comes about
 * once a second. Connects again where it was (Last-Event-ID) when the connection breaks, five times in a row at most.
 * timeout_s 0: no end; else CLI_WAIT_OVER. */
struct api_listener {
    bool (*on_event)(void *ctx, struct str data);
    void (*on_tick)(void *ctx);
    void *ctx;
    int timeout_s;
};
enum cli_exit api_stream(const struct cli *cli, const char *path, const struct api_listener *listener);
/* of the two files above */
struct curl_slist *api_headers(const struct cli *cli, const struct api_request *request, const char *last_event_id);
void api_problem(const struct answer *answer, const struct source *source);
enum cli_exit api_unreachable(const struct cli *cli, const char *why);

/* ---- print.c ---- */
struct table;
struct table *table_new(const char *const *titles);            /* NULL-terminated */
void table_row(struct table *table, const char *const *cells); /* as many as titles; NULL prints "-" */
void table_print(struct table *table);                         /* to stdout; frees it */
const char *json_text(const json_t *object, const char *key);  /* string member or NULL */
long long json_int(const json_t *object, const char *key);     /* 0 when it is no number */
json_t *json_parse(struct str text);                           /* NULL when it is not JSON */
const char *text_or(const char *text, const char *otherwise);
/* Text of the server for a terminal: control characters, which could move the cursor or worse, become '?'. */
void print_clean(FILE *out, const char *text);
void clean_append(struct buf *out, struct str text);
/* JSON with two spaces a level, digits as they are. */
void print_json(struct str value);
/* Checked JSON as -o asks: as it is, on a line; or as YAML, each document but the first after "---". */
void print_document(const struct cli *cli, struct str json);
/* The same of an answer's body; one that is no JSON is printed as it came. */
void print_answer(const struct cli *cli, const struct answer *answer);
/* "850 ms", "1.2 s", "3 min 5 s"; "" for less than nothing. */
void format_span(int64_t us, char *ret, size_t size);
/* Between two RFC 3339 times; "" when start is missing, or end where it is not `open` to now. */
void format_took(const char *start, const char *end, bool open, char *ret, size_t size);

/* ---- commands ---- */
enum cli_exit cmd_apply(struct cli *cli);
enum cli_exit cmd_validate(struct cli *cli);
enum cli_exit cmd_run(struct cli *cli);
enum cli_exit cmd_get(struct cli *cli);
enum cli_exit cmd_list(struct cli *cli);
enum cli_exit cmd_events(struct cli *cli);
enum cli_exit cmd_explain(struct cli *cli);
enum cli_exit cmd_keys(struct cli *cli);
enum cli_exit cmd_secret(struct cli *cli);
/* From standard input, or asked for on a terminal that does not show it. At most 64 KiB; wipe it. NULL: said why. */
char *secret_read(const char *name, size_t *ret_len);
/* cmd_event.c: verbs of events, without the verb. */
enum cli_exit events_publish(struct cli *cli);
enum cli_exit events_tail(struct cli *cli);
enum cli_exit cmd_deliveries(struct cli *cli);
enum cli_exit cmd_trigger(struct cli *cli);
enum cli_exit cmd_top(struct cli *cli);
enum cli_exit cmd_test(struct cli *cli);
enum cli_exit cmd_mermaid(struct cli *cli);
enum cli_exit cmd_operation(struct cli *cli);
enum cli_exit cmd_release(struct cli *cli);
enum cli_exit cmd_enable(struct cli *cli);
enum cli_exit cmd_disable(struct cli *cli);
enum cli_exit cmd_delete(struct cli *cli);
enum cli_exit cmd_completion(struct cli *cli);
enum cli_exit cmd_dead_letter(struct cli *cli);
enum cli_exit cmd_schedule(struct cli *cli);
enum cli_exit cmd_endpoint(struct cli *cli);
enum cli_exit cmd_organisation(struct cli *cli);
enum cli_exit cmd_signal(struct cli *cli);
enum cli_exit cmd_settle(struct cli *cli);
enum cli_exit cmd_cancel(struct cli *cli);
enum cli_exit cmd_pause(struct cli *cli);
enum cli_exit cmd_resume(struct cli *cli);
enum cli_exit cmd_compensate(struct cli *cli);
enum cli_exit cmd_retry(struct cli *cli);
enum cli_exit cmd_rerun(struct cli *cli);
enum cli_exit cmd_rollback(struct cli *cli);
enum cli_exit cmd_diff(struct cli *cli);
/* The same for every run of a filter; `options` is a JSON object whose members go with it. */
enum cli_exit bulk(struct cli *cli, const char *verb, const char *filter, struct str options);
/* Lists "runs", "workflows", "versions", "keys", "secrets", "dead-letters" or "deliveries" with the options that are
 * left. */
enum cli_exit list_things(struct cli *cli, const char *what);
bool run_event_is_end(const char *type); /* "run.succeeded", not "run.started" */

/* complete.c: prints what the last of these words may become, for the shells. */
#define COMPLETE_WORD "__complete"
void complete(struct cli *cli, int count, char **given);

/* watch.c: follows a run to its end, prints its output; with `show` its steps on the way. */
enum cli_exit watch_run(const struct cli *cli, const char *run_id, bool show, int timeout_s);
