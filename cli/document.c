/* See document.h. */
#include "cli/document.h"
#include "cli/yaml.h"
#include "proto/proto_messages.h"

#include "common/base/banned.h"

struct report {
    const struct source *source;
    const char *below; /* JSON Pointer of what is looked at */
    size_t count;
};

static void on_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    struct report *report = ctx;
    CLEANUP(buf_deinit) struct buf place = {0};
    const struct source *source = report->source;
    int line;

    buf_init(&place, 1 << 16);
    buf_printf(&place, "%s" STR_FMT, report->below, STR_ARG(pointer));
    line = yaml_line((struct str){source->text, source->len}, buf_str(&place));
    report->count++;
    (void)fputs("ropewalk: ", stderr);
    print_clean(stderr, source->path);
    if (line > 0)
        fprintf(stderr, ":%d", line);
    (void)fputs(": ", stderr);
    print_clean(stderr, place.len == 0 ? "/" : place.ptr);
    (void)fputs(": ", stderr);
    print_clean(stderr, message);
    fprintf(stderr, " (%s)\n", code);
    if (hint != NULL && *hint != '\0') {
        (void)fputs("    ", stderr);
        print_clean(stderr, hint);
        (void)fputc('\n', stderr);
    }
}

/* Its shape and its input schema; then, when these are well, its graph. */
static bool check(struct document *d)
{
    struct plan_faults faults = {.arena = d->arena};
    struct report report = {.source = &d->source, .below = ""};
    struct str schema = jt_get(d->source.json, "input_schema");
    struct schema_options options = {.name = "input_schema"};
    struct err err = {.code = ERR_OK};

    if (schema_check(&SCHEMA_WORKFLOW, d->source.json, on_fault, &report, &err) != ERR_OK && report.count == 0)
        on_fault(&report, "wrong_type", STR(""), err.message, "");
    report.below = "/input_schema";
    if (jt_type(schema) != JT_NONE)
        d->input_schema = schema_compile(d->arena, schema, &options, on_fault, &report);
    report.below = "";
    if (report.count > 0)
        return false;
    d->plan = plan_compile(d->source.json, &PLAN_LIMITS_DEFAULT, &faults);
    for (size_t i = 0; i < faults.count; i++)
        on_fault(&report, faults.items[i].code, faults.items[i].pointer,
                 arena_dup(d->arena, faults.items[i].message.ptr, faults.items[i].message.len),
                 faults.items[i].hint.ptr == NULL
                     ? ""
                     : arena_dup(d->arena, faults.items[i].hint.ptr, faults.items[i].hint.len));
    return d->plan != NULL;
}

bool document_load(const char *path, struct document *ret)
{
    struct source source;

    *ret = (struct document){0};
    return source_load(path, &source) && document_from(&source, ret);
}

bool document_from(const struct source *source, struct document *ret)
{
    *ret = (struct document){.source = *source};
    ret->arena = arena_new(4096);
    if (check(ret) && jt_string(jt_get(ret->source.json, "name"), ret->arena, &ret->name))
        return true;
    document_deinit(ret);
    return false;
}

struct plan *document_compile(struct str text)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    struct plan_faults faults = {.arena = arena};

    return plan_compile(text, &PLAN_LIMITS_DEFAULT, &faults);
}

void document_deinit(struct document *document)
{
    plan_unref(document->plan);
    if (document->source.path != NULL)
        source_deinit(&document->source);
    if (document->arena != NULL)
        arena_free(document->arena);
    *document = (struct document){0};
}
