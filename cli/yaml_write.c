/* JSON as YAML, in block style. Numbers and texts come out as what they were: a text is plain only where no reader of
 * YAML 1.1 or 1.2 could take it for something else, and a JSON string, which YAML reads too, everywhere else. */
#include "cli/yaml.h"
#include "cli/yaml_scalar.h"
#include "common/base/json_text.h"
#include <strings.h>

#include "common/base/banned.h"

#define PLAIN_MAX_BYTES 200
/* A key that is followed by its colon has at most 1,024 characters (YAML 1.2.2, 7.4.2); escaped, a byte may take six.
 */
#define SIMPLE_KEY_MAX_BYTES 160

/* Booleans and nulls of YAML 1.1, which 1.2 takes for texts. */
static bool is_word_of_old(struct str s)
{
    static const char *const words[] = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (s.len == strlen(words[i]) && strncasecmp(s.ptr, words[i], s.len) == 0)
            return true;
    }
    return false;
}

/* Letters first; then also digits, some signs, and single blanks inside. Nothing of that begins a comment, a key, an
 * anchor or a number. */
static bool is_plain(struct str s)
{
    if (s.len == 0 || s.len > PLAIN_MAX_BYTES || is_word_of_old(s))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char ch = s.ptr[i];
        bool letter = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_' || ch == '/';
        bool inside = (ch >= '0' && ch <= '9') || ch == '-' || ch == '.' || ch == '@' || ch == '+' ||
                      (ch == ' ' && i + 1 < s.len && s.ptr[i - (i > 0)] != ' ');

        if (!letter && (i == 0 || !inside))
            return false;
    }
    return true;
}

/* Not the text's own literal: YAML knows no surrogates. */
static void put_text(struct buf *out, struct str text)
{
    if (is_plain(text))
        buf_append_str(out, text);
    else
        json_quote(out, text);
}

static void put_key(struct buf *out, struct jt_iter *it, unsigned indent, struct arena *arena)
{
    struct str key = jt_key(it, arena);

    if (key.len > SIMPLE_KEY_MAX_BYTES)
        buf_append(out, "? ", 2);
    put_text(out, key);
    if (key.len > SIMPLE_KEY_MAX_BYTES)
        buf_printf(out, "\n%*s", (int)(2 * indent), "");
    buf_append_char(out, ':');
}

static void put_scalar(struct buf *out, struct str value, struct arena *arena)
{
    struct str text;

    if (jt_string(value, arena, &text))
        put_text(out, text);
    else
        buf_append_str(out, value);
}

static bool is_block(struct str value)
{
    enum jt_type type = jt_type(value);

    return (type == JT_OBJECT || type == JT_ARRAY) && jt_count(value) > 0;
}

static void put_block(struct buf *out, struct str value, unsigned indent, bool first_is_placed, struct arena *arena)
{
    bool object = jt_type(value) == JT_OBJECT;
    struct jt_iter it;

    jt_iter_init(&it, value);
    while (jt_next(&it)) {
        if (!first_is_placed)
            buf_printf(out, "%*s", (int)(2 * indent), "");
        first_is_placed = false;
        if (object)
            put_key(out, &it, indent, arena);
        else
            buf_append_char(out, '-');
        if (!is_block(it.value)) {
            buf_append_char(out, ' ');
            put_scalar(out, it.value, arena);
            buf_append_char(out, '\n');
        } else if (object) {
            buf_append_char(out, '\n');
            put_block(out, it.value, indent + 1, false, arena);
        } else { /* "- key: ...", "- - ..." */
            buf_append_char(out, ' ');
            put_block(out, it.value, indent + 1, true, arena);
        }
    }
}

void yaml_from_json(struct str json, struct buf *out)
{
    struct arena *arena = arena_new(4096);

    if (is_block(json)) {
        put_block(out, json, 0, false, arena);
    } else {
        put_scalar(out, json, arena);
        buf_append_char(out, '\n');
    }
    arena_free(arena);
}
