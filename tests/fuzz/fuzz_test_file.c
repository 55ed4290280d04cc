/* Any bytes as a file of tests for `ropewalk test`: it is refused with a reason, or each step that it may mock gets
 * what a case says, twice. Workflows are not read from files: whatever is named is one of the two below. */
#include "cli/test_file.h"
#include "common/base/ensure.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HTTP "\"call\":\"http\",\"with\":{\"url\":\"https://shop.example/\"}"
static const char order[] =
    "{\"name\":\"order\",\"input_schema\":{\"type\":\"object\",\"required\":[\"id\"]},\"steps\":{"
    "\"charge\":{" HTTP ",\"compensate\":{" HTTP "}},"
    "\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[1,2],\"steps\":{\"go\":{" HTTP "}}}},"
    "\"pack\":{\"call\":\"workflow\",\"with\":{\"name\":\"packing\"}},\"done\":{\"call\":\"noop\"}}}";
static const char packing[] = "{\"name\":\"packing\",\"steps\":{\"wrap\":{" HTTP "}}}";

static bool load(const char *path, struct document *ret)
{
    const char *text = strstr(path, "pack") != NULL ? packing : order;
    struct source source;

    return source_from("workflow", mem_dup(text, strlen(text)), strlen(text), &source) && document_from(&source, ret);
}

/* What is said of an answer is for a worker to have said. */
static void check_answer(struct test_case *test, const struct rehearsal_call *call)
{
    size_t faults = test->fault_count;
    struct rehearsal_answer answer;

    if (!test_answer(test, call, &answer)) {
        ENSURE(test->fault_count > faults);
        return;
    }
    ENSURE(answer.end != END_SUCCEEDED || answer.code.len == 0);
    ENSURE(answer.end == END_SUCCEEDED || answer.code.len > 0);
    ENSURE(answer.takes_us >= 0 && answer.retry_after_us >= 0);
}

static void answer_all(const struct test_file *file, struct str json, const char *pointer)
{
    const struct plan *plan = file->documents[0].plan;
    const struct rehearsed run = {.document = &file->documents[0]};
    struct test_case test = {.file = file, .arena = file->arena, .json = json, .pointer = pointer, .calls = map_new()};

    buf_init(&test.faults, (size_t)64 << 20);
    for (uint32_t i = 0; i < plan->step_count; i++) {
        struct rehearsal_call call = {.run = &run,
                                      .path = plan->steps[i].name,
                                      .step = &plan->steps[i],
                                      .with = STR("{\"url\":\"https://shop.example/\"}")};

        if (i >= plan->root_count) /* one of a loop's: as an item of it calls it */
            call.path = str_of(arena_printf(file->arena, "each[1]." STR_FMT, STR_ARG(plan->steps[i].name)));
        for (int attempt = 0; attempt < 2; attempt++)
            check_answer(&test, &call);
        (void)test_child(&test, &call);
    }
    buf_deinit(&test.faults);
    map_free(test.calls);
}

static void answer_cases(const struct test_file *file)
{
    struct jt_iter it;

    ENSURE(file->document_count > 0 && jt_count(file->cases) > 0);
    jt_iter_init(&it, file->cases);
    while (jt_next(&it))
        answer_all(file, it.value, arena_printf(file->arena, "/cases/%zu", it.index));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *nowhere;
    FILE *told = stderr;
    struct test_file file = {0};
    struct source source;

    if (nowhere == NULL)
        nowhere = fopen("/dev/null", "w");
    ENSURE(nowhere != NULL);
    stderr = nowhere; /* faults are for people: a million of them a minute would fill the disk */
    if (source_from("tests.yaml", mem_dup(size == 0 ? "" : (const char *)data, size), size, &source)) {
        if (test_file_from(&source, load, &file))
            answer_cases(&file);
        else
            ENSURE(file.faults > 0);
        test_file_deinit(&file);
    }
    stderr = told;
    return 0;
}
