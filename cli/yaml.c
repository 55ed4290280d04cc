/* YAML 1.2 (core schema) to JSON text. The parser is libfyaml's; this file decides what a plain scalar means. Numbers
 * keep their digits where JSON can say them the same way, so 0.10 stays 0.10. */
#include "cli/cli.h"
#include "common/base/json_text.h"
#include <ctype.h>
#include <errno.h>
#include <libfyaml.h>
#include <math.h>
#include "common/base/banned.h"

#define DOCUMENT_MAX ((size_t)4 << 20)
#define DEPTH_MAX 128

struct convert {
    struct buf out;
    char *error;
    size_t error_size;
    bool failed;
};

static void fail(struct convert *c, struct fy_node *node, const char *what)
{
    const struct fy_mark *mark = NULL;
    struct fy_token *token = node == NULL ? NULL : fy_node_get_scalar_token(node);

    if (c->failed)
        return;
    c->failed = true;
    if (token != NULL)
        mark = fy_token_start_mark(token);
    if (mark != NULL)
        (void)snprintf(c->error, c->error_size, "line %d: %s", mark->line + 1, what);
    else
        (void)snprintf(c->error, c->error_size, "%s", what);
}

static bool is_json_number(struct str s)
{
    struct err err;

    return s.len > 0 && (isdigit((unsigned char)s.ptr[0]) || s.ptr[0] == '-') &&
           jt_check(s, &JT_LIMITS_API, &err) == ERR_OK;
}

static bool one_of(struct str s, const char *const *words)
{
    for (; *words != NULL; words++)
        if (str_is(s, *words))
            return true;
    return false;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?  (YAML 1.2.2, 10.3.2) that JSON writes otherwise:
 * a plus sign, leading zeros, no digit before or after the point. */
static bool as_other_float(struct str s, struct buf *number)
{
    size_t i = 0, whole, fraction;

    if (i < s.len && (s.ptr[i] == '+' || s.ptr[i] == '-')) {
        if (s.ptr[i] == '-')
            buf_append_char(number, '-');
        i++;
    }
    for (whole = i; i < s.len && isdigit((unsigned char)s.ptr[i]); i++)
        continue;
    while (whole + 1 < i && s.ptr[whole] == '0')
        whole++;
    if (i == whole)
        buf_append_char(number, '0');
    buf_append(number, s.ptr + whole, i - whole);
    if (i < s.len && s.ptr[i] == '.') {
        for (fraction = ++i; i < s.len && isdigit((unsigned char)s.ptr[i]); i++)
            continue;
        if (i == fraction && fraction - 1 == whole)
            return false; /* "." alone */
        if (i > fraction) {
            buf_append_char(number, '.');
            buf_append(number, s.ptr + fraction, i - fraction);
        }
    } else if (i == whole) {
        return false;
    }
    if (i < s.len && (s.ptr[i] == 'e' || s.ptr[i] == 'E'))
        buf_append(number, s.ptr + i, s.len - i);
    else if (i < s.len)
        return false;
    return is_json_number(buf_str(number));
}

/* 0o17 and 0x1F */
static bool as_other_base(struct str s, struct buf *number)
{
    char copy[24];
    char *end;
    unsigned long long n;
    int base = 0;

    if (s.len < 3 || s.len >= sizeof(copy) || s.ptr[0] != '0')
        return false;
    if (s.ptr[1] == 'o')
        base = 8;
    else if (s.ptr[1] == 'x')
        base = 16;
    else
        return false;
    memcpy(copy, s.ptr + 2, s.len - 2);
    copy[s.len - 2] = '\0';
    if (!isxdigit((unsigned char)copy[0]))
        return false;
    errno = 0;
    n = strtoull(copy, &end, base);
    if (*end != '\0' || errno != 0)
        return false;
    buf_printf(number, "%llu", n);
    return true;
}

static void plain_scalar(struct convert *c, struct fy_node *node, struct str s)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    static const char *const none[] = {".inf",  ".Inf",  ".INF", "+.inf", "+.Inf", "+.INF", "-.inf",
                                       "-.Inf", "-.INF", ".nan", ".NaN",  ".NAN",  NULL};
    struct buf number;

    if (one_of(s, nulls)) {
        buf_append_str(&c->out, STR("null"));
        return;
    }
    if (one_of(s, trues) || one_of(s, falses)) {
        buf_append_str(&c->out, one_of(s, trues) ? STR("true") : STR("false"));
        return;
    }
    if (one_of(s, none)) {
        fail(c, node, "infinity and NaN have no place in JSON");
        return;
    }
    if (is_json_number(s)) {
        buf_append_str(&c->out, s);
        return;
    }
    buf_init(&number, 1 << 16);
    if (as_other_base(s, &number)) {
        buf_append_str(&c->out, buf_str(&number));
    } else {
        buf_reset(&number);
        if (as_other_float(s, &number))
            buf_append_str(&c->out, buf_str(&number));
        else
            json_quote(&c->out, s);
    }
    buf_deinit(&number);
}

static void node_to_json(struct convert *c, struct fy_node *node, unsigned depth);

static void scalar(struct convert *c, struct fy_node *node)
{
    size_t len = 0;
    const char *text = fy_node_get_scalar(node, &len);
    struct str s = {text == NULL ? "" : text, len};
    size_t tag_len = 0;
    const char *tag = fy_node_get_tag(node, &tag_len);
    bool str_tag = tag != NULL && tag_len >= 4 && memcmp(tag + tag_len - 4, ":str", 4) == 0;

    if (fy_node_get_style(node) == FYNS_PLAIN && !str_tag)
        plain_scalar(c, node, s);
    else
        json_quote(&c->out, s);
}

static void mapping(struct convert *c, struct fy_node *node, unsigned depth)
{
    void *iter = NULL;
    struct fy_node_pair *pair;
    bool first = true;

    buf_append_char(&c->out, '{');
    while (!c->failed && (pair = fy_node_mapping_iterate(node, &iter)) != NULL) {
        struct fy_node *key = fy_node_pair_key(pair);
        size_t len = 0;
        const char *text;
        if (key != NULL && fy_node_is_alias(key))
            key = fy_node_resolve_alias(key);
        if (key == NULL || !fy_node_is_scalar(key)) {
            fail(c, key, "a key must be a string");
            return;
        }
        text = fy_node_get_scalar(key, &len);
        if (!first)
            buf_append_char(&c->out, ',');
        first = false;
        json_quote(&c->out, (struct str){text == NULL ? "" : text, len});
        buf_append_char(&c->out, ':');
        node_to_json(c, fy_node_pair_value(pair), depth + 1);
    }
    buf_append_char(&c->out, '}');
}

static void sequence(struct convert *c, struct fy_node *node, unsigned depth)
{
    void *iter = NULL;
    struct fy_node *item;
    bool first = true;

    buf_append_char(&c->out, '[');
    while (!c->failed && (item = fy_node_sequence_iterate(node, &iter)) != NULL) {
        if (!first)
            buf_append_char(&c->out, ',');
        first = false;
        node_to_json(c, item, depth + 1);
    }
    buf_append_char(&c->out, ']');
}

static void node_to_json(struct convert *c, struct fy_node *node, unsigned depth)
{
    if (c->failed)
        return;
    if (node != NULL && fy_node_is_alias(node))
        node = fy_node_resolve_alias(node);
    if (depth > DEPTH_MAX || c->out.overflow) {
        fail(c, node, "is nested too deeply, or grows beyond 4 MiB");
        return;
    }
    if (node == NULL)
        buf_append_str(&c->out, STR("null"));
    else if (fy_node_is_mapping(node))
        mapping(c, node, depth);
    else if (fy_node_is_sequence(node))
        sequence(c, node, depth);
    else
        scalar(c, node);
}

static void first_diagnostic(struct fy_diag *diag, char *error, size_t error_size)
{
    void *iter = NULL;
    const struct fy_diag_error *e = fy_diag_errors_iterate(diag, &iter);

    if (e == NULL)
        (void)snprintf(error, error_size, "is no YAML");
    else
        (void)snprintf(error, error_size, "line %d: %s", e->line, e->msg);
}

bool yaml_to_json(const char *text, size_t len, char **ret, char *error, size_t error_size)
{
    struct fy_diag_cfg diag_config;
    struct fy_parse_cfg config = {.flags = FYPCF_DEFAULT_DOC};
    struct convert c = {.error = error, .error_size = error_size};
    struct fy_document *doc;
    size_t out_len;

    fy_diag_cfg_default(&diag_config);
    diag_config.fp = NULL;
    config.diag = fy_diag_create(&diag_config);
    fy_diag_set_collect_errors(config.diag, true);
    doc = fy_document_build_from_string(&config, text, len);
    if (doc == NULL) {
        first_diagnostic(config.diag, error, error_size);
        fy_diag_destroy(config.diag);
        return false;
    }
    buf_init(&c.out, DOCUMENT_MAX);
    node_to_json(&c, fy_document_root(doc), 0);
    if (!c.failed && c.out.overflow)
        fail(&c, NULL, "grows beyond 4 MiB");
    fy_document_destroy(doc);
    fy_diag_destroy(config.diag);
    if (c.failed) {
        buf_deinit(&c.out);
        return false;
    }
    *ret = buf_take(&c.out, &out_len);
    return true;
}

char *read_document(const char *path, size_t *ret_len)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    struct buf content;
    char chunk[65536];
    size_t n;
    bool bad;

    if (file == NULL) {
        fprintf(stderr, "ropewalk: cannot open '%s': %s\n", path, strerror(errno));
        return NULL;
    }
    buf_init(&content, DOCUMENT_MAX);
    while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0)
        buf_append(&content, chunk, n);
    bad = ferror(file) != 0;
    if (file != stdin)
        (void)fclose(file);
    if (bad || content.overflow) {
        fprintf(stderr, "ropewalk: cannot read '%s': %s\n", path,
                content.overflow ? "it is larger than 4 MiB" : strerror(errno));
        buf_deinit(&content);
        return NULL;
    }
    if (content.ptr == NULL)
        buf_append_str(&content, STR(""));
    *ret_len = content.len;
    return content.len == 0 ? mem_strdup("") : buf_take(&content, ret_len);
}
