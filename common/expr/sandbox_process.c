/* One child of the sandbox, seen from its parent: the process, the socket, the frames, the clock of the running
 * program. Who is served where is sandbox.c's business. */
#include "common/base/clock.h"
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include "common/expr/sandbox_child.h"
#include "common/expr/sandbox_internal.h"
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "common/base/banned.h"

#define STALL_MS 100U
#define START_MS 10000U

struct sent {
    uint32_t id;
    int32_t organisation;
    struct sandbox_request *request; /* NULL: taken back */
};

struct sandbox_child {
    uv_process_t process;
    uv_pipe_t pipe;
    uv_timer_t timer;
    unsigned handles; /* not closed yet */
    const struct sandbox_limits *limits;
    const struct sandbox_child_events *events;
    void *owner; /* NULL: abandoned */
    struct buf in;
    struct sent sent[SANDBOX_SENT_MAX]; /* a ring, oldest first: the first is running */
    size_t sent_at, sent_len, sent_bytes;
    bool ready, eof, exited;
    bool stalled, overdue; /* the running program: after STALL_MS; after its time, for one more turn of the loop */
    uint64_t began_ms;     /* the running program, by the loop's clock */
    int64_t cpu_began_us;  /* the process's computing time by then */
    bool killed;
    int term_signal;
    int64_t exit_code;
};

/* --- queues --- */

void sandbox_queue_init(struct sandbox_queue *queue)
{
    *queue = (struct sandbox_queue){.tail = &queue->head};
}

void sandbox_queue_add(struct sandbox_queue *queue, struct sandbox_request *request)
{
    request->next = NULL;
    *queue->tail = request;
    queue->tail = &request->next;
    queue->len++;
}

struct sandbox_request *sandbox_queue_take(struct sandbox_queue *queue)
{
    struct sandbox_request *request = queue->head;

    if (request == NULL)
        return NULL;
    queue->head = request->next;
    if (queue->head == NULL)
        queue->tail = &queue->head;
    queue->len--;
    request->next = NULL;
    return request;
}

/* --- end of life --- */

static void on_closed(uv_handle_t *handle)
{
    struct sandbox_child *child = handle->data;

    if (--child->handles > 0)
        return;
    buf_deinit(&child->in);
    mem_free(child);
}

static void close_handles(struct sandbox_child *child)
{
    uv_close((uv_handle_t *)&child->process, on_closed);
    uv_close((uv_handle_t *)&child->pipe, on_closed);
    uv_close((uv_handle_t *)&child->timer, on_closed);
}

static struct sent *sent_entry(const struct sandbox_child *child, size_t i)
{
    return (struct sent *)&child->sent[(child->sent_at + i) % SANDBOX_SENT_MAX];
}

/* Signals that a program can bring upon its process; all others come from outside. */
static bool is_fault(int signal)
{
    return signal == 0 || signal == SIGSEGV || signal == SIGABRT || signal == SIGFPE || signal == SIGILL ||
           signal == SIGBUS || signal == SIGXCPU || signal == SIGSYS || signal == SIGTRAP;
}

static enum sandbox_end how_ended(const struct sandbox_child *child)
{
    if (!child->ready)
        return SANDBOX_END_START;
    if (child->killed)
        return SANDBOX_END_TIME;
    if (child->term_signal == 0 && child->exit_code == SANDBOX_EXIT_RECYCLE)
        return SANDBOX_END_RECYCLE;
    if (child->sent_len == 0)
        return SANDBOX_END_IDLE;
    return is_fault(child->term_signal) ? SANDBOX_END_FAULT : SANDBOX_END_OUTSIDE;
}

/* Only when the socket has been read to its end is it known which program was running. */
static void end_when_over(struct sandbox_child *child)
{
    struct sandbox_request *running = NULL;

    if (!child->eof || !child->exited)
        return;
    uv_timer_stop(&child->timer);
    if (child->owner != NULL) {
        enum sandbox_end how = how_ended(child);

        if (child->sent_len > 0) {
            running = sent_entry(child, 0)->request;
            sent_entry(child, 0)->request = NULL;
        }
        child->events->ended(child->owner, how, running, child->term_signal, child->exit_code);
    }
    close_handles(child);
}

static void on_exit_of(uv_process_t *process, int64_t exit_code, int term_signal)
{
    struct sandbox_child *child = process->data;

    child->exited = true;
    child->exit_code = exit_code;
    child->term_signal = term_signal;
    end_when_over(child);
}

static void kill_child(struct sandbox_child *child)
{
    child->killed = true;
    if (!child->exited)
        (void)uv_process_kill(&child->process, SIGKILL);
}

static void on_eof(struct sandbox_child *child)
{
    (void)uv_read_stop((uv_stream_t *)&child->pipe);
    child->eof = true;
    if (!child->exited) /* it has closed its socket or talks nonsense: no use any more, whatever it is at */
        (void)uv_process_kill(&child->process, SIGKILL);
    end_when_over(child);
}

/* --- the clock of the running program --- */

/* Computing time of the process so far; -1 when it cannot be told. */
static int64_t cpu_us(const struct sandbox_child *child)
{
    struct timespec t;
    clockid_t clock;

    if (clock_getcpuclockid(child->process.pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
        return -1;
    return (int64_t)t.tv_sec * US_PER_S + t.tv_nsec / 1000;
}

/* Where the machine is so busy that the program had less than half of a processor, the time is not its own. It gets as
 * much again, no more. */
static bool is_starved(const struct sandbox_child *child, unsigned bound_ms)
{
    int64_t used_us = cpu_us(child);

    return used_us >= 0 && used_us - child->cpu_began_us < (int64_t)bound_ms * US_PER_MS / 2 &&
           uv_now(child->timer.loop) - child->began_ms < 2 * (uint64_t)child->limits->wall_ms;
}

static unsigned stall_ms(const struct sandbox_child *child)
{
    return STALL_MS < child->limits->wall_ms ? STALL_MS : child->limits->wall_ms;
}

static void on_timer(uv_timer_t *timer)
{
    struct sandbox_child *child = timer->data;
    uint64_t wall_ms = uv_now(timer->loop) - child->began_ms;

    if (!child->ready) {
        kill_child(child);
    } else if (is_starved(child, child->stalled ? child->limits->wall_ms : stall_ms(child))) {
        (void)uv_timer_start(timer, on_timer, stall_ms(child), 0);
    } else if (!child->stalled) {
        child->stalled = true;
        (void)uv_timer_start(timer, on_timer, wall_ms < child->limits->wall_ms ? child->limits->wall_ms - wall_ms : 0,
                             0);
        child->events->stalled(child->owner);
    } else if (!child->overdue) {
        /* If this process itself was held up the answer may be there, unread: one turn of the loop to see it. */
        child->overdue = true;
        (void)uv_timer_start(timer, on_timer, 1, 0);
    } else {
        kill_child(child);
    }
}

/* A program begins to run, or none is left. */
static void restart_clock(struct sandbox_child *child)
{
    child->stalled = child->overdue = false;
    if (child->sent_len == 0 || child->owner == NULL) {
        (void)uv_timer_stop(&child->timer);
        return;
    }
    child->began_ms = uv_now(child->timer.loop);
    child->cpu_began_us = cpu_us(child);
    (void)uv_timer_start(&child->timer, on_timer, stall_ms(child), 0);
}

/* --- answers --- */

/* The child may be under a stranger's control: its words are checked before anybody reads them. */
static void on_answer(struct sandbox_child *child, const struct sandbox_answer_head *head, struct str text)
{
    struct sandbox_request *request = sent_entry(child, 0)->request;
    enum sandbox_status status =
        head->status <= SANDBOX_BAD_PROGRAM ? (enum sandbox_status)head->status : SANDBOX_FAILED;
    struct jt_limits limits = {.max_bytes = child->limits->output_bytes, .max_depth = 128, .refuse_unstorable = true};
    struct sandbox_request_head asked;
    struct err err;
    char message[SANDBOX_MESSAGE_MAX + 1];

    child->sent_at = (child->sent_at + 1) % SANDBOX_SENT_MAX;
    child->sent_len--;
    if (request == NULL)
        return;
    child->sent_bytes -= request->frame_len;
    memcpy(&asked, request->frame, sizeof(asked));
    if (status == SANDBOX_OK && asked.kind == SANDBOX_CHECK) {
        text = STR_NONE;
    } else if (status == SANDBOX_OK && jt_check(text, &limits, &err) != ERR_OK) {
        snprintf(message, sizeof(message), "the value cannot be kept: %.360s", err.message);
        status = SANDBOX_FAILED;
        text = str_of(message);
    }
    child->events->answered(child->owner, request, status, text);
}

/* One frame at the start of `bytes`; gives its length, 0 when it is not whole yet, SIZE_MAX when it is none. */
static size_t take_frame(struct sandbox_child *child, struct str bytes)
{
    struct sandbox_answer_head head;

    if (bytes.len < sizeof(head))
        return 0;
    memcpy(&head, bytes.ptr, sizeof(head));
    if (head.frame_bytes < sizeof(head) || head.frame_bytes > child->in.max)
        return SIZE_MAX;
    if (bytes.len < head.frame_bytes)
        return 0;
    if (!child->ready) {
        if (head.id != SANDBOX_ID_READY)
            return SIZE_MAX;
        child->ready = true;
        (void)uv_timer_stop(&child->timer);
        child->events->ready(child->owner);
    } else {
        if (child->sent_len == 0 || head.id != sent_entry(child, 0)->id)
            return SIZE_MAX;
        on_answer(child, &head, (struct str){bytes.ptr + sizeof(head), head.frame_bytes - sizeof(head)});
        restart_clock(child);
    }
    return head.frame_bytes;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    static char chunk[65536]; /* one loop thread; on_read copies at once */

    (void)handle;
    (void)suggested;
    *ret = uv_buf_init(chunk, sizeof(chunk));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct sandbox_child *child = stream->data;
    size_t done = 0, len = 1;

    if (n < 0 || child->owner == NULL) {
        if (n < 0)
            on_eof(child);
        return;
    }
    buf_append(&child->in, bytes->base, (size_t)n);
    while (!child->in.overflow && len != 0 && child->owner != NULL) {
        len = take_frame(child, (struct str){child->in.ptr + done, child->in.len - done});
        if (len == SIZE_MAX)
            break;
        done += len;
    }
    buf_consume(&child->in, done);
    if (child->in.overflow || len == SIZE_MAX)
        on_eof(child);
}

/* --- starting and sending --- */

static struct sandbox_child *child_new(uv_loop_t *loop, const struct sandbox_limits *limits,
                                       const struct sandbox_child_events *events, void *owner)
{
    struct sandbox_child *child = mem_alloc(sizeof(*child));

    *child = (struct sandbox_child){.handles = 3, .limits = limits, .events = events, .owner = owner};
    buf_init(&child->in, limits->output_bytes + sizeof(struct sandbox_answer_head) + SANDBOX_MESSAGE_MAX + 1);
    child->process.data = child->pipe.data = child->timer.data = child;
    ENSURE(uv_pipe_init(loop, &child->pipe, 0) == 0);
    ENSURE(uv_timer_init(loop, &child->timer) == 0);
    return child;
}

struct sandbox_child *sandbox_child_start(uv_loop_t *loop, const struct sandbox_limits *limits,
                                          const struct sandbox_child_events *events, void *owner)
{
    struct sandbox_child *child = child_new(loop, limits, events, owner);
    char memory[24], name[] = "ropewalk-expression", arg[] = SANDBOX_CHILD_ARG;
    char *argv[] = {name, arg, memory, NULL};
#if SANDBOX_UNDER_SANITIZER /* its run time is told what the missing memory limit would have done */
    char asan[] = "ASAN_OPTIONS=hard_rss_limit_mb=600:detect_leaks=0", tsan[] = "TSAN_OPTIONS=memory_limit_mb=1000";
    char *env[] = {asan, tsan, NULL};
#else
    char *env[] = {NULL};
#endif
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&child->pipe},
        {.flags = UV_IGNORE},
        {.flags = SANDBOX_UNDER_SANITIZER ? UV_INHERIT_FD : UV_IGNORE, .data.fd = 2}};
    uv_process_options_t options = {
        .exit_cb = on_exit_of, .file = "/proc/self/exe", .args = argv, .env = env, .stdio_count = 3, .stdio = stdio};

    snprintf(memory, sizeof(memory), "%zu", limits->memory_bytes);
    if (uv_spawn(loop, &child->process, &options) != 0) {
        child->owner = NULL;
        close_handles(child);
        return NULL;
    }
    (void)uv_read_start((uv_stream_t *)&child->pipe, on_alloc, on_read);
    (void)uv_timer_start(&child->timer, on_timer, START_MS, 0);
    return child;
}

struct batch {
    uv_write_t write;
    size_t len;
    char bytes[];
};

static void on_written(uv_write_t *write, int status)
{
    (void)status; /* a child that is gone is noticed by its end of file */
    mem_free(write->data);
}

/* How many of the queue fit in what may be under way; one always does. */
static size_t count_fitting(const struct sandbox_child *child, const struct sandbox_queue *queue, size_t *ret_bytes)
{
    size_t count = 0, bytes = 0;

    for (const struct sandbox_request *r = queue->head; r != NULL; r = r->next) {
        size_t total = child->sent_bytes + bytes + r->frame_len;

        if (child->sent_len + count == SANDBOX_SENT_MAX || (total > SANDBOX_SENT_BYTES && child->sent_len + count > 0))
            break;
        bytes += r->frame_len;
        count++;
    }
    *ret_bytes = bytes;
    return count;
}

void sandbox_child_send(struct sandbox_child *child, struct sandbox_queue *queue)
{
    size_t bytes;
    size_t count = child->ready && !child->eof ? count_fitting(child, queue, &bytes) : 0;
    bool idle = child->sent_len == 0;
    struct batch *batch;
    uv_buf_t out;

    if (count == 0)
        return;
    batch = mem_alloc(sizeof(*batch) + bytes);
    for (; count > 0; count--) {
        struct sandbox_request *request = sandbox_queue_take(queue);

        memcpy(batch->bytes + batch->len, request->frame, request->frame_len);
        batch->len += request->frame_len;
        *sent_entry(child, child->sent_len++) = (struct sent){request->id, request->organisation, request};
        child->sent_bytes += request->frame_len;
    }
    batch->write.data = batch;
    out = uv_buf_init(batch->bytes, (unsigned)batch->len);
    if (uv_write(&batch->write, (uv_stream_t *)&child->pipe, &out, 1, on_written) != 0)
        mem_free(batch);
    if (idle)
        restart_clock(child);
}

/* --- looking and taking back --- */

bool sandbox_child_is_ready(const struct sandbox_child *child)
{
    return child->ready && !child->eof && !child->killed;
}

bool sandbox_child_holds_up(const struct sandbox_child *child, int32_t organisation)
{
    return child->stalled && child->sent_len > 0 && sent_entry(child, 0)->organisation != organisation;
}

const struct sandbox_request *sandbox_child_running(const struct sandbox_child *child)
{
    return child->sent_len == 0 ? NULL : sent_entry(child, 0)->request;
}

void sandbox_child_take_back(struct sandbox_child *child, bool everything, struct sandbox_queue *ret)
{
    for (size_t i = 1; i < child->sent_len; i++) {
        struct sent *entry = sent_entry(child, i);

        if (entry->request == NULL || (!everything && entry->organisation == sent_entry(child, 0)->organisation))
            continue;
        child->sent_bytes -= entry->request->frame_len;
        sandbox_queue_add(ret, entry->request);
        entry->request = NULL;
    }
}

void sandbox_child_abandon(struct sandbox_child *child, struct sandbox_request **ret_running)
{
    *ret_running = NULL;
    if (child->sent_len > 0) {
        *ret_running = sent_entry(child, 0)->request;
        sent_entry(child, 0)->request = NULL;
    }
    child->owner = NULL;
    uv_timer_stop(&child->timer);
    kill_child(child);
}
