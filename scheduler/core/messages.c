/* Messages that come in: from JSON text to inputs, in one pass over each, without copies where there are no escapes.
 * What cannot be decoded becomes a dead letter; what has no right token is counted and dropped. Schemas: proto/. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define WATCH_US (30 * US_PER_S)
#define TASK_ID_MAX 512

/* Text of a JSON string; STR_NONE for null. */
static bool text_of(struct arena **arena, struct str value, struct str *ret)
{
    if (jt_type(value) == JT_NULL) {
        *ret = STR_NONE;
        return true;
    }
    if (jt_type(value) != JT_STRING)
        return false;
    if (memchr(value.ptr, '\\', value.len) == NULL) {
        *ret = (struct str){value.ptr + 1, value.len - 2};
        return true;
    }
    if (*arena == NULL)
        *arena = arena_new(1024);
    return jt_string(value, *arena, ret);
}

static bool time_of(struct str value, struct wall_us *ret)
{
    *ret = (struct wall_us){0};
    if (jt_type(value) == JT_NULL)
        return true;
    return jt_type(value) == JT_STRING && wall_parse((struct str){value.ptr + 1, value.len - 2}, ret);
}

static bool bool_of(struct str value, bool *ret)
{
    *ret = false;
    return jt_type(value) == JT_NULL || jt_bool(value, ret);
}

static bool version_is_one(struct str value)
{
    int64_t v;

    return jt_i64(value, &v) && v == 1;
}

static bool decode_error(struct arena **arena, struct str error, struct engine_input *in)
{
    struct jt_iter it;
    struct str text;
    int64_t status = 0;
    bool good = true;

    if (jt_type(error) == JT_NULL)
        return true;
    if (jt_type(error) != JT_OBJECT)
        return false;
    for (jt_iter_init(&it, error); good && jt_next(&it);) {
        if (str_is(it.key, "class")) {
            good = text_of(arena, it.value, &in->error_class);
        } else if (str_is(it.key, "code")) {
            good = text_of(arena, it.value, &in->code);
        } else if (str_is(it.key, "message")) {
            good = text_of(arena, it.value, &in->message);
        } else if (str_is(it.key, "status")) {
            good = jt_type(it.value) == JT_NULL || (jt_i64(it.value, &status) && status >= 100 && status <= 599);
            in->http_status = (int32_t)status;
        } else if (str_is(it.key, "retry_after")) {
            good = text_of(arena, it.value, &text) && (text.ptr == NULL || duration_parse(text, &in->retry_after_us));
        } else if (str_is(it.key, "sent")) {
            good = bool_of(it.value, &in->sent);
        } else if (str_is(it.key, "answered")) {
            good = bool_of(it.value, &in->answered);
        } else if (str_is(it.key, "detail")) {
            in->detail = jt_type(it.value) == JT_NULL ? STR_NONE : it.value;
        } else {
            metric_add(METRIC_MESSAGES_UNKNOWN_FIELDS, 1);
        }
    }
    return good && in->code.ptr != NULL &&
           (str_is(in->error_class, "transient") || str_is(in->error_class, "permanent"));
}

static bool decode_status(struct str value, enum result_status *ret)
{
    static const char *const names[] = {"\"succeeded\"", "\"failed\"", "\"deferred\"", "\"abandoned\""};

    for (size_t i = 0; i < 4; i++) {
        if (str_is(value, names[i])) {
            *ret = (enum result_status)i;
            return true;
        }
    }
    return false;
}

struct decoded {
    struct str task_id, token;
    bool has_status, has_error;
};

/* A result or started; gives what is wrong with it, or NULL. */
static const char *decode_fields(struct arena **arena, struct str object, bool started, struct input *input,
                                 struct decoded *ret)
{
    struct engine_input *in = &input->in;
    struct jt_iter it;
    bool good = true;

    if (jt_type(object) != JT_OBJECT)
        return "not an object";
    for (jt_iter_init(&it, object); good && jt_next(&it);) {
        if (str_is(it.key, "task_id")) {
            good = text_of(arena, it.value, &ret->task_id);
        } else if (str_is(it.key, "token")) {
            good = text_of(arena, it.value, &ret->token);
        } else if (str_is(it.key, "worker")) {
            good = text_of(arena, it.value, &in->worker) && in->worker.len <= 128;
        } else if (str_is(it.key, "v")) {
            if (!version_is_one(it.value))
                return "another version of the message";
        } else if (started && str_is(it.key, "at")) {
            good = time_of(it.value, &in->started_at);
        } else if (started && str_is(it.key, "reply_to")) {
            good = text_of(arena, it.value, &input->reply_to) && input->reply_to.len < QUEUE_NAME_SIZE;
        } else if (str_is(it.key, "status")) {
            good = decode_status(it.value, &in->result);
            ret->has_status = true;
        } else if (str_is(it.key, "output")) {
            in->output = jt_type(it.value) == JT_NULL ? STR_NONE : it.value;
        } else if (str_is(it.key, "error")) {
            good = decode_error(arena, it.value, in);
            ret->has_error = jt_type(it.value) == JT_OBJECT;
        } else if (str_is(it.key, "started_at")) {
            good = time_of(it.value, &in->started_at);
        } else if (str_is(it.key, "ended_at")) {
            good = time_of(it.value, &in->ended_at);
        } else {
            metric_add(METRIC_MESSAGES_UNKNOWN_FIELDS, 1);
        }
    }
    if (!good)
        return "a field of the wrong type or form";
    if (ret->task_id.ptr == NULL || ret->task_id.len > TASK_ID_MAX || ret->token.ptr == NULL || in->worker.ptr == NULL)
        return "a field is missing";
    if (started)
        return input->reply_to.ptr == NULL ? "a field is missing" : NULL;
    if (!ret->has_status)
        return "a field is missing";
    if ((in->result == RESULT_FAILED || in->result == RESULT_DEFERRED) && !ret->has_error)
        return "a failure without an error";
    return NULL;
}

/* The token of a task that we have published ourselves is at hand; that of others is computed. */
static bool token_is_right(const struct sched *sched, const struct decoded *d, const struct input *named)
{
    const struct item *item = item_find_task(sched, named->run, str_hash(named->in.step));
    char token[SCHED_TOKEN_SIZE];

    if (d->token.len != SCHED_TOKEN_SIZE - 1)
        return false;
    if (item != NULL && item->token[0] != '\0' && item->attempt == named->in.attempt &&
        item->dispatch == named->in.dispatch)
        return equal_constant_time(item->token, d->token.ptr, SCHED_TOKEN_SIZE - 1);
    sched_task_token(sched->set.token_key, sched->set.incarnation, d->task_id, token);
    return equal_constant_time(token, d->token.ptr, SCHED_TOKEN_SIZE - 1);
}

enum verdict { DECODED, FORGED, BAD };

/* The run, step, attempt and dispatch that a task id names. */
static bool name_attempt(struct input *input, struct str task_id)
{
    struct err err;

    return engine_parse_task_id(task_id, &input->run, &input->in.step, &input->in.attempt, &input->in.dispatch, &err) ==
           ERR_OK;
}

static enum verdict decode_one(struct sched *sched, struct arena **arena, struct str object, bool started,
                               struct input *input)
{
    struct decoded d = {.task_id = STR_NONE, .token = STR_NONE};
    const char *fault;

    input->in.kind = started ? IN_STARTED : IN_RESULT;
    input->raw = object;
    input->bytes = (uint32_t)(sizeof(*input) + object.len);
    fault = decode_fields(arena, object, started, input, &d);
    if (d.task_id.len > TASK_ID_MAX)
        d.task_id = STR_NONE;
    if (d.task_id.ptr != NULL && d.token.ptr != NULL) {
        if (!name_attempt(input, d.task_id)) {
            fault = "the task id names nothing";
        } else if (!token_is_right(sched, &d, input)) {
            metric_add(METRIC_RESULTS_FORGED, 1);
            return FORGED;
        }
    }
    if (fault == NULL)
        return DECODED;
    input->dead = fault;
    input->reply_to = d.token.ptr != NULL ? d.task_id : STR_NONE; /* the token was right: for submit_dead */
    return BAD;
}

/* Ends the attempt that the message is about, where that can be told: nothing else will come for it. */
static void submit_dead(struct sched *sched, struct input *input, struct str task_id)
{
    const char *fault = input->dead;
    struct str raw = input->raw;
    struct delivery *delivery = input->delivery;
    struct shard *inbox = shard_find(sched, delivery->shard);

    log_event(LOG_WARN, "message.undecodable", log_cstr("reason", fault), log_str("task_id", task_id));
    *input = (struct input){.raw = raw, .dead = fault, .delivery = delivery, .bytes = (uint32_t)raw.len};
    if (task_id.ptr != NULL && name_attempt(input, task_id) &&
        shard_find(sched, shard_of_run(sched, input->run)) != NULL) {
        input->in.kind = IN_RESULT;
        input->in.result = RESULT_FAILED;
        input->in.error_class = STR("permanent");
        input->in.code = STR("undecodable_result");
        input->in.message = str_of(fault);
        input_submit(sched, input);
    } else {
        work_dead_letter(sched, inbox, input);
    }
}

/* `repaired` (may be NULL) holds `body` and is taken over. */
static void decode_results(struct sched *sched, const struct sched_message *message, struct str body,
                           struct arena *repaired, bool started)
{
    struct str list = started ? STR_NONE : jt_get(body, "results");
    bool several = jt_type(list) == JT_ARRAY;
    size_t count = several ? jt_count(list) : 1;
    struct delivery *delivery;
    struct jt_iter it;

    if (several && (count == 0 || !version_is_one(jt_get(body, "v")))) {
        several = false; /* refused as a whole below */
        count = 1;
    }
    delivery = delivery_new(sched, message, count);
    delivery->arena = repaired;
    delivery->refs = 1; /* ours, until all are submitted */
    jt_iter_init(&it, several ? list : STR_NONE);
    for (size_t i = 0; i < count; i++) {
        struct input *input = &delivery->inputs[i];
        enum verdict verdict;

        if (several && !jt_next(&it))
            break;
        verdict = decode_one(sched, &delivery->arena, several ? it.value : body, started, input);
        if (verdict == FORGED)
            continue;
        input->delivery = delivery;
        delivery->refs++;
        if (verdict == DECODED)
            input_submit(sched, input);
        else
            submit_dead(sched, input, input->reply_to.ptr != NULL ? input->reply_to : message->message_id);
    }
    delivery_unref(sched, delivery);
}

static void decode_garbage(struct sched *sched, const struct sched_message *message, const char *why)
{
    struct delivery *delivery = delivery_new(sched, message, 1);
    struct input *input = &delivery->inputs[0];

    delivery->refs = 1;
    input->delivery = delivery;
    input->raw = message->body;
    input->dead = why;
    if (message->message_id.len > 0 && delivery->arena == NULL) {
        struct str id = str_arena(delivery_arena(delivery), message->message_id);

        submit_dead(sched, input, id);
        return;
    }
    submit_dead(sched, input, STR_NONE);
}

static void decode_watch(struct sched *sched, struct str body)
{
    struct arena *arena = NULL;
    struct str text, reply_to = STR_NONE;
    struct run_id run;
    int64_t from = 0;

    if (version_is_one(jt_get(body, "v")) && text_of(&arena, jt_get(body, "run_id"), &text) &&
        run_id_parse(text, &run) && text_of(&arena, jt_get(body, "reply_to"), &reply_to) && reply_to.ptr != NULL &&
        reply_to.len < QUEUE_NAME_SIZE && jt_i64(jt_get(body, "from_seq"), &from))
        push_watch(sched, run, reply_to, from, WATCH_US);
    else
        log_event(LOG_WARN, "watch.undecodable");
    arena_free(arena);
}

void message_decode(struct sched *sched, const struct sched_message *message)
{
    struct str body = message->body;
    struct arena *repaired = NULL;
    struct err err;

    /* Only what has an escape can hold what PostgreSQL cannot; the check then costs a copy at most. */
    if (memchr(body.ptr == NULL ? "" : body.ptr, '\\', body.len) != NULL) {
        repaired = arena_new(1024);
        if (jt_check_repair(repaired, body, &JT_LIMITS_MESSAGE, &body, &err) != ERR_OK) {
            arena_free(repaired);
            decode_garbage(sched, message, "not JSON, or beyond a limit");
            return;
        }
        if (body.ptr == message->body.ptr) {
            arena_free(repaired);
            repaired = NULL;
        }
    } else if (jt_check(body, &JT_LIMITS_MESSAGE, &err) != ERR_OK) {
        decode_garbage(sched, message, "not JSON, or beyond a limit");
        return;
    }
    if (str_is(message->type, "result") || str_is(message->type, "started")) {
        decode_results(sched, message, body, repaired, str_is(message->type, "started"));
        return;
    }
    if (str_is(message->type, "nudge"))
        commands_want(sched);
    else if (str_is(message->type, "watch"))
        decode_watch(sched, body);
    arena_free(repaired);
    if (str_is(message->type, "nudge") || str_is(message->type, "watch"))
        sched->ports.ack(sched->ports.ctx, message->delivery);
    else
        decode_garbage(sched, message, "unknown type of message");
}

void sched_on_message(struct sched *sched, const struct sched_message *message)
{
    sched->now = sched->ports.mono(sched->ports.ctx);
    if (shard_find(sched, message->shard) == NULL) {
        sched->ports.forget(sched->ports.ctx, message->delivery);
        return;
    }
    message_decode(sched, message);
}

bool message_decode_held(struct sched *sched, struct command *command)
{
    bool started = str_is(command->kind, "held_started");

    if (!started && !str_is(command->kind, "held_result"))
        return false;
    return decode_one(sched, &command->arena, command->body, started, &command->input) == DECODED;
}

void sched_on_heartbeat(struct sched *sched, struct str body)
{
    struct err err;
    struct arena *arena = NULL;
    struct jt_iter it;
    struct str worker = STR_NONE;
    char queue[QUEUE_NAME_SIZE];

    sched->now = sched->ports.mono(sched->ports.ctx);
    if (jt_check(body, &JT_LIMITS_MESSAGE, &err) != ERR_OK || !version_is_one(jt_get(body, "v")) ||
        !text_of(&arena, jt_get(body, "worker"), &worker) || worker.ptr == NULL || worker.len > 128) {
        log_event(LOG_WARN, "heartbeat.undecodable");
        arena_free(arena);
        return;
    }
    snprintf(queue, sizeof(queue), "ropewalk.worker." STR_FMT, STR_ARG(worker));
    for (jt_iter_init(&it, jt_get(body, "tasks")); jt_next(&it);) {
        struct input named = {.kind = INPUT_ENGINE};
        struct str id;
        struct item *item;

        if (!text_of(&arena, it.value, &id) || !name_attempt(&named, id))
            continue;
        item = item_find_task(sched, named.run, str_hash(named.in.step));
        /* Of a granted attempt only its own worker keeps the lease: others hold copies and wait for their answer. */
        if (item != NULL && item->attempt == named.in.attempt && item->dispatch == named.in.dispatch &&
            (item->granted == 0 || item->granted == str_hash(worker)))
            lease_begin(sched, item, str_of(queue));
    }
    arena_free(arena);
}
