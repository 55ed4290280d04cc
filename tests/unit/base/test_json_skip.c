/* Past a container, 64 bytes at a time, against the plainest walk there is: made of what could mislead it, at every
 * place of a block. ROPEWALK_TEST_ROUNDS makes it longer. */
#include "common/base/json_internal.h"
#include "common/base/json_text.h"
#include "tests/unit/base/test.h"
#include <stdlib.h>

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint32_t rnd(uint32_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % below;
}

static void put_string(struct buf *out)
{
    static const char *const parts[] = {"\\\\", "\\\"", "\\\\\\\"", "{",       "}",           "[",
                                        "]",    "x",    "\xc3\xbb", "\\u005d", "seven, or so"};

    buf_append_char(out, '"');
    for (uint32_t i = rnd(12); i > 0; i--)
        buf_append_str(out, str_of(parts[rnd(sizeof(parts) / sizeof(parts[0]))]));
    for (uint32_t i = rnd(8) == 0 ? 2 * rnd(70) : 0; i > 0; i--) /* an even number, or more than a block of them */
        buf_append_char(out, '\\');
    buf_append_char(out, '"');
}

static void put_value(struct buf *out, unsigned depth)
{
    bool object = rnd(2) == 0;

    if (depth > 0 && (depth > 8 || rnd(3) == 0)) {
        put_string(out);
        return;
    }
    buf_append_char(out, object ? '{' : '[');
    for (uint32_t i = 0, count = rnd(4); i < count; i++) {
        if (i > 0)
            buf_append_str(out, STR(", "));
        if (object) {
            put_string(out);
            buf_append_char(out, ':');
        }
        put_value(out, depth + 1);
    }
    buf_append_char(out, object ? '}' : ']');
}

static const char *plain_end(const char *p, const char *end)
{
    int depth = 0;
    bool in_string = false;

    for (; p < end; p++) {
        if (in_string && *p == '\\')
            p++;
        else if (*p == '"')
            in_string = !in_string;
        else if (!in_string && (*p == '{' || *p == '['))
            depth++;
        else if (!in_string && (*p == '}' || *p == ']') && --depth == 0)
            return p + 1;
    }
    return end;
}

static void the_end_of_a_container_is_found_wherever_blocks_begin(void **state)
{
    const char *rounds = getenv("ROPEWALK_TEST_ROUNDS");
    struct buf text;
    struct err err;

    (void)state;
    buf_init(&text, 1 << 20);
    for (int i = rounds == NULL ? 20000 : (int)strtol(rounds, NULL, 10); i > 0; i--) {
        buf_reset(&text);
        put_value(&text, 0);
        assert_int_equal(jt_check(buf_str(&text), &JT_LIMITS_MESSAGE, &err), ERR_OK);
        for (size_t more = rnd(130); more > 0; more--)
            buf_append_char(&text, "{}[]\"\\,"[rnd(7)]);
        assert_ptr_equal(jt_container_end(text.ptr, text.ptr + text.len), plain_end(text.ptr, text.ptr + text.len));
    }
    buf_deinit(&text);
}

static void what_is_cut_ends_at_its_end(void **state)
{
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 20);
    for (int i = 0; i < 200; i++) {
        buf_reset(&text);
        put_value(&text, 0);
        for (size_t len = 1; len < text.len; len++) {
            char *cut = mem_dup(text.ptr, len); /* so that the sanitizer sees a byte too many */

            assert_ptr_equal(jt_container_end(cut, cut + len), cut + len);
            mem_free(cut);
        }
    }
    buf_deinit(&text);
}

RUN(TEST(the_end_of_a_container_is_found_wherever_blocks_begin), TEST(what_is_cut_ends_at_its_end))
