/* bad_documents.txt, each document with the exact codes and pointers of its faults, through the road of a save. */
#include "tests/unit/engine/saved.h"
#include <stdio.h>

#define DOCUMENTS_MIN 100
#define LINE_SIZE 4096

struct reader {
    FILE *file;
    char line[LINE_SIZE];
    char title[LINE_SIZE];
    struct buf text, faults;
    size_t documents, wrong;
};

/* A document that begins with a name is the inside of the steps of a workflow "x". */
static void check(struct reader *r)
{
    struct arena *arena = arena_new(1 << 14);
    struct str written = str_trim(buf_str(&r->text));
    struct str text = written;
    const char *faults;

    if (r->faults.len == 0)
        fail_msg("%s: no faults are listed", r->title);
    if (!str_starts(written, "{"))
        text = str_of(arena_printf(arena, "{\"name\": \"x\", \"steps\": {" STR_FMT "}}", STR_ARG(written)));
    faults = save(arena, str_arena(arena, text), &PLAN_LIMITS_DEFAULT, NULL);
    r->documents++;
    if (!str_is(buf_str(&r->faults), faults)) {
        r->wrong++;
        print_error("%s\n" STR_FMT "\nexpected:\n" STR_FMT "\ngot:\n%s\n\n", r->title, STR_ARG(written),
                    STR_ARG(buf_str(&r->faults)), faults);
    }
    arena_free(arena);
}

static void end_document(struct reader *r)
{
    if (r->text.len > 0)
        check(r);
    buf_reset(&r->text);
    buf_reset(&r->faults);
}

static void read_line(struct reader *r)
{
    struct str line = str_trim(str_of(r->line));

    if (str_starts(line, "#")) {
        end_document(r);
        (void)snprintf(r->title, sizeof(r->title), STR_FMT, STR_ARG(line));
    } else if (str_starts(line, "=> ")) {
        buf_append_str(&r->faults, r->faults.len == 0 ? STR("") : STR("\n"));
        buf_append_str(&r->faults, (struct str){line.ptr + 3, line.len - 3});
    } else {
        if (r->faults.len > 0)
            end_document(r);
        buf_append_str(&r->text, line);
    }
}

static void bad_documents_are_refused_with_code_and_pointer(void **state)
{
    struct reader r = {.file = fopen(BAD_DOCUMENTS, "r")};

    (void)state;
    assert_non_null(r.file);
    buf_init(&r.text, 1 << 20);
    buf_init(&r.faults, 1 << 16);
    while (fgets(r.line, sizeof(r.line), r.file) != NULL) {
        assert_true(strlen(r.line) < sizeof(r.line) - 1);
        read_line(&r);
    }
    end_document(&r);
    (void)fclose(r.file);
    buf_deinit(&r.text);
    buf_deinit(&r.faults);
    assert_int_equal(r.wrong, 0);
    if (r.documents < DOCUMENTS_MIN)
        fail_msg("only %zu documents", r.documents);
}

RUN(TEST(bad_documents_are_refused_with_code_and_pointer))
