/* Secrets of a task; see secrets.h. Only the places that the task lists are filled: what a run's input puts into a
 * header may look like a reference, and is none. */
#include "worker/secrets.h"
#include "common/seal/mask.h"
#include "common/seal/sealed.h"
#include <openssl/crypto.h>

#include "common/base/banned.h"

#define WITH_MAX ((size_t)64 << 20)
#define POINTER_MAX ((size_t)64 << 10)
#define MASKED_MAX ((size_t)512 << 20)

struct place {
    struct str pointer, value;
    bool filled;
};

struct secrets {
    struct arena *arena;
    struct task task;
    struct masker *masker;
    size_t count;
    struct place *places;
    struct buf with; /* with the values in it */
    struct buf output, message, detail;
};

bool task_has_secrets(const struct task *task)
{
    return jt_count(task->secrets) > 0;
}

static enum err_code fail(struct call_outcome *ret, const char *code, bool transient, struct str message,
                          enum err_code rc)
{
    *ret = (struct call_outcome){.code = code, .transient = transient, .message = message, .retry_after_ms = -1};
    return rc;
}

static void wipe(void *value)
{
    struct str *text = value;

    OPENSSL_cleanse((void *)(uintptr_t)text->ptr, text->len);
}

static struct str keep(struct secrets *secrets, struct str value)
{
    struct str *kept = arena_alloc(secrets->arena, sizeof(*kept));

    *kept = str_arena(secrets->arena, value);
    arena_defer(secrets->arena, wipe, kept);
    return *kept;
}

/* What opening said, as the step's error. */
static enum err_code not_opened(struct secrets *secrets, const struct keyring *keyring, const struct err *err,
                                struct call_outcome *ret)
{
    struct str message = str_of(arena_printf(secrets->arena, "%s", err->message));

    if (!keyring_configured(keyring))
        return fail(ret, "secrets_not_configured", false,
                    STR("this worker has no master key: whoever runs it sets ROPEWALK_MASTER_KEY_FILE"), err->code);
    /* A key that this worker does not have yet may come with the next look at the file. */
    return fail(ret, err->code == ERR_NOT_AVAILABLE ? "master_key_missing" : "secret_damaged",
                err->code == ERR_NOT_AVAILABLE, message, err->code);
}

static enum err_code open_one(struct secrets *secrets, const struct keyring *keyring, struct str item,
                              struct place *place, struct call_outcome *ret, struct err *err)
{
    CLEANUP(seal_wipe) struct buf value = {0};
    struct str name = STR_NONE, text = STR_NONE;
    struct sealed sealed;
    enum err_code rc;

    if (!jt_string(jt_get(item, "pointer"), secrets->arena, &place->pointer) ||
        !jt_string(jt_get(item, "name"), secrets->arena, &name))
        return fail(ret, "bad_task", false, STR("a secret of the task has no pointer or no name"), ERR_INVALID);
    if (!jt_string(jt_get(item, "sealed"), secrets->arena, &text))
        return fail(ret, "secret_not_found", false,
                    str_of(arena_printf(secrets->arena,
                                        "there is no secret '" STR_FMT "': write it (ropewalk secret set " STR_FMT
                                        "), then retry the step",
                                        STR_ARG(name), STR_ARG(name))),
                    ERR_NOT_FOUND);
    if (!sealed_read(text, secrets->arena, &sealed))
        return fail(ret, "secret_damaged", false, STR("a sealed secret of the task cannot be read"), ERR_INVALID);
    sealed.key.organisation = secrets->task.organisation;
    sealed.name = name;
    buf_init(&value, SECRET_VALUE_MAX + SEAL_OVERHEAD);
    rc = secret_unseal(keyring, &sealed, &value, err);
    if (rc != ERR_OK)
        return not_opened(secrets, keyring, err, ret);
    place->value = keep(secrets, buf_str(&value));
    masker_add(secrets->masker, place->value);
    return ERR_OK;
}

static struct place *place_at(struct secrets *secrets, struct str pointer)
{
    for (size_t i = 0; i < secrets->count; i++)
        if (str_eq(secrets->places[i].pointer, pointer))
            return &secrets->places[i];
    return NULL;
}

static bool any_below(const struct secrets *secrets, struct str pointer)
{
    for (size_t i = 0; i < secrets->count; i++) {
        struct str at = secrets->places[i].pointer;

        if (at.len > pointer.len && memcmp(at.ptr, pointer.ptr, pointer.len) == 0 && at.ptr[pointer.len] == '/')
            return true;
    }
    return false;
}

/* Copies a value with the secrets put in; as deep as they lie, which the document's checks have bounded. */
static void fill(struct secrets *secrets, struct str value, struct buf *pointer, struct jw *w)
{
    struct place *place = place_at(secrets, buf_str(pointer));
    bool object = jt_type(value) == JT_OBJECT;
    size_t pointer_len = pointer->len;
    struct jt_iter it;

    if (place != NULL) {
        place->filled = true;
        jw_str(w, place->value);
        return;
    }
    if (!any_below(secrets, buf_str(pointer)) || (!object && jt_type(value) != JT_ARRAY)) {
        jw_raw(w, value);
        return;
    }
    (object ? jw_obj : jw_arr)(w);
    jt_iter_init(&it, value);
    while (jt_next(&it)) {
        if (object) {
            struct str key = jt_key(&it, secrets->arena);

            jw_key_str(w, key);
            jt_pointer_add(pointer, key);
        } else {
            buf_printf(pointer, "/%zu", it.index);
        }
        fill(secrets, it.value, pointer, w);
        pointer->len = pointer_len;
        pointer->ptr[pointer_len] = '\0';
    }
    (object ? jw_end_obj : jw_end_arr)(w);
}

static bool fill_all(struct secrets *secrets)
{
    CLEANUP(buf_deinit) struct buf pointer = {0};
    struct jw w;

    buf_init(&pointer, POINTER_MAX);
    buf_append_str(&pointer, STR(""));
    buf_init(&secrets->with, WITH_MAX);
    w = jw_to(&secrets->with);
    fill(secrets, secrets->task.with, &pointer, &w);
    secrets->task.with = buf_str(&secrets->with);
    for (size_t i = 0; i < secrets->count; i++)
        if (!secrets->places[i].filled)
            return false;
    return !secrets->with.overflow;
}

enum err_code secrets_open(const struct keyring *keyring, const struct task *task, struct secrets **ret,
                           struct call_outcome *ret_outcome, struct err *err)
{
    struct arena *arena = arena_new(4096);
    struct secrets *secrets = arena_alloc(arena, sizeof(*secrets));
    struct jt_iter it;

    *secrets = (struct secrets){.arena = arena, .task = *task, .masker = masker_new()};
    secrets->places = arena_array(arena, jt_count(task->secrets), sizeof(*secrets->places));
    *ret = secrets;
    jt_iter_init(&it, task->secrets);
    while (jt_next(&it)) {
        enum err_code rc = open_one(secrets, keyring, it.value, &secrets->places[secrets->count], ret_outcome, err);

        if (rc != ERR_OK)
            return rc;
        secrets->count++;
    }
    if (fill_all(secrets))
        return ERR_OK;
    return fail(ret_outcome, "bad_task", false, STR("a secret of the task belongs where its `with` has nothing"),
                ERR_INVALID);
}

const struct task *secrets_task(const struct secrets *secrets)
{
    return &secrets->task;
}

static struct str masked(const struct secrets *secrets, struct str text, struct buf *out,
                         void (*apply)(const struct masker *, struct str, struct buf *))
{
    if (text.ptr == NULL)
        return text;
    buf_init(out, MASKED_MAX);
    apply(secrets->masker, text, out);
    return out->len == 0 ? STR("") : buf_str(out);
}

struct call_outcome secrets_mask(struct secrets *secrets, const struct call_outcome *outcome)
{
    struct call_outcome clean = *outcome;

    clean.output = masked(secrets, outcome->output, &secrets->output, masker_json);
    clean.message = masked(secrets, outcome->message, &secrets->message, masker_text);
    clean.detail = masked(secrets, outcome->detail, &secrets->detail, masker_json);
    return clean;
}

void secrets_free(struct secrets *secrets)
{
    if (secrets == NULL)
        return;
    masker_free(secrets->masker);
    seal_wipe(&secrets->with);
    buf_deinit(&secrets->output);
    buf_deinit(&secrets->message);
    buf_deinit(&secrets->detail);
    arena_free(secrets->arena);
}
