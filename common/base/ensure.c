/* What happens when an ENSURE does not hold: one line on stderr, then abort. */
#include "common/base/ensure.h"
#include <unistd.h>

#include "common/base/banned.h"

/* Appends `s` escaped for JSON; no allocation, since memory may be what is broken. */
static void put_escaped(char *out, size_t size, const char *s)
{
    size_t len = 0;

    for (; *s != '\0' && len + 3 < size; s++) {
        if (*s == '"' || *s == '\\')
            out[len++] = '\\';
        out[len++] = *s >= 0 && *s < ' ' ? ' ' : *s;
    }
    out[len] = '\0';
}

void ensure_failed(const char *what, const char *file, int line)
{
    char what_text[512];
    char file_text[256];
    char text[1024];
    int n;

    put_escaped(what_text, sizeof(what_text), what);
    put_escaped(file_text, sizeof(file_text), file);
    n = snprintf(text, sizeof(text),
                 "{\"level\":\"error\",\"event\":\"ensure.failed\",\"what\":\"%s\",\"at\":\"%s:%d\",\"pid\":%ld}\n",
                 what_text, file_text, line, (long)getpid());
    /* Whether anyone can hear it changes nothing: abort follows. */
    if (n > 0 && write(STDERR_FILENO, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1) < 0)
        abort();
    abort();
}
