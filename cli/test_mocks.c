/* Mocks: what a case says that calls answer. A mock is found by the step's path (each[3].go), or by the path without
 * indexes (each.go); of a child run's step by workflow/path. */
#include "cli/test_file.h"

#include "common/base/http_status.h"
#include "common/base/banned.h"

#define ANSWER_FIELDS "output status headers body error takes expect_with"

/* What a worker says of calls that get no answer. */
static const struct known_error {
    const char *code, *class, *message;
    bool sent;
} known_errors[] = {
    {"timeout", "transient", "no complete answer in time", true},
    {"connection_lost", "transient", "the connection ended without an answer", true},
    {"connect", "transient", "connection refused", false},
    {"dns", "transient", "the name could not be resolved", false},
    {"tls", "permanent", "the certificate was refused", false},
    {"too_large", "permanent", "the answer's body is longer than the step allows", true},
    {"worker_lost", "transient", "", true},
};
#define KNOWN_COUNT (sizeof(known_errors) / sizeof(known_errors[0]))

static const struct known_error *known_error(struct str code)
{
    for (size_t i = 0; i < KNOWN_COUNT; i++) {
        if (str_is(code, known_errors[i].code))
            return &known_errors[i];
    }
    return NULL;
}

/* ---- shape ---- */

static void check_error(struct test_file *file, struct str error, const char *pointer)
{
    struct str text;

    if (jt_type(error) == JT_STRING) {
        if (!jt_string(error, file->arena, &text) || known_error(text) == NULL)
            test_file_fault(file, pointer,
                            "as a text it is timeout, connection_lost, connect, dns, tls, too_large or worker_lost");
        return;
    }
    if (!test_fields(file, error, "code class message sent answered", pointer))
        return;
    if (!jt_string(jt_get(error, "code"), file->arena, &text) || text.len == 0)
        test_file_fault(file, pointer, "needs a code");
    text = jt_get(error, "class");
    if (text.ptr != NULL && !str_is(text, "\"transient\"") && !str_is(text, "\"permanent\""))
        test_file_fault(file, test_below(file->arena, pointer, STR("class")), "must be transient or permanent");
}

static void check_answer(struct test_file *file, struct str answer, const char *pointer)
{
    struct str status = jt_get(answer, "status");
    int64_t number = 0, us;
    int ways;

    if (!test_fields(file, answer, ANSWER_FIELDS, pointer))
        return;
    ways = (status.ptr != NULL) + (jt_get(answer, "output").ptr != NULL) + (jt_get(answer, "error").ptr != NULL);
    if (ways != 1)
        test_file_fault(file, pointer, "needs one of output, status (of an http answer) and error");
    if (status.ptr == NULL && (jt_get(answer, "headers").ptr != NULL || jt_get(answer, "body").ptr != NULL))
        test_file_fault(file, pointer, "headers and body go with a status");
    if (status.ptr != NULL && (!jt_i64(status, &number) || number < 200 || number > 599 || number / 100 == 3))
        test_file_fault(file, test_below(file->arena, pointer, STR("status")),
                        "must be 200 to 299 or 400 to 599; redirects are the worker's to follow");
    if (jt_get(answer, "error").ptr != NULL)
        check_error(file, jt_get(answer, "error"), test_below(file->arena, pointer, STR("error")));
    (void)test_duration(file, answer, "takes", pointer, &us);
}

static void check_answers(struct test_file *file, struct str list, const char *pointer)
{
    struct jt_iter it;

    jt_iter_init(&it, list);
    while (jt_next(&it))
        check_answer(file, it.value, arena_printf(file->arena, "%s/%zu", pointer, it.index));
}

static bool is_sequence(struct str mock)
{
    return jt_get(mock, "attempts").ptr != NULL || jt_get(mock, "default").ptr != NULL;
}

/* The step of "each[3].go", "charge:compensate" or ":notify" as far as the workflow itself has it. */
static bool names_a_step(const struct document *document, struct str path)
{
    size_t len = 0;

    if (str_is(path, ":notify"))
        return document->plan->notify != NO_NODE;
    while (len < path.len && strchr(".[:", path.ptr[len]) == NULL)
        len++;
    return plan_find(document->plan, (struct str){path.ptr, len}) != NO_NODE;
}

static bool names_any(const struct test_file *file, struct str key)
{
    const char *slash = memchr(key.ptr, '/', key.len);
    struct str path = key, workflow = STR_NONE;

    if (slash != NULL) {
        workflow = (struct str){key.ptr, (size_t)(slash - key.ptr)};
        path = (struct str){slash + 1, key.len - workflow.len - 1};
    }
    for (size_t i = 0; i < file->document_count; i++) {
        if (slash == NULL ? i == 0 : str_eq(file->documents[i].name, workflow))
            return names_a_step(&file->documents[i], path);
    }
    return file->document_count == 0; /* that it is missing has been told */
}

void test_check_mocks(struct test_file *file, struct str mocks, const char *pointer)
{
    struct jt_iter it;

    if (jt_type(mocks) != JT_OBJECT) {
        test_file_fault(file, pointer, "must be an object from steps to answers");
        return;
    }
    jt_iter_init(&it, mocks);
    while (jt_next(&it)) {
        const char *at = test_below(file->arena, pointer, it.key);

        if (!names_any(file, it.key))
            test_file_fault(file, at, "there is no such step");
        if (jt_type(it.value) == JT_ARRAY) {
            check_answers(file, it.value, at);
        } else if (is_sequence(it.value)) {
            if (test_fields(file, it.value, "attempts default", at))
                check_answers(file, jt_get(it.value, "attempts"), test_below(file->arena, at, STR("attempts")));
            if (jt_get(it.value, "default").ptr != NULL)
                check_answer(file, jt_get(it.value, "default"), test_below(file->arena, at, STR("default")));
        } else {
            check_answer(file, it.value, at);
        }
    }
}

/* ---- answers ---- */

static struct str without_indexes(struct arena *arena, struct str path)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    bool inside = false;

    buf_init(&out, path.len + 1);
    for (size_t i = 0; i < path.len; i++) {
        inside = inside || path.ptr[i] == '[';
        if (!inside)
            buf_append_char(&out, path.ptr[i]);
        inside = inside && path.ptr[i] != ']';
    }
    return str_arena(arena, buf_str(&out));
}

static struct str full_path(const struct test_case *test, const struct rehearsed *run, struct str path)
{
    if (run->parent == NULL)
        return path;
    return str_of(arena_printf(test->arena, STR_FMT "/" STR_FMT, STR_ARG(run->document->name), STR_ARG(path)));
}

static struct str find_mock(const struct test_case *test, struct str path, const char **ret_pointer)
{
    const struct {
        struct str mocks;
        const char *pointer;
    } places[] = {{jt_get(test->json, "mocks"), test_below(test->arena, test->pointer, STR("mocks"))},
                  {test->file->mocks, "/mocks"}};
    struct str keys[] = {path, without_indexes(test->arena, path)};

    for (size_t p = 0; p < 2; p++) {
        for (size_t k = 0; k < 2; k++) {
            struct str mock = jt_get_str(places[p].mocks, keys[k]);

            if (mock.ptr == NULL)
                continue;
            *ret_pointer = test_below(test->arena, places[p].pointer, keys[k]);
            return mock;
        }
    }
    return STR_NONE;
}

/* Of a mock, what answers call `number` (from 0). */
static struct str pick(const struct test_case *test, struct str mock, size_t number, const char **pointer)
{
    struct str list = jt_type(mock) == JT_ARRAY ? mock : jt_get(mock, "attempts");
    struct str answer = jt_type(list) == JT_ARRAY ? jt_at(list, number) : STR_NONE;

    if (answer.ptr != NULL) {
        *pointer =
            arena_printf(test->arena, "%s%s/%zu", *pointer, jt_type(mock) == JT_ARRAY ? "" : "/attempts", number);
        return answer;
    }
    if (jt_type(mock) == JT_ARRAY)
        return STR_NONE;
    if (!is_sequence(mock))
        return mock;
    *pointer = test_below(test->arena, *pointer, STR("default"));
    return jt_get(mock, "default");
}

/* As the worker writes it: {"status", "headers", "body"}. */
static struct str http_output(const struct test_case *test, struct str answer)
{
    struct str headers = jt_get(answer, "headers"), body = jt_get(answer, "body");

    return str_of(arena_printf(test->arena, "{\"status\":" STR_FMT ",\"headers\":" STR_FMT ",\"body\":" STR_FMT "}",
                               STR_ARG(jt_get(answer, "status")), STR_ARG(headers.ptr == NULL ? STR("{}") : headers),
                               STR_ARG(body.ptr == NULL ? STR("null") : body)));
}

static void http_answer(const struct test_case *test, struct str answer, struct rehearsal_answer *ret)
{
    struct str after = jt_get(jt_get(answer, "headers"), "retry-after"), text = after;
    int64_t status = 0;
    uint32_t seconds;

    (void)jt_i64(jt_get(answer, "status"), &status);
    ret->sent = ret->answered = true;
    if (status < 300) {
        ret->output = http_output(test, answer);
        return;
    }
    ret->end = END_FAILED;
    ret->http_status = (int32_t)status;
    ret->code = str_of(arena_printf(test->arena, "http_%d", (int)status));
    ret->error_class = http_status_is_transient(status) ? STR("transient") : STR("permanent");
    ret->message = str_of(arena_printf(test->arena, "the answer's status was %d", (int)status));
    ret->detail = http_output(test, answer);
    (void)jt_string(after, test->arena, &text);
    if (after.ptr != NULL && parse_u32(text, 0, 366 * 86400, &seconds))
        ret->retry_after_us = (int64_t)seconds * US_PER_S;
}

static void error_answer(const struct test_case *test, struct str error, struct rehearsal_answer *ret)
{
    const struct known_error *known;
    struct str text = STR_NONE;

    ret->end = END_FAILED;
    ret->error_class = STR("permanent");
    ret->message = STR("");
    ret->sent = true;
    (void)jt_string(jt_type(error) == JT_STRING ? error : jt_get(error, "code"), test->arena, &ret->code);
    known = known_error(ret->code);
    if (known != NULL) {
        ret->end = strcmp(known->code, "worker_lost") == 0 ? END_LOST : END_FAILED;
        ret->error_class = str_of(known->class);
        ret->message = str_of(known->message);
        ret->sent = known->sent;
    }
    if (jt_string(jt_get(error, "class"), test->arena, &text))
        ret->error_class = text;
    if (jt_string(jt_get(error, "message"), test->arena, &text))
        ret->message = text;
    (void)jt_bool(jt_get(error, "sent"), &ret->sent);
    (void)jt_bool(jt_get(error, "answered"), &ret->answered);
}

static size_t count_call(struct test_case *test, struct str path)
{
    size_t *count = map_get(test->calls, path);

    if (count == NULL) {
        count = arena_alloc(test->arena, sizeof(*count));
        (void)map_put(test->calls, path, count);
    }
    return (*count)++;
}

static void not_mocked(struct test_case *test, const struct rehearsal_call *call, struct str path, size_t number,
                       struct str mock)
{
    const char *what = call->workflow.ptr != NULL
                           ? arena_printf(test->arena, "starts the workflow '" STR_FMT "'", STR_ARG(call->workflow))
                           : arena_printf(test->arena, "calls " STR_FMT, STR_ARG(call->step->task));
    const char *missing =
        mock.ptr == NULL
            ? (call->workflow.ptr != NULL ? "has no mock, and 'workflows' does not list its file" : "has no mock")
            : arena_printf(test->arena, "its mock has no answer number %zu", number + 1);

    test_fault_text(test, str_of(test_below(test->arena, test_below(test->arena, test->pointer, STR("mocks")), path)),
                    "an answer",
                    arena_printf(test->arena, "the step %s: %s; it is given " STR_FMT, what, missing,
                                 STR_ARG(utf8_prefix(call->with, 2000))));
}

bool test_answer(void *ctx, const struct rehearsal_call *call, struct rehearsal_answer *ret)
{
    struct test_case *test = ctx;
    struct str path = full_path(test, call->run, call->path);
    size_t number = count_call(test, path);
    const char *pointer = "";
    struct str mock = find_mock(test, path, &pointer);
    struct str answer = mock.ptr == NULL ? STR_NONE : pick(test, mock, number, &pointer);
    struct str text;

    *ret = (struct rehearsal_answer){.end = END_SUCCEEDED};
    if (mock.ptr == NULL && str_is(call->step->task, "noop"))
        return true; /* what it does anywhere */
    if (answer.ptr == NULL) {
        not_mocked(test, call, path, number, mock);
        return false;
    }
    if (jt_get(answer, "expect_with").ptr != NULL)
        test_match(test, str_of(test_below(test->arena, pointer, STR("expect_with"))), jt_get(answer, "expect_with"),
                   call->with, false);
    if (jt_string(jt_get(answer, "takes"), test->arena, &text))
        (void)duration_parse(text, &ret->takes_us);
    if (jt_get(answer, "status").ptr != NULL)
        http_answer(test, answer, ret);
    else if (jt_get(answer, "error").ptr != NULL)
        error_answer(test, jt_get(answer, "error"), ret);
    else
        ret->output = jt_get(answer, "output");
    return true;
}

const struct document *test_child(void *ctx, const struct rehearsal_call *call)
{
    const struct test_case *test = ctx;
    const char *pointer = "";

    if (find_mock(test, full_path(test, call->run, call->path), &pointer).ptr != NULL)
        return NULL;
    for (size_t i = 0; i < test->file->document_count; i++) {
        if (str_eq(test->file->documents[i].name, call->workflow))
            return &test->file->documents[i];
    }
    return NULL;
}
