/* Messages that come in: from JSON text to inputs, without copies where there are no escapes. proto/ says what is
 * right; here slices become values. What is not right becomes a dead letter; what has no right token is counted and
 * dropped. */
#include "proto/results.h"
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define WATCH_US (30 * US_PER_S)
/* Bytes, where the schemas count characters: names of queues are built of them. */
#define TASK_ID_MAX 512
#define WORKER_MAX 128

/* Text of a JSON string; STR_NONE when it is absent, and false when it is something else. */
static bool text_of(struct arena **arena, struct str value, struct str *ret)
{
    *ret = STR_NONE;
    if (value.ptr == NULL)
        return true;
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

/* The schemas only note that a text is a time. */
static bool time_of(struct str value, struct wall_us *ret)
{
    *ret = (struct wall_us){0};
    return value.ptr == NULL ||
           (jt_type(value) == JT_STRING && wall_parse((struct str){value.ptr + 1, value.len - 2}, ret));
}

/* All of it has been checked with the result that it is part of. */
static void read_error(struct arena **arena, struct str error, struct engine_input *in)
{
    struct str fields[RESULT_ERROR_FIELDS], text;
    int64_t status = 0;

    schema_slices(&SCHEMA_RESULT_ERROR, error, fields);
    (void)text_of(arena, fields[RESULT_ERROR_CLASS], &in->error_class);
    (void)text_of(arena, fields[RESULT_ERROR_CODE], &in->code);
    (void)text_of(arena, fields[RESULT_ERROR_MESSAGE], &in->message);
    if (jt_i64(fields[RESULT_ERROR_STATUS], &status))
        in->http_status = (int32_t)status;
    if (text_of(arena, fields[RESULT_ERROR_RETRY_AFTER], &text) && text.ptr != NULL)
        (void)duration_parse(text, &in->retry_after_us);
    (void)jt_bool(fields[RESULT_ERROR_SENT], &in->sent);
    (void)jt_bool(fields[RESULT_ERROR_ANSWERED], &in->answered);
    in->detail = fields[RESULT_ERROR_DETAIL];
}

static enum result_status status_of(struct arena **arena, struct str value)
{
    static const char *const names[] = {"succeeded", "failed", "deferred", "abandoned"};
    struct str text;

    (void)text_of(arena, value, &text);
    for (size_t i = 0; i < 4; i++) {
        if (str_is(text, names[i]))
            return (enum result_status)i;
    }
    return RESULT_ABANDONED; /* not reached: the schema has these four */
}

static bool worker_of(struct arena **arena, struct str value, struct str *ret)
{
    return text_of(arena, value, ret) && ret->ptr != NULL && ret->len <= WORKER_MAX;
}

/* From checked slices; gives what is wrong all the same, or NULL. */
static const char *read_result(struct arena **arena, const struct str *fields, struct input *input)
{
    struct engine_input *in = &input->in;

    if (!worker_of(arena, fields[RESULT_ITEM_WORKER], &in->worker))
        return "the worker's name is too long";
    if (!time_of(fields[RESULT_ITEM_STARTED_AT], &in->started_at) ||
        !time_of(fields[RESULT_ITEM_ENDED_AT], &in->ended_at))
        return "a time is none";
    in->result = status_of(arena, fields[RESULT_ITEM_STATUS]);
    in->output = fields[RESULT_ITEM_OUTPUT];
    if (fields[RESULT_ITEM_ERROR].ptr != NULL)
        read_error(arena, fields[RESULT_ITEM_ERROR], in);
    return NULL;
}

static const char *read_started(struct arena **arena, const struct str *fields, struct input *input)
{
    if (!worker_of(arena, fields[STARTED_WORKER], &input->in.worker))
        return "the worker's name is too long";
    if (!time_of(fields[STARTED_AT], &input->in.started_at))
        return "a time is none";
    (void)jt_i64(fields[STARTED_ASK], &input->in.ask);
    if (!text_of(arena, fields[STARTED_REPLY_TO], &input->reply_to) || input->reply_to.len >= QUEUE_NAME_SIZE)
        return "the name of the queue is too long";
    return NULL;
}

/* Who says it: what a dead letter needs, too. */
struct claim {
    struct str task_id, token;
};

/* The token of a task that we have published ourselves is at hand; that of others is computed. */
static bool token_is_right(const struct sched *sched, const struct claim *claim, const struct input *named)
{
    const struct item *item = item_find_task(sched, named->run, named->in.step);
    char token[SCHED_TOKEN_SIZE];

    if (claim->token.len != SCHED_TOKEN_SIZE - 1)
        return false;
    if (item != NULL && item->token[0] != '\0' && item->attempt == named->in.attempt &&
        item->dispatch == named->in.dispatch)
        return equal_constant_time(item->token, claim->token.ptr, SCHED_TOKEN_SIZE - 1);
    sched_task_token(sched->set.token_key, sched->set.incarnation, claim->task_id, token);
    return equal_constant_time(token, claim->token.ptr, SCHED_TOKEN_SIZE - 1);
}

enum verdict { DECODED, FORGED, BAD };

/* The run, step, attempt and dispatch that a task id names. */
static bool name_attempt(struct input *input, struct str task_id)
{
    struct err err;

    return engine_parse_task_id(task_id, &input->run, &input->in.step, &input->in.attempt, &input->in.dispatch, &err) ==
           ERR_OK;
}

/* Gives what is wrong, or NULL. */
static const char *read_claim(struct arena **arena, struct str task_id, struct str token, struct claim *ret)
{
    *ret = (struct claim){0};
    if (!text_of(arena, token, &ret->token) || !text_of(arena, task_id, &ret->task_id))
        return "a field of the wrong type";
    if (ret->task_id.len <= TASK_ID_MAX)
        return NULL;
    ret->task_id = STR_NONE;
    return "the task id is too long";
}

static enum verdict judge(const struct sched *sched, struct input *input, const struct claim *claim, const char *fault)
{
    if (claim->task_id.ptr != NULL && claim->token.ptr != NULL) {
        if (!name_attempt(input, claim->task_id)) {
            fault = "the task id names nothing";
        } else if (!token_is_right(sched, claim, input)) {
            metric_add(METRIC_RESULTS_FORGED, 1);
            return FORGED;
        }
    }
    if (fault == NULL)
        return DECODED;
    input->dead = fault;
    input->reply_to = claim->token.ptr != NULL ? claim->task_id : STR_NONE; /* the token was right: for submit_dead */
    return BAD;
}

static void input_init(struct input *input, enum engine_input_kind kind, struct str object)
{
    input->in.kind = kind;
    input->raw = object;
    input->bytes = (uint32_t)(sizeof(*input) + object.len);
}

/* What the schema found wrong, as long as the message lives. */
static const char *fault_of(struct arena **arena, enum err_code rc, const struct err *err)
{
    if (rc == ERR_OK)
        return NULL;
    if (*arena == NULL)
        *arena = arena_new(1024);
    return arena_dup(*arena, err->message, strlen(err->message));
}

/* `fields` as results_next gave them, with `rc` and `err`. */
static enum verdict decode_result(const struct sched *sched, struct arena **arena, struct str object,
                                  const struct str *fields, enum err_code rc, const struct err *err,
                                  struct input *input)
{
    struct claim claim;
    const char *fault = fault_of(arena, rc, err), *other;

    input_init(input, IN_RESULT, object);
    other = read_claim(arena, fields[RESULT_ITEM_TASK_ID], fields[RESULT_ITEM_TOKEN], &claim);
    fault = fault == NULL ? other : fault;
    if (fault == NULL)
        fault = read_result(arena, fields, input);
    return judge(sched, input, &claim, fault);
}

static enum verdict decode_started(const struct sched *sched, struct arena **arena, struct str object,
                                   struct input *input)
{
    struct str fields[STARTED_FIELDS];
    struct claim claim;
    struct err err;
    enum err_code rc = schema_decode(&SCHEMA_STARTED, object, fields, &err);
    const char *fault = fault_of(arena, rc, &err), *other;

    if (fault != NULL)
        schema_slices(&SCHEMA_STARTED, object, fields);
    input_init(input, IN_STARTED, object);
    other = read_claim(arena, fields[STARTED_TASK_ID], fields[STARTED_TOKEN], &claim);
    fault = fault == NULL ? other : fault;
    if (fault == NULL)
        fault = read_started(arena, fields, input);
    return judge(sched, input, &claim, fault);
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
        work_alone(sched, inbox, input);
    }
}

static void submit(struct sched *sched, const struct sched_message *message, struct delivery *delivery,
                   struct input *input, enum verdict verdict)
{
    if (verdict == FORGED)
        return;
    input->delivery = delivery;
    delivery->refs++;
    if (verdict == DECODED)
        input_submit(sched, input);
    else
        submit_dead(sched, input, input->reply_to.ptr != NULL ? input->reply_to : message->message_id);
}

static size_t count_results(const struct results *results)
{
    struct jt_iter it = results->it;
    size_t count = 0;

    if (!results->many)
        return 1;
    while (jt_next(&it))
        count++;
    return count;
}

/* `repaired` (may be NULL) holds `body` and is taken over; so in decode_start. */
static void decode_results(struct sched *sched, const struct sched_message *message, struct str body,
                           struct arena *repaired)
{
    struct str fields[RESULT_ITEM_FIELDS];
    struct results results;
    struct err whole_err, err;
    enum err_code whole = results_open(&results, body, &whole_err), rc;
    struct delivery *delivery;
    size_t count;

    if (whole != ERR_OK) /* refused as a whole; it may tell whose it is */
        results = (struct results){.one = body};
    count = count_results(&results);
    delivery = delivery_new(sched, message, count);
    delivery->arena = repaired;
    delivery->refs = 1; /* ours, until all are submitted */
    for (size_t i = 0; i < count && results_next(&results, fields, &rc, &err); i++) {
        struct input *input = &delivery->inputs[i];
        bool refused = whole != ERR_OK;
        enum verdict verdict = decode_result(sched, &delivery->arena, results.item, fields, refused ? whole : rc,
                                             refused ? &whole_err : &err, input);

        if (verdict == DECODED)
            task_answered(sched, input);
        submit(sched, message, delivery, input, verdict);
    }
    delivery_unref(sched, delivery);
}

static void decode_start(struct sched *sched, const struct sched_message *message, struct str body,
                         struct arena *repaired)
{
    struct delivery *delivery = delivery_new(sched, message, 1);
    struct input *input = &delivery->inputs[0];

    delivery->arena = repaired;
    delivery->refs = 1;
    submit(sched, message, delivery, input, decode_started(sched, &delivery->arena, body, input));
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
    struct str fields[WATCH_FIELDS], text, reply_to;
    struct arena *arena = NULL;
    struct run_id run;
    struct err err;
    int64_t from = 0;

    if (schema_decode(&SCHEMA_WATCH, body, fields, &err) == ERR_OK && text_of(&arena, fields[WATCH_RUN_ID], &text) &&
        run_id_parse(text, &run) && text_of(&arena, fields[WATCH_REPLY_TO], &reply_to) &&
        reply_to.len < QUEUE_NAME_SIZE && jt_i64(fields[WATCH_FROM_SEQ], &from))
        push_watch(sched, run, reply_to, from, WATCH_US);
    else
        log_event(LOG_WARN, "watch.undecodable");
    arena_free(arena);
}

static void decode_nudge(struct sched *sched, struct str body)
{
    struct str fields[NUDGE_FIELDS];
    struct err err;

    if (schema_decode(&SCHEMA_NUDGE, body, fields, &err) == ERR_OK)
        commands_want(sched);
    else
        log_event(LOG_WARN, "nudge.undecodable", log_err(&err));
}

void message_decode(struct sched *sched, const struct sched_message *message)
{
    struct str body = message->body;
    struct arena *repaired = NULL;
    struct err err;

    if (message->whole_bytes > body.len) {
        decode_garbage(sched, message, "too large: only its beginning was passed on");
        return;
    }
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
    if (str_is(message->type, "result")) {
        decode_results(sched, message, body, repaired);
        return;
    }
    if (str_is(message->type, "started")) {
        decode_start(sched, message, body, repaired);
        return;
    }
    if (str_is(message->type, "nudge"))
        decode_nudge(sched, body);
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
    struct results results = {.one = command->body};
    struct str fields[RESULT_ITEM_FIELDS];
    struct err err;
    enum err_code rc;

    if (str_is(command->kind, "held_started"))
        return decode_started(sched, &command->arena, command->body, &command->input) == DECODED;
    return str_is(command->kind, "held_result") && results_next(&results, fields, &rc, &err) &&
           decode_result(sched, &command->arena, command->body, fields, rc, &err, &command->input) == DECODED;
}

void message_decode_again(struct sched *sched, struct command *command)
{
    struct results results = {.one = command->body};
    struct input *input = &command->input;
    struct str fields[RESULT_ITEM_FIELDS];
    struct err err;
    enum err_code rc;
    enum verdict verdict = BAD;

    input->dead = "it is neither a result nor a started";
    if (str_is(command->kind, "started"))
        verdict = decode_started(sched, &command->arena, command->body, input);
    else if (str_is(command->kind, "result") && results_next(&results, fields, &rc, &err))
        verdict = decode_result(sched, &command->arena, command->body, fields, rc, &err, input);
    if (verdict == FORGED)
        input->dead = "its token is not that of its task";
    input->kind = verdict == DECODED ? INPUT_ENGINE : INPUT_NOTHING;
    if (verdict == DECODED)
        input->dead = NULL;
}

static void heartbeat_of(struct sched *sched, struct arena **arena, struct str worker, struct str tasks)
{
    char queue[QUEUE_NAME_SIZE];
    struct jt_iter it;

    snprintf(queue, sizeof(queue), "ropewalk.worker." STR_FMT, STR_ARG(worker));
    for (jt_iter_init(&it, tasks); jt_next(&it);) {
        struct input named = {.kind = INPUT_ENGINE};
        struct str id;
        struct item *item;

        if (!text_of(arena, it.value, &id) || !name_attempt(&named, id))
            continue;
        item = item_find_task(sched, named.run, named.in.step);
        /* Of a granted attempt only its own worker keeps the lease: others hold copies and wait for their answer. */
        if (item != NULL && item->attempt == named.in.attempt && item->dispatch == named.in.dispatch &&
            (item->granted == 0 || item->granted == str_hash(worker)))
            lease_begin(sched, item, str_of(queue));
    }
}

void sched_on_heartbeat(struct sched *sched, struct str body)
{
    struct str fields[HEARTBEAT_FIELDS], worker;
    struct arena *arena = NULL;
    struct err err;

    sched->now = sched->ports.mono(sched->ports.ctx);
    if (jt_check(body, &JT_LIMITS_MESSAGE, &err) == ERR_OK &&
        schema_decode(&SCHEMA_HEARTBEAT, body, fields, &err) == ERR_OK &&
        worker_of(&arena, fields[HEARTBEAT_WORKER], &worker)) {
        worker_heard(sched, worker, jt_count(fields[HEARTBEAT_TASKS]));
        heartbeat_of(sched, &arena, worker, fields[HEARTBEAT_TASKS]);
    } else {
        log_event(LOG_WARN, "heartbeat.undecodable");
    }
    arena_free(arena);
}
