/* Base64; see base64.h. */
#include "common/seal/base64.h"

#include "common/base/banned.h"

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct str bytes, struct buf *out)
{
    const unsigned char *p = (const unsigned char *)bytes.ptr;

    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t n = bytes.len - i < 3 ? bytes.len - i : 3;
        unsigned bits = (unsigned)p[i] << 16 | (n > 1 ? (unsigned)p[i + 1] << 8 : 0) | (n > 2 ? (unsigned)p[i + 2] : 0);
        char four[4] = {ALPHABET[bits >> 18], ALPHABET[bits >> 12 & 63], n > 1 ? ALPHABET[bits >> 6 & 63] : '=',
                        n > 2 ? ALPHABET[bits & 63] : '='};

        buf_append(out, four, 4);
    }
}

static int value_of(char c)
{
    const char *at = c == '\0' ? NULL : strchr(ALPHABET, c);

    return at == NULL ? -1 : (int)(at - ALPHABET);
}

bool base64_decode(struct str text, struct buf *out)
{
    if (text.len % 4 != 0)
        return false;
    for (size_t i = 0; i < text.len; i += 4) {
        bool last = i + 4 == text.len;
        size_t pad = !last || text.ptr[i + 3] != '=' ? 0 : text.ptr[i + 2] == '=' ? 2 : 1;
        unsigned bits = 0;

        for (size_t k = 0; k < 4; k++) {
            int value = k >= 4 - pad ? 0 : value_of(text.ptr[i + k]);

            if (value < 0)
                return false;
            bits = bits << 6 | (unsigned)value;
        }
        if ((bits & ((1u << (8 * pad)) - 1)) != 0)
            return false; /* the same bytes must have one text only */
        for (size_t k = 0; k < 3 - pad; k++)
            buf_append_char(out, (char)(bits >> (16 - 8 * k) & 0xff));
    }
    return true;
}
