/* multipart/form-data of a stranger. The first line is the Content-Type, behind it the body: what is read is JSON
 * within its bound. And the other way: fields of any bytes, put together, are read as they were, or refused as no text.
 */
#include "common/base/digest.h"
#include "common/base/ensure.h"
#include "common/webhook/form_fields.h"
#include "common/webhook/multipart.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BOUNDARY "the=boundary"
#define TYPE "multipart/form-data; boundary=\"" BOUNDARY "\""

static enum multipart_verdict read_it(struct str type, struct str body, struct arena *arena, struct str *ret)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    const char *fault = NULL;
    enum multipart_verdict verdict;
    struct err err = {0};
    struct jw w;

    buf_init(&out, body.len * 6 + 4096);
    w = jw_to(&out);
    verdict = multipart_to_json(type, body, arena, &w, &fault);
    ENSURE((verdict == MULTIPART_READ) == (fault == NULL));
    if (verdict == MULTIPART_READ)
        ENSURE(!out.overflow && jt_check(buf_str(&out), &JT_LIMITS_MESSAGE, &err) == ERR_OK);
    *ret = str_arena(arena, buf_str(&out));
    return verdict;
}

/* Values end at NUL, an even one is a field, an odd one a file; all have one name. */
static void there_and_back(struct str rest, struct arena *arena)
{
    struct buf body, wanted;
    struct str json;
    size_t count = 0, files = 0;
    bool text = true, small = true;
    struct jw w;

    buf_init(&body, rest.len * 200 + 4096);
    buf_init(&wanted, rest.len * 200 + 4096);
    w = jw_to(&wanted);
    jw_obj(&w);
    jw_key(&w, "n");
    jw_arr(&w);
    while (rest.len > 0) {
        CLEANUP(buf_deinit) struct buf base64 = {0};
        struct str value = str_cut(&rest, '\0');

        if (memmem(value.ptr, value.len, BOUNDARY, strlen(BOUNDARY)) != NULL)
            break;
        buf_printf(&body, "--" BOUNDARY "\r\nContent-Disposition: form-data; name=n%s\r\n\r\n",
                   count % 2 == 1 ? "; filename=f" : "");
        buf_append_str(&body, value);
        buf_append_str(&body, STR("\r\n"));
        if (count++ % 2 == 0) {
            text = text && form_is_text(value);
            jw_str(&w, value);
            continue;
        }
        files += value.len;
        small = small && value.len <= MULTIPART_FILE_MAX && files <= MULTIPART_FILES_MAX;
        buf_init(&base64, value.len * 2 + 8);
        encoding_write(ENCODING_BASE64, value, &base64);
        jw_obj(&w);
        jw_kcstr(&w, "name", "f");
        jw_kcstr(&w, "type", NULL);
        jw_kstr(&w, "base64", base64.len == 0 ? STR("") : buf_str(&base64));
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    jw_end_obj(&w);
    buf_append_str(&body, STR("--" BOUNDARY "--"));
    ENSURE(!body.overflow && !wanted.overflow);
    if (read_it(STR(TYPE), buf_str(&body), arena, &json) != MULTIPART_READ)
        ENSURE(!text || !small || count > FORM_FIELDS_MAX);
    else if (count > 1)
        ENSURE(str_eq(json, buf_str(&wanted)));
    buf_deinit(&body);
    buf_deinit(&wanted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str body = {(const char *)data, size}, json;
    struct arena *arena = arena_new(1024);
    struct str type = str_cut(&body, '\n');

    read_it(type, body.ptr == NULL ? STR("") : body, arena, &json);
    there_and_back((struct str){(const char *)data, size}, arena);
    arena_free(arena);
    return 0;
}
