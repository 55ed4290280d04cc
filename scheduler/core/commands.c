/* Commands: read by presence, never by number, because numbers commit out of order. What is in hand, or was committed
 * after the answer at hand was read, is recognised by its id. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define WAITING_MAX 500 /* with more in hand than this only the regular look */
#define FETCH_AGAIN_US (200 * US_PER_MS)

void commands_want(struct sched *sched)
{
    sched->fetch_wanted = true;
}

void commands_distrust(struct sched *sched)
{
    sched->fetch_barrier = sched->fetch_number;
    sched->fetch_wanted = true;
}

void commands_tick(struct sched *sched)
{
    int16_t shards[256];
    struct run_id *asides;
    struct sched_command_want want = {.shards = shards};
    size_t n = 0;

    if (sched->fetching || sched->owned_count == 0)
        return;
    if (sched->fetch_at.us > sched->now.us &&
        (!sched->fetch_wanted || sched->fetch_failed || sched->commands_waiting > WAITING_MAX)) {
        wake_by(sched, sched->fetch_at);
        return;
    }
    for (size_t i = 0; i < sched->shard_cap && n < 256; i++)
        if (sched->shards[i] != NULL && sched->shards[i]->ready && !sched->shards[i]->releasing)
            shards[n++] = sched->shards[i]->number;
    if (n == 0)
        return;
    sched->fetching = true;
    sched->fetch_wanted = false;
    sched->fetch_number++;
    sched->fetch_at = mono_after(sched->now, sched->set.commands_poll_us);
    want.shard_count = n;
    want.aside_count = asides_list(sched, &asides);
    want.asides = asides;
    sched->ports.fetch_commands(sched->ports.ctx, sched->fetch_number, &want);
    mem_free(asides);
}

static struct command *find(const struct sched *sched, int64_t id)
{
    for (struct hnode *n = htable_chain(&sched->commands, hash_u64((uint64_t)id)); n != NULL; n = n->next) {
        struct command *command = CONTAINER(n, struct command, node);

        if (command->id == id)
            return command;
    }
    return NULL;
}

static void command_free(struct sched *sched, struct command *command)
{
    htable_del(&sched->commands, &command->node);
    list_del(&command->link);
    arena_free(command->arena);
    mem_free(command);
}

/* Who put it there may wait for its verdict; who starts a run also for its end. */
#define WAIT_US (65 * US_PER_S)

/* From kind and body to the input. What names another run than its row is for nobody. */
static void decode(struct sched *sched, struct command *command, const struct sched_command *row)
{
    struct input *input = &command->input;

    if (str_is(command->kind, "requeue") && !command_unwrap(command)) {
        input->kind = INPUT_NOTHING;
        input->dead = "it says nothing that could be sent again";
    } else if (command->message) {
        message_decode_again(sched, command);
        if (input->kind == INPUT_ENGINE && !run_id_eq(input->run, row->run)) {
            input->kind = INPUT_NOTHING;
            input->dead = "it is about another run than it was sent to";
        }
    } else if (str_is(command->kind, "release")) {
        input->kind = INPUT_RELEASE;
    } else if (str_is(command->kind, "slot_ask") || str_is(command->kind, "slot_release")) {
        input->kind = admission_decode(command, row) ? INPUT_ADMISSION : INPUT_NOTHING;
        input->dead = input->kind == INPUT_ADMISSION ? NULL : "it says nothing that a concurrency key could be asked";
    } else if (!command_decode(command) && !message_decode_held(sched, command)) {
        input->kind = INPUT_UNKNOWN_COMMAND;
    }
}

static void take(struct sched *sched, struct shard *shard, const struct sched_command *row)
{
    size_t text = row->kind.len + row->body.len + row->reply_to.len + 3;
    struct command *command = mem_alloc(sizeof(*command) + text);
    char *at = (char *)(command + 1);
    struct input *input = &command->input;
    const struct str from[3] = {row->kind, row->body, row->reply_to};
    struct str *to[3] = {&command->kind, &command->body, &command->reply_to};

    for (size_t i = 0; i < 3; i++) {
        if (from[i].ptr == NULL)
            continue;
        memcpy(at, from[i].ptr, from[i].len);
        *to[i] = (struct str){at, from[i].len};
        at += from[i].len + 1;
    }
    command->id = row->id;
    command->shard = shard;
    list_init(&command->link);
    htable_add(&sched->commands, &command->node, hash_u64((uint64_t)row->id));
    sched->commands_waiting++;
    input->bytes = (uint32_t)(sizeof(*command) + text);
    input->kind = INPUT_ENGINE;
    decode(sched, command, row);
    if (command->reply_to.ptr != NULL && (str_is(command->kind, "start") || str_is(command->kind, "begin")))
        push_watch(sched, row->run, command->reply_to, INT64_MAX, WAIT_US);
    input->command = command;
    input->run = row->run;
    input->in.command = row->id;
    if (input->admission != NULL)
        work_alone(sched, shard, input);
    else
        input_submit(sched, input);
}

static void sweep_done(struct sched *sched, uint64_t fetch)
{
    while (!list_empty(&sched->commands_done)) {
        struct command *command = CONTAINER(sched->commands_done.next, struct command, link);

        if (command->done_fetch > fetch)
            break;
        command_free(sched, command);
    }
}

void sched_on_commands(struct sched *sched, uint64_t fetch, const struct sched_command *rows, size_t count,
                       bool complete, bool failed)
{
    if (fetch != sched->fetch_number || !sched->fetching)
        return;
    sched->now = sched->ports.mono(sched->ports.ctx);
    sched->fetching = false;
    sched->fetch_failed = failed;
    if (failed) {
        sched->fetch_at = mono_after(sched->now, FETCH_AGAIN_US);
        return;
    }
    for (size_t i = 0; i < count && fetch > sched->fetch_barrier; i++) {
        struct shard *shard = shard_find(sched, rows[i].shard);

        if (shard == NULL || !shard->ready || fetch <= shard->fetch_barrier || find(sched, rows[i].id) != NULL ||
            shard_of_run(sched, rows[i].run) != rows[i].shard || aside_is(sched, rows[i].run))
            continue;
        take(sched, shard, &rows[i]);
    }
    sweep_done(sched, fetch);
    if (!complete)
        sched->fetch_wanted = true;
}

void sched_commands_written(struct sched *sched)
{
    commands_want(sched);
}

void command_done(struct sched *sched, struct command *command)
{
    command->done_fetch = sched->fetch_number;
    sched->commands_waiting--;
    list_add_tail(&sched->commands_done, &command->link);
    if (!sched->fetching)
        command_free(sched, command);
}

void command_leave(struct sched *sched, struct command *command)
{
    sched->commands_waiting--;
    command_free(sched, command);
}

void command_drop(struct sched *sched, struct command *command)
{
    command_leave(sched, command);
    commands_distrust(sched);
}

void commands_free(struct sched *sched)
{
    for (size_t i = 0; i < sched->commands.cap; i++) {
        while (sched->commands.slots[i] != NULL)
            command_free(sched, CONTAINER(sched->commands.slots[i], struct command, node));
    }
    htable_deinit(&sched->commands);
}
