#include "tests/unit/worker/core_world.h"

struct world w;

static struct mono_us port_mono(void *ctx)
{
    (void)ctx;
    return (struct mono_us){w.now_us};
}
struct wall_us port_wall(void *ctx)
{
    (void)ctx;
    return (struct wall_us){INT64_C(1800000000000000) + w.now_us};
}
static void port_ack(void *ctx, struct delivery_ref ref)
{
    (void)ctx;
    w.acked[w.acks++] = ref.tag;
}
static void port_give_back(void *ctx, struct delivery_ref ref)
{
    (void)ctx;
    w.given_back[w.backs++] = ref.tag;
}
static void port_refuse(void *ctx, struct delivery_ref ref, struct str body)
{
    (void)ctx;
    w.refused[w.refusals++] = ref.tag;
    w.refused_bytes = body.len;
}
static void port_results(void *ctx, const char *queue, struct str body, struct batch *batch)
{
    (void)ctx;
    snprintf(w.results[w.result_count].queue, sizeof(w.results[0].queue), "%s", queue);
    w.results[w.result_count].body = mem_dup(body.ptr, body.len);
    w.results[w.result_count++].batch = batch;
}
static void port_started(void *ctx, const char *queue, struct str id, struct str body)
{
    (void)ctx;
    (void)body;
    snprintf(w.started[w.started_count++], sizeof(w.started[0]), "%s " STR_FMT, queue, STR_ARG(id));
}
static void port_beat(void *ctx, struct str body)
{
    (void)ctx;
    w.beats++;
    snprintf(w.last_beat, sizeof(w.last_beat), STR_FMT, STR_ARG(body));
}
static void port_consume(void *ctx, bool on)
{
    (void)ctx;
    w.consuming = on;
}
static void port_cache(void *ctx, struct job *job, size_t argc, const struct str *argv)
{
    size_t at = 0;

    (void)ctx;
    w.questions[w.question_count].job = job;
    for (size_t i = 0; i < argc && at < 200; i++)
        at += (size_t)snprintf(w.questions[w.question_count].text + at, 256 - at, STR_FMT " ",
                               (int)(argv[i].len > 60 ? 60 : argv[i].len), argv[i].ptr);
    w.question_count++;
}
static void port_begin(void *ctx, struct job *job, const struct task *task, int64_t bound_us, bool once)
{
    (void)ctx;
    (void)task;
    w.begun[w.begun_count] = job;
    w.bounds[w.begun_count] = bound_us;
    w.once[w.begun_count++] = once;
}
static void port_abort(void *ctx, struct job *job)
{
    (void)ctx;
    w.aborted_count++;
    worker_core_called(w.core, job, &(struct call_outcome){.aborted = true, .sent = true, .retry_after_ms = -1});
}
static void port_drained(void *ctx)
{
    (void)ctx;
    w.drained++;
}

int setup(void **state)
{
    static const struct worker_ports ports = {.mono = port_mono,
                                              .wall = port_wall,
                                              .ack = port_ack,
                                              .give_back = port_give_back,
                                              .refuse = port_refuse,
                                              .publish_results = port_results,
                                              .publish_started = port_started,
                                              .publish_heartbeat = port_beat,
                                              .consume = port_consume,
                                              .cache = port_cache,
                                              .begin = port_begin,
                                              .abort = port_abort,
                                              .drained = port_drained};
    static const struct worker_options options = {.id = "me",
                                                  .control_queue = "control.me",
                                                  .capacity = 4,
                                                  .output_max = OUTPUT_LIMIT,
                                                  .started_after_ms = 1000,
                                                  .heartbeat_ms = 2000,
                                                  .claim_ttl_ms = 60000,
                                                  .holder_ttl_ms = 6000,
                                                  .ack_after_ms = 600000,
                                                  .drain_ms = 10000,
                                                  .cancel_grace_ms = 10000};

    (void)state;
    log_init("test", "test", LOG_ERROR);
    w = (struct world){.now_us = 1000000000, .consuming = -1};
    w.core = worker_core_new(&options, &ports);
    worker_core_publisher(w.core, true);
    return 0;
}

int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < w.result_count; i++) {
        if (w.results[i].batch != NULL)
            worker_core_published(w.core, w.results[i].batch, PUBLISH_FAILED);
        mem_free(w.results[i].body);
    }
    worker_core_free(w.core);
    return 0;
}

int lane;

void deliver_to(const void *consumer, uint64_t tag, const char *id, const char *call, const char *more,
                bool redelivered)
{
    char text[1024];

    snprintf(text, sizeof(text),
             "{\"v\":1,\"task_id\":\"%s\",\"token\":\"tok\",\"publication\":1,"
             "\"run_id\":\"0190f3a2-0000-7000-8000-000000000001\",\"step\":\"s\",\"attempt\":1,\"workflow\":\"w\","
             "\"organisation\":\"o\",\"call\":\"%s\",\"with\":{},\"delivery\":\"at_least_once\","
             "\"reply_to\":\"inbox.1\"%s}",
             id, call, more);
    if (strstr(more, "publication") != NULL) { /* the fixed field would be a duplicate */
        char *at = strstr(text, "\"publication\":1,");

        memmove(at, at + strlen("\"publication\":1,"), strlen(at + strlen("\"publication\":1,")) + 1);
    }
    if (strstr(more, "delivery") != NULL) {
        char *at = strstr(text, "\"delivery\":\"at_least_once\",");

        memmove(at, at + strlen("\"delivery\":\"at_least_once\","),
                strlen(at + strlen("\"delivery\":\"at_least_once\",")) + 1);
    }
    if (strstr(more, "reply_to") != NULL) {
        char *at = strstr(text, ",\"reply_to\":\"inbox.1\"");

        memmove(at, at + strlen(",\"reply_to\":\"inbox.1\""), strlen(at + strlen(",\"reply_to\":\"inbox.1\"")) + 1);
    }
    worker_core_delivered(w.core,
                          (struct delivery_ref){.consumer = (void *)(uintptr_t)consumer, .generation = 1, .tag = tag},
                          redelivered, (struct wall_us){0}, str_of(text));
    worker_core_flush(w.core);
}
void deliver(uint64_t tag, const char *id, const char *call, const char *more, bool redelivered)
{
    deliver_to(&lane, tag, id, call, more, redelivered);
}
void called(size_t index, bool ok)
{
    worker_core_called(w.core, w.begun[index],
                       &(struct call_outcome){.ok = ok,
                                              .output = STR("{\"a\":1}"),
                                              .code = "http_503",
                                              .transient = true,
                                              .message = STR("no"),
                                              .status = 503,
                                              .retry_after_ms = 2000,
                                              .sent = true,
                                              .answered = true});
    worker_core_flush(w.core);
}
void confirm(size_t index, enum publish_answer answer)
{
    worker_core_published(w.core, take_ptr(w.results[index].batch), answer);
}
void answer(enum cache_answer kind, const char *value)
{
    size_t index = w.question_count - 1;

    while (index > 0 && w.questions[index].job == NULL) /* signs of life have no answer */
        index--;
    assert_non_null(w.questions[index].job);
    worker_core_cache_answered(w.core, w.questions[index].job, kind, str_of(value));
    worker_core_flush(w.core);
}
void tick_after_ms(int64_t ms)
{
    w.now_us += ms * US_PER_MS;
    worker_core_tick(w.core);
}
const char *last_question(void)
{
    return w.question_count == 0 ? "" : w.questions[w.question_count - 1].text;
}
bool asked(const char *prefix)
{
    for (size_t i = 0; i < w.question_count; i++)
        if (strncmp(w.questions[i].text, prefix, strlen(prefix)) == 0)
            return true;
    return false;
}
