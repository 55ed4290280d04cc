/* Any bytes as YAML: what comes out is JSON, the same text comes out again, JSON goes through unchanged in meaning, and
 * lines lie within the text. First line: a JSON Pointer to ask the line of. */
#include "cli/yaml.h"
#include "common/base/ensure.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct jt_limits limits = {.max_bytes = YAML_MAX_BYTES, .max_depth = 300};

static void check_line(struct str text, struct str pointer)
{
    int line = yaml_line(text, pointer);
    int lines = 1;

    for (size_t i = 0; i < text.len; i++)
        lines += text.ptr[i] == '\n' || text.ptr[i] == '\r' ? 1 : 0;
    /* NEL, LS and PS are line ends for YAML 1.1 only; the parser counts its own. */
    ENSURE(line >= 0 && line <= lines + 1);
}

/* Written as YAML it is read back as the same. */
static void check_written(struct str json)
{
    CLEANUP(buf_deinit) struct buf yaml = {0};
    CLEANUP(buf_deinit) struct buf read = {0};
    struct err err;

    buf_init(&yaml, (size_t)8 << 20);
    buf_init(&read, (size_t)8 << 20);
    yaml_from_json(json, &yaml);
    if (yaml.overflow)
        return;
    ENSURE(yaml_to_json(buf_str(&yaml), &read, &err) == ERR_OK);
    ENSURE(str_eq(json, buf_str(&read)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    CLEANUP(buf_deinit) struct buf again = {0};
    struct str text = {size == 0 ? "" : (const char *)data, size};
    struct str rest = text;
    struct str pointer = str_cut(&rest, '\n');
    struct err err;

    buf_init(&out, (size_t)1 << 20);
    buf_init(&again, (size_t)1 << 20);
    check_line(text, pointer);
    if (yaml_to_json(text, &out, &err) != ERR_OK) {
        ENSURE(err.message[0] != '\0');
        return 0;
    }
    ENSURE(jt_check(buf_str(&out), &limits, &err) == ERR_OK);
    /* What was made is JSON that means the same as YAML: but a YAML text holds fewer levels. */
    if (yaml_to_json(buf_str(&out), &again, &err) == ERR_OK)
        ENSURE(str_eq(buf_str(&out), buf_str(&again)));
    check_written(buf_str(&out));
    return 0;
}
