/* Queries and forms of a stranger: whatever is decoded is text, a form is JSON within its bound, and what is encoded
 * here is read as it was. */
#include "common/base/ensure.h"
#include "common/io/http_server.h"
#include "common/webhook/form.h"
#include "common/webhook/form_fields.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_form(struct str text, struct arena *arena)
{
    struct buf out;
    struct err err = {0};
    struct jw w;

    buf_init(&out, text.len * 6 + 4096);
    w = jw_to(&out);
    if (form_to_json(text, arena, &w))
        ENSURE(!out.overflow && jt_check(buf_str(&out), &JT_LIMITS_MESSAGE, &err) == ERR_OK);
    buf_reset(&out);
    form_write_sorted(text, arena, &out);
    ENSURE(out.len <= text.len);
    buf_deinit(&out);
}

static void as_query(struct str rest, struct arena *arena)
{
    while (rest.len > 0) {
        struct str value = str_cut(&rest, '&'), decoded;

        if (http_decode(arena, value, true, &decoded))
            ENSURE(decoded.len <= value.len && form_is_text((struct str){decoded.ptr, decoded.len}));
    }
}

static void there_and_back(struct str text, struct arena *arena)
{
    struct buf escaped, form, wanted;
    struct str decoded;
    struct jw w;

    buf_init(&escaped, text.len * 3 + 16);
    buf_init(&form, text.len * 6 + 4096);
    buf_init(&wanted, text.len * 6 + 4096);
    buf_append_str(&escaped, STR("n="));
    for (size_t i = 0; i < text.len; i++)
        buf_printf(&escaped, "%%%02x", (unsigned char)text.ptr[i]);
    struct str value = {escaped.ptr + 2, escaped.len - 2};

    ENSURE(http_decode(arena, value, true, &decoded) == form_is_text(text));
    ENSURE(!form_is_text(text) || str_eq(decoded, text));
    w = jw_to(&form);
    ENSURE(form_to_json(buf_str(&escaped), arena, &w) == form_is_text(text));
    if (form_is_text(text)) {
        w = jw_to(&wanted);
        jw_obj(&w);
        jw_kstr(&w, "n", text);
        jw_end_obj(&w);
        ENSURE(str_eq(buf_str(&form), buf_str(&wanted)));
    }
    buf_deinit(&escaped);
    buf_deinit(&form);
    buf_deinit(&wanted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {size == 0 ? "" : (const char *)data, size};
    struct arena *arena = arena_new(1024);

    as_form(text, arena);
    as_query(text, arena);
    there_and_back(text, arena);
    arena_free(arena);
    return 0;
}
