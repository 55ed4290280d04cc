/* What the files of the command line share. One thread, blocking calls. */
#pragma once
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
    const char *url; /* ROPEWALK_URL, without a slash at the end */
    char *key;       /* ROPEWALK_API_KEY or the content of ROPEWALK_API_KEY_FILE */
    bool json;       /* -o json: the server's answer as it came */
    int argc;        /* what is left after the options of all commands */
    char **argv;
};

/* ---- api.c: HTTP ---- */
struct answer {
    long status;
    char *text; /* body, NUL-terminated; mem_free */
    size_t text_bytes;
    json_t *json; /* NULL when the body is not JSON */
};
void answer_deinit(struct answer *answer);

struct api_request {
    const char *method;          /* "GET" */
    const char *path;            /* "/v1/runs?..." */
    const char *body;            /* NULL: none */
    const char *idempotency_key; /* NULL: none */
};
/* Returns CLI_DONE with the answer for 2xx. Otherwise prints what went wrong and what to do to stderr. */
enum cli_exit api_call(const struct cli *cli, const struct api_request *request, struct answer *ret);
/* Server-sent events: `on_event` gets each message's data; it returns false to stop. Connects again where it was
 * (Last-Event-ID) when the connection breaks, up to `retries` times in a row. */
typedef bool (*api_event_fn)(void *ctx, const char *data, size_t len);
enum cli_exit api_stream(const struct cli *cli, const char *path, api_event_fn on_event, void *ctx, int timeout_s);
char *api_escape(const char *text); /* percent-encoded; mem_free */

/* ---- yaml.c ---- */
/* YAML 1.2 (core schema) or JSON to JSON text; numbers stay as written where JSON can say them so. False with a message
 * "line N: ..." in `error`. *ret is for mem_free. */
bool yaml_to_json(const char *text, size_t len, char **ret, char *error, size_t error_size);
/* A whole file, "-" for standard input; bounded at 4 MiB. Prints the reason when it returns NULL. */
char *read_document(const char *path, size_t *ret_len);

/* ---- table.c ---- */
struct table;
struct table *table_new(const char *const *titles);            /* NULL-terminated */
void table_row(struct table *table, const char *const *cells); /* as many as titles; NULL prints "-" */
void table_print(struct table *table);                         /* to stdout; frees it */
const char *json_text(const json_t *object, const char *key);  /* string member or NULL */
/* "1.2 s" between two RFC 3339 times; "" when either is missing. `now` stands for a missing end. */
void format_duration(const char *start, const char *end, bool open, char *ret, size_t size);

/* ---- commands ---- */
enum cli_exit cmd_apply(struct cli *cli);
enum cli_exit cmd_validate(struct cli *cli);
enum cli_exit cmd_run(struct cli *cli);
enum cli_exit cmd_get(struct cli *cli);
enum cli_exit cmd_list(struct cli *cli);
enum cli_exit cmd_events(struct cli *cli);
enum cli_exit cmd_explain(struct cli *cli);
enum cli_exit cmd_keys(struct cli *cli);
/* watch.c: follows a run to its end. plain: one line per event instead of a redrawn tree. */
enum cli_exit watch_run(const struct cli *cli, const char *run_id, bool show, int timeout_s);

/* Takes "--name VALUE" or "--name=VALUE" out of the arguments; NULL when absent. "--name" alone for flags. */
const char *take_option(struct cli *cli, const char *name);
bool take_flag(struct cli *cli, const char *name);
enum cli_exit usage_error(const char *format, ...) PRINTF_LIKE(1, 2);
/* Are exactly `count` words left, none an unknown option? Prints what is wrong. */
bool words_left(struct cli *cli, int min, int max);
