/* A child of the sandbox: reads requests from fd 0, evaluates them one after the other, and writes each answer before
 * it begins the next. By that the parent knows which program was running when a child ends. */
#include "common/expr/sandbox_child.h"
#include "common/expr/sandbox_wire.h"
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "common/base/banned.h"

#define EXIT_BAD_FRAME 71
/* After this much computing a child asks to be replaced: libjq leaks a little where a program fails. */
#define RECYCLE_CPU_SECONDS 60
#define INBOX_MAX (2 * (size_t)SANDBOX_FRAME_MAX)
#define KEPT_BYTES ((size_t)1 << 20)

static void write_all(const char *ptr, size_t len)
{
    while (len > 0) {
        ssize_t n = write(0, ptr, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(0); /* the parent is gone */
        ptr += n;
        len -= (size_t)n;
    }
}

/* Requests as they come: `at` is where the next begins in `bytes`. */
struct inbox {
    struct buf bytes;
    size_t at;
};

/* What has been served goes; room that only a large document needed, too. */
static void inbox_compact(struct inbox *in)
{
    buf_consume(&in->bytes, in->at);
    in->at = 0;
    if (in->bytes.len == 0 && in->bytes.cap > KEPT_BYTES) {
        buf_deinit(&in->bytes);
        buf_init(&in->bytes, INBOX_MAX);
    }
}

/* Reads until at least `need` bytes of the next request are here. */
static const char *inbox_read(struct inbox *in, size_t need)
{
    static char chunk[65536];

    if (in->bytes.len - in->at < need)
        inbox_compact(in);
    while (in->bytes.len < need + in->at) {
        ssize_t n = read(0, chunk, sizeof(chunk));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(0);
        buf_append(&in->bytes, chunk, (size_t)n);
        if (in->bytes.overflow)
            _exit(EXIT_BAD_FRAME);
    }
    return in->bytes.ptr + in->at;
}

static void answer(uint32_t id, enum sandbox_status status, struct buf *out)
{
    const struct sandbox_answer_head head = {.frame_bytes = (uint32_t)out->len, .id = id, .status = (uint32_t)status};

    memcpy(out->ptr, &head, sizeof(head));
    write_all(out->ptr, out->len);
}

static void begin_answer(struct buf *out)
{
    static const struct sandbox_answer_head room;

    buf_reset(out);
    buf_append(out, &room, sizeof(room));
}

static void serve(struct sandbox_jq *jq, const char *frame, struct buf *out)
{
    struct sandbox_request_head head;
    struct str source, document;
    enum sandbox_status status;

    memcpy(&head, frame, sizeof(head));
    source = (struct str){frame + sizeof(head), head.source_bytes};
    document = (struct str){source.ptr + source.len, head.frame_bytes - sizeof(head) - source.len};
    begin_answer(out);
    status = head.kind == SANDBOX_CHECK
                 ? sandbox_jq_check(jq, source, out)
                 : sandbox_jq_eval(jq, head.organisation, source, document, head.output_max, out);
    answer(head.id, status, out);
}

/* What libjq, malloc and the C library set up on first use, while system calls are still there. */
static void warm_up(struct sandbox_jq *jq, struct buf *out)
{
    begin_answer(out);
    (void)sandbox_jq_eval(jq, 0, STR("[.a, (\"b\" | test(\"b\")), (1.5 | tostring)]"), STR("{\"a\":1}"), 4096, out);
}

static void serve_next(struct sandbox_jq *jq, struct inbox *in, struct buf *out)
{
    struct sandbox_request_head head;
    const char *frame = inbox_read(in, sizeof(head));

    memcpy(&head, frame, sizeof(head));
    if (head.frame_bytes > SANDBOX_FRAME_MAX || head.frame_bytes < sizeof(head) ||
        head.source_bytes > head.frame_bytes - sizeof(head))
        _exit(EXIT_BAD_FRAME);
    serve(jq, inbox_read(in, head.frame_bytes), out);
    in->at += head.frame_bytes;
}

static void child_main(size_t memory_bytes)
{
    struct sandbox_jq *jq = sandbox_jq_new();
    struct inbox in = {.at = 0};
    struct timespec used;
    struct buf out;

    buf_init(&in.bytes, INBOX_MAX);
    buf_init(&out, SANDBOX_FRAME_MAX);
    warm_up(jq, &out);
    sandbox_confine(memory_bytes);
    begin_answer(&out);
    answer(SANDBOX_ID_READY, SANDBOX_OK, &out);
    for (;;) {
        serve_next(jq, &in, &out);
        if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0 && used.tv_sec >= RECYCLE_CPU_SECONDS)
            _exit(SANDBOX_EXIT_RECYCLE);
    }
}

void sandbox_child_main_if_asked(int argc, char **argv)
{
    int64_t memory_bytes;

    if (argc < 2 || strcmp(argv[1], SANDBOX_CHILD_ARG) != 0)
        return;
    if (argc != 3 || !parse_i64(str_of(argv[2]), 1, INT64_C(1) << 40, &memory_bytes))
        _exit(EXIT_BAD_FRAME);
    child_main((size_t)memory_bytes);
}
