/* Logs: one JSON object per line on stderr: ts, level, svc, event, then typed fields. Never payloads, tokens or
 * connection strings. Thread safe (one write per line). A full or slow stderr loses lines, never blocks for long: when
 * a write would block the line is dropped and counted in log_lost(). */
#pragma once
#include "common/base/clock.h"
#include "common/base/id.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_field {
    const char *name;
    enum { LOG_F_STR, LOG_F_I64, LOG_F_RUN, LOG_F_BOOL, LOG_F_ERR } type;
    union {
        struct str str;
        int64_t i64;
        struct run_id run;
        bool boolean;
        const struct err *err;
    } value;
};

void log_init(const char *svc, const char *name, enum log_level level);
bool log_level_parse(struct str s, enum log_level *ret);
uint64_t log_lost(void);

/* log_event(LOG_WARN, "run.finish_failed", log_run("run_id", id), log_err(&err)); an event name occurs once. */
#define log_event(level, event, ...)                                                                                   \
    log_write((level), (event), (const struct log_field[]){{0}, ##__VA_ARGS__},                                        \
              sizeof((const struct log_field[]){{0}, ##__VA_ARGS__}) / sizeof(struct log_field))
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count);

static inline struct log_field log_str(const char *name, struct str s)
{
    return (struct log_field){.name = name, .type = LOG_F_STR, .value.str = s};
}
static inline struct log_field log_cstr(const char *name, const char *s)
{
    return log_str(name, str_of(s));
}
static inline struct log_field log_i64(const char *name, int64_t n)
{
    return (struct log_field){.name = name, .type = LOG_F_I64, .value.i64 = n};
}
static inline struct log_field log_bool(const char *name, bool b)
{
    return (struct log_field){.name = name, .type = LOG_F_BOOL, .value.boolean = b};
}
static inline struct log_field log_run(const char *name, struct run_id id)
{
    return (struct log_field){.name = name, .type = LOG_F_RUN, .value.run = id};
}
static inline struct log_field log_err(const struct err *err)
{
    return (struct log_field){.name = "error", .type = LOG_F_ERR, .value.err = err};
}
