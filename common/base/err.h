/* Errors: one type that says what we were doing. What can fail returns enum err_code and takes struct err last. */
#pragma once
#include <stdbool.h>

enum err_code {
    ERR_OK = 0,
#define ERR(name, class, status, meaning) ERR_##name,
#include "common/base/err.def"
#undef ERR
};

enum err_class { ERR_CLASS_NONE, ERR_CLASS_CALLER, ERR_CLASS_TRANSIENT, ERR_CLASS_BUG };

struct err {
    enum err_code code;
    int lib_code;     /* errno, CURLcode, AMQP reply code: the library's own number, 0 when there is none */
    char sqlstate[6]; /* five characters when PostgreSQL gave one */
    const char *file;
    int line;
    char message[480]; /* lower case, no full stop, no secrets */
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

/* Sets the error; the value of the macro is `rc`, so that analyzers see that the error path never returns OK. */
#define err_set(err, rc, ...) (err_set_at((err), (rc), __FILE__, __LINE__, __VA_ARGS__), err_code_pass(rc))
/* Puts "what we were doing: " before the message; the value is `rc`. */
#define err_prefix(err, rc, ...) (err_prefix_at((err), __VA_ARGS__), err_code_pass(rc))

/* Lets a caller leave the macros' value unused without a warning. */
static inline enum err_code err_code_pass(enum err_code rc)
{
    return rc;
}

void err_set_at(struct err *err, enum err_code code, const char *file, int line, const char *format, ...)
    PRINTF_LIKE(5, 6);
void err_prefix_at(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);
enum err_class err_class_of(enum err_code code);
int err_http_status(enum err_code code);
const char *err_code_name(enum err_code code); /* "invalid", "not_found", ... */
