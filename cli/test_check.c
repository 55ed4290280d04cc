/* The shape of a file of tests, and what it names. */
#include "cli/test_file.h"
#include "cli/yaml.h"

#include "common/base/banned.h"

void test_file_fault(struct test_file *file, const char *pointer, const char *format, ...)
{
    struct str text = {file->source.text, file->source.len};
    char message[600];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    fprintf(stderr, "ropewalk: %s:%d: ", file->source.path, yaml_line(text, str_of(pointer)));
    print_clean(stderr, *pointer == '\0' ? "/" : pointer);
    (void)fputs(": ", stderr);
    print_clean(stderr, message);
    (void)fputc('\n', stderr);
    file->faults++;
}

const char *test_below(struct arena *arena, const char *pointer, struct str key)
{
    CLEANUP(buf_deinit) struct buf out = {0};

    buf_init(&out, 1 << 16);
    buf_append_str(&out, str_of(pointer));
    jt_pointer_add(&out, key);
    return arena_dup(arena, out.ptr, out.len);
}

static bool is_among(struct str name, const char *words)
{
    struct str rest = str_of(words);

    while (rest.len > 0) {
        if (str_eq(str_cut(&rest, ' '), name))
            return true;
    }
    return false;
}

bool test_fields(struct test_file *file, struct str object, const char *fields, const char *pointer)
{
    size_t before = file->faults;
    struct jt_iter it;

    if (jt_type(object) != JT_OBJECT) {
        test_file_fault(file, pointer, "must be an object");
        return false;
    }
    jt_iter_init(&it, object);
    while (jt_next(&it)) {
        if (!is_among(it.key, fields))
            test_file_fault(file, test_below(file->arena, pointer, it.key), "unknown field; there are: %s", fields);
    }
    return file->faults == before;
}

bool test_duration(struct test_file *file, struct str object, const char *key, const char *pointer, int64_t *ret_us)
{
    struct str value = jt_get(object, key), text;

    if (value.ptr == NULL)
        return false;
    if (jt_string(value, file->arena, &text) && duration_parse(text, ret_us))
        return true;
    test_file_fault(file, test_below(file->arena, pointer, str_of(key)), "must be a duration such as \"5m\"");
    return false;
}

static void check_text(struct test_file *file, struct str object, const char *key, const char *pointer)
{
    struct str text;

    if (!jt_string(jt_get(object, key), file->arena, &text) || text.len == 0)
        test_file_fault(file, test_below(file->arena, pointer, str_of(key)), "must be a text, and be there");
}

static void check_wanted(struct test_file *file, struct str list, const char *fields, const char *texts,
                         const char *pointer)
{
    struct jt_iter it;

    if (list.ptr != NULL && jt_type(list) != JT_ARRAY)
        test_file_fault(file, pointer, "must be a list");
    jt_iter_init(&it, jt_type(list) == JT_ARRAY ? list : STR_NONE);
    while (jt_next(&it)) {
        const char *at = arena_printf(file->arena, "%s/%zu", pointer, it.index);
        struct str rest = str_of(texts);
        int64_t us;

        if (!test_fields(file, it.value, fields, at))
            continue;
        while (rest.len > 0) {
            struct str name = str_cut(&rest, ' ');

            check_text(file, it.value, arena_dup(file->arena, name.ptr, name.len), at);
        }
        (void)test_duration(file, it.value, "at", at, &us);
    }
}

static void check_settle(struct test_file *file, struct str list, const char *pointer)
{
    struct jt_iter it;

    check_wanted(file, list, "at step as output", "at step as", pointer);
    jt_iter_init(&it, jt_type(list) == JT_ARRAY ? list : STR_NONE);
    while (jt_next(&it)) {
        struct str as = jt_get(it.value, "as");

        if (as.ptr != NULL && !str_is(as, "\"succeeded\"") && !str_is(as, "\"failed\""))
            test_file_fault(file, arena_printf(file->arena, "%s/%zu/as", pointer, it.index),
                            "must be succeeded or failed");
    }
}

static void check_cancel(struct test_file *file, struct str cancel, const char *pointer)
{
    struct str compensate = jt_get(cancel, "compensate");
    int64_t us;

    if (cancel.ptr == NULL || !test_fields(file, cancel, "at compensate", pointer))
        return;
    check_text(file, cancel, "at", pointer);
    (void)test_duration(file, cancel, "at", pointer, &us);
    if (compensate.ptr != NULL && jt_type(compensate) != JT_TRUE && jt_type(compensate) != JT_FALSE)
        test_file_fault(file, test_below(file->arena, pointer, STR("compensate")), "must be true or false");
}

static void on_input_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    struct test_file *file = ctx;
    CLEANUP(buf_deinit) struct buf where = {0};

    (void)code;
    (void)hint;
    buf_init(&where, 1 << 16);
    buf_printf(&where, STR_FMT, STR_ARG(pointer));
    test_file_fault(file, "/cases", "an input is not what the workflow takes: %s: %s", where.len == 0 ? "/" : where.ptr,
                    message);
}

static void check_input(struct test_file *file, struct str test, const char *pointer)
{
    const struct schema *schema = file->document_count == 0 ? NULL : file->documents[0].input_schema;
    struct str input = jt_get(test, "input");
    struct err err;
    size_t before = file->faults;

    if (schema == NULL)
        return;
    if (schema_check(schema, input.ptr == NULL ? STR("{}") : input, on_input_fault, file, &err) != ERR_OK &&
        file->faults == before)
        test_file_fault(file, pointer, "the input is not what the workflow takes: %s", err.message);
}

static void check_case(struct test_file *file, struct str test, const char *pointer)
{
    struct arena *arena = file->arena;
    struct str now = jt_get(test, "now"), text;
    struct wall_us at;

    if (!test_fields(file, test, "name input now mocks signals events cancel settle expect", pointer))
        return;
    check_text(file, test, "name", pointer);
    check_input(file, test, pointer);
    if (now.ptr != NULL && (!jt_string(now, arena, &text) || !wall_parse(text, &at)))
        test_file_fault(file, test_below(arena, pointer, STR("now")),
                        "must be a time such as \"2026-01-01T00:00:00Z\"");
    if (jt_get(test, "mocks").ptr != NULL)
        test_check_mocks(file, jt_get(test, "mocks"), test_below(arena, pointer, STR("mocks")));
    check_wanted(file, jt_get(test, "signals"), "at name payload", "at name",
                 test_below(arena, pointer, STR("signals")));
    check_wanted(file, jt_get(test, "events"), "at type source id subject data", "at type",
                 test_below(arena, pointer, STR("events")));
    check_settle(file, jt_get(test, "settle"), test_below(arena, pointer, STR("settle")));
    check_cancel(file, jt_get(test, "cancel"), test_below(arena, pointer, STR("cancel")));
    test_check_expect(file, jt_get(test, "expect"), test_below(arena, pointer, STR("expect")));
}

static void check_cases(struct test_file *file)
{
    struct jt_iter it;

    file->cases = jt_get(file->source.json, "cases");
    if (jt_type(file->cases) != JT_ARRAY || jt_count(file->cases) == 0) {
        test_file_fault(file, "/cases", "must be a list of at least one case");
        return;
    }
    jt_iter_init(&it, file->cases);
    while (jt_next(&it))
        check_case(file, it.value, arena_printf(file->arena, "/cases/%zu", it.index));
}

/* Relative to the folder of the file of tests. */
static const char *beside(const struct test_file *file, struct str name)
{
    const char *slash = strrchr(file->source.path, '/');

    if (slash == NULL || name.ptr[0] == '/')
        return arena_dup(file->arena, name.ptr, name.len);
    return arena_printf(file->arena, "%.*s/" STR_FMT, (int)(slash - file->source.path), file->source.path,
                        STR_ARG(name));
}

static void load_document(struct test_file *file, struct str value, const char *pointer)
{
    struct str name;

    if (!jt_string(value, file->arena, &name) || name.len == 0) {
        test_file_fault(file, pointer, "must be the path of a workflow, from the folder of this file");
        return;
    }
    if (file->load(beside(file, name), &file->documents[file->document_count]))
        file->document_count++;
    else
        file->faults++;
}

static void load_documents(struct test_file *file)
{
    struct str others = jt_get(file->source.json, "workflows");
    struct jt_iter it;

    if (others.ptr != NULL && jt_type(others) != JT_ARRAY)
        test_file_fault(file, "/workflows", "must be a list of paths");
    file->documents = arena_array(file->arena, 1 + jt_count(others), sizeof(*file->documents));
    load_document(file, jt_get(file->source.json, "workflow"), "/workflow");
    jt_iter_init(&it, jt_type(others) == JT_ARRAY ? others : STR_NONE);
    while (jt_next(&it))
        load_document(file, it.value, arena_printf(file->arena, "/workflows/%zu", it.index));
}

bool test_file_load(const char *path, struct test_file *ret)
{
    struct source source;

    *ret = (struct test_file){0};
    return source_load(path, &source) && test_file_from(&source, document_load, ret);
}

bool test_file_from(const struct source *source, document_load_fn load, struct test_file *ret)
{
    *ret = (struct test_file){.source = *source, .load = load};
    ret->arena = arena_new(1 << 14);
    if (test_fields(ret, ret->source.json, "workflow workflows mocks cases", "")) {
        load_documents(ret);
        ret->mocks = jt_get(ret->source.json, "mocks");
        if (ret->mocks.ptr != NULL)
            test_check_mocks(ret, ret->mocks, "/mocks");
        check_cases(ret);
    }
    return ret->faults == 0;
}

void test_file_deinit(struct test_file *file)
{
    for (size_t i = 0; i < file->document_count; i++)
        document_deinit(&file->documents[i]);
    if (file->source.path != NULL)
        source_deinit(&file->source);
    if (file->arena != NULL)
        arena_free(file->arena);
    *file = (struct test_file){0};
}
