/* What comes from outside to a worker: a task or control message, the `with` of an http step, an answer's header lines
 * and body, Retry-After. The first byte says which. */
#include "common/io/retry_after.h"
#include "worker/http_output.h"
#include "worker/http_request.h"
#include "worker/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_task(struct str text, struct arena *arena)
{
    struct task task;
    struct err err = {0};

    if (task_decode(text, arena, &task, &err) == ERR_OK && (task.task_id.len == 0 || task.reply_to.len == 0))
        __builtin_trap();
}

static void fuzz_request(struct str text, struct arena *arena)
{
    struct http_request_spec spec;
    struct err err = {0};

    if (jt_check(text, &JT_LIMITS_MESSAGE, &err) != ERR_OK || http_request_read(text, arena, &spec, &err) != ERR_OK)
        return;
    /* whatever was taken must not be able to end a line */
    for (size_t i = 0; i < spec.field_count; i++)
        if (strpbrk(spec.fields[i].name.ptr, "\r\n: ") != NULL || strpbrk(spec.fields[i].value.ptr, "\r\n") != NULL ||
            strlen(spec.fields[i].value.ptr) != spec.fields[i].value.len)
            __builtin_trap();
    if (strpbrk(spec.url.ptr, "\r\n ") != NULL || strpbrk(spec.method.ptr, "\r\n ") != NULL)
        __builtin_trap();
}

static void fuzz_answer(struct str text)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct http_headers headers;
    struct err err = {0};

    buf_init(&out, (size_t)64 << 20);
    http_headers_init(&headers);
    while (text.len > 0 && text.ptr[0] != '\0')
        http_headers_add(&headers, str_cut(&text, '\n'));
    http_output_write(&out, 200, &headers, text, 100);
    if (jt_check(buf_str(&out), &JT_LIMITS_MESSAGE, &err) != ERR_OK)
        __builtin_trap();
    http_headers_deinit(&headers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena;
    struct control control;
    struct err err = {0};
    struct str text;

    if (size == 0)
        return 0;
    text = (struct str){(const char *)data + 1, size - 1};
    arena = arena_new(1024);
    switch (data[0]) {
    case 'g':
        if (control_decode(STR("grant"), text, arena, &control, &err) == ERR_OK && control.task_id.len == 0)
            __builtin_trap();
        break;
    case 'h':
        fuzz_request(text, arena);
        break;
    case 'a':
        fuzz_answer(text);
        break;
    case 'r':
        if (http_retry_after_ms(text, (struct wall_us){INT64_C(1800000000000000)}) < -1)
            __builtin_trap();
        break;
    default:
        fuzz_task(text, arena);
        break;
    }
    arena_free(arena);
    return 0;
}
