/* Documents from files: JSON goes to the server byte for byte, YAML as the JSON that it stands for. */
#include "cli/cli.h"
#include "cli/yaml.h"
#include "common/base/json_text.h"
#include <errno.h>

#include "common/base/banned.h"

char *read_file(const char *path, size_t *ret_len)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    CLEANUP(buf_deinit) struct buf content = {0};
    char chunk[65536];
    size_t n;
    int failure = 0;

    if (file == NULL) {
        fprintf(stderr, "ropewalk: cannot open '%s': %s\n", path, strerror(errno));
        return NULL;
    }
    buf_init(&content, YAML_MAX_BYTES);
    while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0)
        buf_append(&content, chunk, n);
    if (ferror(file))
        failure = errno == 0 ? EIO : errno;
    if (file != stdin)
        (void)fclose(file);
    if (failure != 0 || content.overflow) {
        fprintf(stderr, "ropewalk: cannot read '%s': %s\n", path,
                content.overflow ? "it is longer than 4 MiB" : strerror(failure));
        return NULL;
    }
    *ret_len = content.len;
    return mem_dup(content.len == 0 ? "" : content.ptr, content.len);
}

/* JSON that the parser of JSON takes; everything else is YAML, which says where it is wrong by line. */
static bool is_json(struct str text)
{
    struct jt_limits limits = JT_LIMITS_API;
    struct err err;

    limits.max_bytes = YAML_MAX_BYTES;
    limits.refuse_unstorable = false;
    return jt_check(text, &limits, &err) == ERR_OK;
}

bool source_load(const char *path, struct source *ret)
{
    size_t len = 0;
    char *text = read_file(path, &len);

    *ret = (struct source){.path = path};
    return text != NULL && source_from(path, text, len, ret);
}

bool source_from(const char *path, char *text, size_t len, struct source *ret)
{
    struct err err;

    *ret = (struct source){.path = path, .text = text, .len = len, .json = {text, len}};
    if (is_json(ret->json))
        return true;
    buf_init(&ret->converted, YAML_MAX_BYTES);
    if (yaml_to_json(ret->json, &ret->converted, &err) != ERR_OK) {
        fprintf(stderr, "ropewalk: '%s': ", path);
        print_clean(stderr, err.message);
        (void)fputc('\n', stderr);
        source_deinit(ret);
        return false;
    }
    ret->json = buf_str(&ret->converted);
    return true;
}

void source_deinit(struct source *source)
{
    mem_free(source->text);
    buf_deinit(&source->converted);
    *source = (struct source){0};
}

bool take_value(const char *text, const char *what, struct source *file, struct str *ret)
{
    struct err err;

    *ret = str_trim(str_of(text));
    if (text[0] == '@') {
        if (!source_load(text + 1, file))
            return false;
        *ret = str_trim(file->json);
        return true;
    }
    if (jt_check(*ret, &JT_LIMITS_MESSAGE, &err) == ERR_OK)
        return true;
    (void)usage_error("%s is not JSON: %s; @FILE reads a file, and text is written '\"so\"'", what, err.message);
    return false;
}
