/* See terminal.h. */
#include "cli/terminal.h"
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/banned.h"

#define ROWS_MIN 4
#define COLUMNS_MIN 8

struct terminal_size terminal_size(void)
{
    struct winsize ws = {0};

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) != 0 || ws.ws_row == 0 || ws.ws_col == 0)
        return (struct terminal_size){24, 80};
    return (struct terminal_size){ws.ws_row < ROWS_MIN ? ROWS_MIN : ws.ws_row,
                                  ws.ws_col < COLUMNS_MIN ? COLUMNS_MIN : ws.ws_col};
}

/* Columns that the character at `ptr` takes: two in the blocks of East Asian scripts and of emoji. What is counted too
 * wide only leaves room; what is counted too narrow would wrap, and the next picture be drawn over the wrong lines. */
static size_t columns_at(const char *ptr, size_t len)
{
    unsigned code = (unsigned char)ptr[0];

    if (len < 3)
        return 1;
    code = len == 3 ? code & 0x0fu : code & 0x07u;
    for (size_t i = 1; i < len; i++)
        code = code << 6 | ((unsigned char)ptr[i] & 0x3fu);
    return (code >= 0x1100 && code < 0x1160) || (code >= 0x231a && code < 0x2400) ||
                   (code >= 0x2600 && code < 0x2700) || (code >= 0x2b00 && code < 0x2c00) ||
                   (code >= 0x2e80 && code < 0xa4d0) || (code >= 0xac00 && code < 0xd7a4) ||
                   (code >= 0xf900 && code < 0xfb00) || (code >= 0xfe30 && code < 0xff61) || code >= 0x1f000
               ? 2
               : 1;
}

/* Of text that clean_append has passed: all of it is UTF-8. */
size_t terminal_columns(struct str s)
{
    size_t n = 0, len;

    for (size_t i = 0; i < s.len; i += len) {
        len = utf8_len_at(s.ptr + i, s.len - i);
        len = len == 0 ? 1 : len;
        n += columns_at(s.ptr + i, len);
    }
    return n;
}

/* What fits into `columns`, without blanks at the end. */
struct str terminal_cut(struct str line, size_t columns)
{
    size_t seen = 0, len;

    while (line.len > 0 && line.ptr[line.len - 1] == ' ')
        line.len--;
    for (size_t i = 0; i < line.len; i += len) {
        len = utf8_len_at(line.ptr + i, line.len - i);
        len = len == 0 ? 1 : len;
        seen += columns_at(line.ptr + i, len);
        if (seen > columns)
            return (struct str){line.ptr, i};
    }
    return line;
}

bool terminal_is_good(void)
{
    const char *term = getenv("TERM");

    return isatty(STDOUT_FILENO) == 1 && term != NULL && strcmp(term, "dumb") != 0;
}
