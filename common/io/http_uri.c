/* Percent-decoding of paths and queries. */
#include "common/io/http_server.h"

#include "common/base/banned.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool http_decode(struct arena *arena, struct str raw, bool plus_is_space, struct str *ret)
{
    char *out = arena_alloc(arena, raw.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.ptr[i];

        if (c == '%') {
            int high = i + 2 < raw.len ? hex_value(raw.ptr[i + 1]) : -1;
            int low = i + 2 < raw.len ? hex_value(raw.ptr[i + 2]) : -1;

            if (i + 2 >= raw.len || high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == '\0')
            return false;
        out[len++] = c;
    }
    for (size_t i = 0; i < len;) {
        size_t n = utf8_len_at(out + i, len - i);

        if (n == 0)
            return false;
        i += n;
    }
    *ret = (struct str){out, len};
    return true;
}
