/* Errors: how messages are put together, and the classes that err.def lists. Not for logging: that is log.c. */
#include "common/base/err.h"
#include "common/base/str.h"

#include "common/base/banned.h"

struct err_row {
    char name[20];
    enum err_class class;
    int http_status;
};

static struct err_row rows[] = {
    [ERR_OK] = {"ok", ERR_CLASS_NONE, 200},
#define ERR(name, class, status, meaning) [ERR_##name] = {#name, ERR_CLASS_##class, status},
#include "common/base/err.def"
#undef ERR
};

/* The rows spell their names in capitals, for the enum; what people read is lower case. Before main, so that no lock
 * is needed. */
__attribute__((constructor)) static void lower_names(void)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (char *p = rows[i].name; *p != '\0'; p++) {
            if (*p >= 'A' && *p <= 'Z')
                *p = (char)(*p - 'A' + 'a');
        }
    }
}

static const struct err_row *row_of(enum err_code code)
{
    return (size_t)code < sizeof(rows) / sizeof(rows[0]) ? &rows[code] : &rows[ERR_INTERNAL];
}

/* Copies `text`, cut between characters where it is too long: messages end up in JSON. */
static void message_put(struct err *err, const char *text)
{
    struct str cut = utf8_prefix(str_of(text), sizeof(err->message) - 1);

    memcpy(err->message, cut.ptr, cut.len);
    err->message[cut.len] = '\0';
}

void err_set_at(struct err *err, enum err_code code, const char *file, int line, const char *format, ...)
{
    char text[sizeof(err->message) + 8]; /* not in place: the arguments may point into err->message */
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    err->code = code;
    err->lib_code = 0;
    memset(err->sqlstate, 0, sizeof(err->sqlstate));
    err->file = file;
    err->line = line;
    message_put(err, text);
}

void err_prefix_at(struct err *err, const char *format, ...)
{
    char text[2 * sizeof(err->message) + 8];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof(err->message), format, args);
    va_end(args);
    if (n < 0)
        return;
    if ((size_t)n >= sizeof(err->message))
        n = (int)sizeof(err->message) - 1;
    snprintf(text + n, sizeof(text) - (size_t)n, ": %s", err->message);
    message_put(err, text);
}

enum err_class err_class_of(enum err_code code)
{
    return row_of(code)->class;
}

int err_http_status(enum err_code code)
{
    return row_of(code)->http_status;
}

const char *err_code_name(enum err_code code)
{
    return row_of(code)->name;
}
