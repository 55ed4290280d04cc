#include "cli/yaml.h"
#include "cli/yaml_scalar.h"
#include "common/base/json_text.h"
#include <libfyaml.h>

#include "common/base/banned.h"

#define DEPTH_MAX 128

struct convert {
    struct buf *out;
    struct err *err;
    enum err_code rc;
};

/* A node's place: of its first scalar, since collections have no token of their own. */
static int line_of(struct fy_node *node)
{
    for (int guard = 0; node != NULL && guard < DEPTH_MAX; guard++) {
        const struct fy_mark *mark;
        void *iter = NULL;

        if (fy_node_is_scalar(node)) {
            struct fy_token *token = fy_node_get_scalar_token(node);

            mark = token == NULL ? NULL : fy_token_start_mark(token);
            return mark == NULL ? 0 : mark->line + 1;
        }
        if (fy_node_is_mapping(node)) {
            struct fy_node_pair *pair = fy_node_mapping_iterate(node, &iter);

            node = pair == NULL ? NULL : fy_node_pair_key(pair);
        } else {
            node = fy_node_sequence_iterate(node, &iter);
        }
    }
    return 0;
}

static void fail(struct convert *c, struct fy_node *node, const char *what)
{
    int line = line_of(node);

    if (c->rc != ERR_OK)
        return;
    if (line > 0)
        c->rc = err_set(c->err, ERR_SYNTAX, "line %d: %s", line, what);
    else
        c->rc = err_set(c->err, ERR_SYNTAX, "%s", what);
}

/* What an explicit tag makes of a node: of the core schema only those that say what is there anyway, and !!str. */
enum tag { TAG_NONE, TAG_STR, TAG_PLAIN, TAG_MAP, TAG_SEQ, TAG_OTHER };

static enum tag tag_of(struct fy_node *node)
{
    static const struct {
        const char *name;
        enum tag tag;
    } tags[] = {{"tag:yaml.org,2002:str", TAG_STR},    {"!", TAG_STR},
                {"tag:yaml.org,2002:int", TAG_PLAIN},  {"tag:yaml.org,2002:float", TAG_PLAIN},
                {"tag:yaml.org,2002:bool", TAG_PLAIN}, {"tag:yaml.org,2002:null", TAG_PLAIN},
                {"tag:yaml.org,2002:map", TAG_MAP},    {"tag:yaml.org,2002:seq", TAG_SEQ}};
    size_t len = 0;
    const char *text = fy_node_get_tag(node, &len);

    if (text == NULL || len == 0)
        return TAG_NONE;
    for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
        if (str_is((struct str){text, len}, tags[i].name))
            return tags[i].tag;
    }
    return TAG_OTHER;
}

static struct str scalar_text(struct fy_node *node)
{
    size_t len = 0;
    const char *text = fy_node_get_scalar(node, &len);

    return text == NULL ? STR("") : (struct str){text, len};
}

static void scalar(struct convert *c, struct fy_node *node, enum tag tag)
{
    bool plain = fy_node_get_style(node) == FYNS_PLAIN;
    const char *fault = NULL;

    if (tag == TAG_PLAIN || (plain && tag == TAG_NONE))
        fault = yaml_plain_scalar(scalar_text(node), c->out);
    else
        json_quote(c->out, scalar_text(node));
    if (fault != NULL)
        fail(c, node, fault);
}

static void node_to_json(struct convert *c, struct fy_node *node, unsigned depth);

static void mapping(struct convert *c, struct fy_node *node, unsigned depth)
{
    struct fy_node_pair *pair;
    void *iter = NULL;
    bool first = true;

    buf_append_char(c->out, '{');
    while (c->rc == ERR_OK && (pair = fy_node_mapping_iterate(node, &iter)) != NULL) {
        struct fy_node *key = fy_node_pair_key(pair);

        if (key != NULL && fy_node_is_alias(key))
            key = fy_node_resolve_alias(key);
        if (key == NULL || !fy_node_is_scalar(key)) {
            fail(c, key == NULL ? node : key, "a key must be a text");
            return;
        }
        if (!first)
            buf_append_char(c->out, ',');
        first = false;
        json_quote(c->out, scalar_text(key));
        buf_append_char(c->out, ':');
        node_to_json(c, fy_node_pair_value(pair), depth + 1);
    }
    buf_append_char(c->out, '}');
}

static void sequence(struct convert *c, struct fy_node *node, unsigned depth)
{
    struct fy_node *item;
    void *iter = NULL;
    bool first = true;

    buf_append_char(c->out, '[');
    while (c->rc == ERR_OK && (item = fy_node_sequence_iterate(node, &iter)) != NULL) {
        if (!first)
            buf_append_char(c->out, ',');
        first = false;
        node_to_json(c, item, depth + 1);
    }
    buf_append_char(c->out, ']');
}

static void node_to_json(struct convert *c, struct fy_node *node, unsigned depth)
{
    enum tag tag;

    if (node != NULL && fy_node_is_alias(node)) {
        struct fy_node *target = fy_node_resolve_alias(node);

        if (target == NULL) {
            fail(c, node, "names no anchor");
            return;
        }
        node = target;
    }
    if (node == NULL) {
        buf_append_str(c->out, STR("null"));
        return;
    }
    /* Aliases may refer to what they are part of, or multiply what they refer to: both end here. */
    if (depth > DEPTH_MAX || c->out->overflow) {
        fail(c, node, "is nested too deep, or grows beyond 4 MiB");
        return;
    }
    tag = tag_of(node);
    if (tag == TAG_OTHER || (tag == TAG_MAP && !fy_node_is_mapping(node)) ||
        (tag == TAG_SEQ && !fy_node_is_sequence(node)))
        fail(c, node, "only the tags of YAML's core schema are known");
    else if (fy_node_is_mapping(node))
        mapping(c, node, depth);
    else if (fy_node_is_sequence(node))
        sequence(c, node, depth);
    else
        scalar(c, node, tag);
}

/* One document and what is needed to read it. */
struct reader {
    struct fy_diag *diag;
    struct fy_parser *parser;
    struct fy_document *document;
};

static void reader_close(struct reader *r)
{
    if (r->document != NULL)
        fy_document_destroy(r->document);
    if (r->parser != NULL)
        fy_parser_destroy(r->parser);
    if (r->diag != NULL)
        fy_diag_destroy(r->diag);
}

static enum err_code syntax_error(const struct reader *r, struct err *err)
{
    void *iter = NULL;
    const struct fy_diag_error *e = fy_diag_errors_iterate(r->diag, &iter);

    if (e == NULL || e->msg == NULL)
        return err_set(err, ERR_SYNTAX, "is not YAML");
    return err_set(err, ERR_SYNTAX, "line %d: %s", e->line, e->msg);
}

static enum err_code reader_open(struct reader *r, struct str text, struct err *err)
{
    struct fy_diag_cfg diag;
    struct fy_parse_cfg config = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_DEFAULT_VERSION_1_2};
    struct fy_document *second;

    if (text.len > YAML_MAX_BYTES)
        return err_set(err, ERR_TOO_LARGE, "is longer than 4 MiB");
    /* The library takes a byte that is no UTF-8 or a NUL for the end of the text. */
    for (size_t i = 0; i < text.len;) {
        size_t len = text.ptr[i] == '\0' ? 0 : utf8_len_at(text.ptr + i, text.len - i);

        if (len == 0)
            return err_set(err, ERR_SYNTAX, "byte %zu is not UTF-8 text", i);
        i += len;
    }
    fy_diag_cfg_default(&diag);
    diag.fp = NULL;
    r->diag = fy_diag_create(&diag);
    config.diag = r->diag;
    if (r->diag != NULL)
        fy_diag_set_collect_errors(r->diag, true);
    r->parser = fy_parser_create(&config);
    if (r->diag == NULL || r->parser == NULL || fy_parser_set_string(r->parser, text.ptr, text.len) != 0)
        return err_set(err, ERR_INTERNAL, "the YAML parser cannot start");
    r->document = fy_parse_load_document(r->parser);
    if (r->document == NULL)
        return fy_parser_get_stream_error(r->parser) ? syntax_error(r, err) : err_set(err, ERR_SYNTAX, "is empty");
    second = fy_parse_load_document(r->parser);
    if (second != NULL) {
        int line = line_of(fy_document_root(second));

        fy_document_destroy(second);
        return err_set(err, ERR_SYNTAX, "line %d: a second document begins; one a file", line);
    }
    return fy_parser_get_stream_error(r->parser) ? syntax_error(r, err) : ERR_OK;
}

enum err_code yaml_to_json(struct str text, struct buf *out, struct err *err)
{
    struct convert c = {.out = out, .err = err};
    CLEANUP(reader_close) struct reader reader = {0};
    enum err_code rc = reader_open(&reader, text, err);

    if (rc != ERR_OK)
        return rc;
    node_to_json(&c, fy_document_root(reader.document), 0);
    if (c.rc == ERR_OK && out->overflow)
        fail(&c, NULL, "grows beyond 4 MiB");
    return c.rc;
}

/* The member of `node` that the next part of a pointer names, and the line where it begins. */
static struct fy_node *member(struct fy_node *node, struct str part, int *line)
{
    struct fy_node_pair *pair;
    void *iter = NULL;
    uint32_t index;

    if (fy_node_is_sequence(node)) {
        if (!parse_u32(part, 0, INT32_MAX, &index))
            return NULL;
        node = fy_node_sequence_get_by_index(node, (int)index);
        if (node != NULL && line_of(node) > 0)
            *line = line_of(node);
        return node;
    }
    while (fy_node_is_mapping(node) && (pair = fy_node_mapping_iterate(node, &iter)) != NULL) {
        struct fy_node *key = fy_node_pair_key(pair);

        if (key == NULL || !fy_node_is_scalar(key) || !str_eq(scalar_text(key), part))
            continue;
        *line = line_of(key);
        return fy_node_pair_value(pair);
    }
    return NULL;
}

int yaml_line(struct str text, struct str pointer)
{
    CLEANUP(reader_close) struct reader reader = {0};
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1024);
    struct fy_node *node;
    struct err err;
    int line;

    if (reader_open(&reader, text, &err) != ERR_OK)
        return 0;
    node = fy_document_root(reader.document);
    line = line_of(node);
    (void)str_cut(&pointer, '/');
    while (node != NULL && pointer.ptr != NULL) {
        struct str raw = str_cut(&pointer, '/');
        char *part = arena_dup(arena, raw.ptr, raw.len);
        size_t len = 0;

        for (size_t i = 0; i < raw.len; i++) {
            bool escape = raw.ptr[i] == '~' && i + 1 < raw.len;

            part[len++] = escape ? (raw.ptr[++i] == '1' ? '/' : '~') : raw.ptr[i];
        }
        if (fy_node_is_alias(node))
            node = fy_node_resolve_alias(node);
        if (node != NULL)
            node = member(node, (struct str){part, len}, &line);
    }
    return line;
}
