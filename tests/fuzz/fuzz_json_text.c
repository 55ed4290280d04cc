/* Any bytes through checker, repair, reader and canonical form: what the checker takes must be readable, say the same
 * after each of them, and survive being written again. */
#include "common/base/ensure.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct jt_limits strict = {
    .max_bytes = 1 << 20, .max_depth = 40, .refuse_duplicates = true, .refuse_unstorable = true};
static const struct jt_limits loose = {.max_bytes = 1 << 20, .max_depth = 40};

/* Walks everything and writes it anew: what comes out has the same canonical form but for escapes and numbers. */
static void rewrite(struct str value, struct jw *w, struct arena *arena)
{
    struct jt_iter it;
    struct str s;
    double n;

    switch (jt_type(value)) {
    case JT_STRING:
        ENSURE(jt_string(value, arena, &s));
        jw_str(w, s);
        break;
    case JT_NUMBER:
        ENSURE(jt_f64(value, &n));
        jw_f64(w, n);
        break;
    case JT_ARRAY:
        jw_arr(w);
        jt_iter_init(&it, value);
        while (jt_next(&it))
            rewrite(it.value, w, arena);
        jw_end_arr(w);
        break;
    case JT_OBJECT:
        jw_obj(w);
        jt_iter_init(&it, value);
        while (jt_next(&it)) {
            struct str key = jt_key(&it, arena);

            ENSURE(jt_get_str(value, key).ptr == it.value.ptr);
            jw_key_str(w, key);
            rewrite(it.value, w, arena);
        }
        jw_end_obj(w);
        break;
    case JT_NULL:
    case JT_TRUE:
    case JT_FALSE:
        jw_raw(w, value);
        break;
    case JT_NONE:
        ENSURE(false);
    }
}

static void use(struct str text, struct arena *arena)
{
    CLEANUP(buf_deinit) struct buf canonical;
    CLEANUP(buf_deinit) struct buf again;
    CLEANUP(buf_deinit) struct buf written;
    CLEANUP(buf_deinit) struct buf rewritten;
    struct jw w;
    struct err err;
    int64_t i64;
    double f64;

    buf_init(&canonical, (size_t)1 << 20);
    buf_init(&again, (size_t)1 << 20);
    buf_init(&written, (size_t)8 << 20);
    buf_init(&rewritten, (size_t)8 << 20);
    jt_canonical(text, &canonical);
    ENSURE(jt_check(buf_str(&canonical), &strict, &err) == ERR_OK);
    jt_canonical(buf_str(&canonical), &again);
    ENSURE(str_eq(buf_str(&canonical), buf_str(&again)));
    w = jw_to(&written);
    rewrite(text, &w, arena);
    ENSURE(jt_check(buf_str(&written), &strict, &err) == ERR_OK);
    w = jw_to(&rewritten);
    rewrite(buf_str(&written), &w, arena);
    ENSURE(str_eq(buf_str(&written), buf_str(&rewritten)));
    if (jt_i64(text, &i64) && i64 > -(INT64_C(1) << 53) && i64 < INT64_C(1) << 53)
        ENSURE(jt_f64(text, &f64) && f64 == (double)i64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct str text = {(const char *)data, size};
    struct str repaired;
    struct err err;
    bool is_strict = jt_check(text, &strict, &err) == ERR_OK;
    bool is_loose = jt_check(text, &loose, &err) == ERR_OK;

    ENSURE(!is_strict || is_loose);
    if (is_strict)
        use(text, arena);
    if (jt_check_repair(arena, text, &strict, &repaired, &err) == ERR_OK) {
        ENSURE(is_loose);
        ENSURE(is_strict == (repaired.ptr == text.ptr));
        use(repaired, arena);
    } else {
        ENSURE(!is_strict);
    }
    return 0;
}
