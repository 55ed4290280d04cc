/* Secrets of a task: put where the task says, nowhere else, and taken out of what comes back. */
#include "common/seal/sealed.h"
#include "tests/unit/seal/test.h"
#include "worker/secrets.h"

#define KEYS "one:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER_KEYS "two:ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define VALUE "Bearer planted/\"1"

struct world {
    struct keyring *keys, *other_keys, *no_keys;
    struct buf wrapped, sealed, list;
    struct data_key key;
    struct task task;
    struct secrets *secrets;
    struct call_outcome outcome;
};

static void seal(struct world *w, const char *name, const char *value)
{
    struct err err = {0};
    struct buf box;

    buf_init(&box, 4096);
    assert_int_equal(secret_seal(w->keys, &w->key, str_of(name), str_of(value), &box, &err), ERR_OK);
    buf_reset(&w->sealed);
    sealed_write(&(struct sealed){w->key, str_of(name), buf_str(&box)}, &w->sealed);
    buf_deinit(&box);
}

static int setup(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));
    struct err err = {0};

    assert_int_equal(keyring_parse(STR(KEYS), &w->keys, &err), ERR_OK);
    assert_int_equal(keyring_parse(STR(OTHER_KEYS), &w->other_keys, &err), ERR_OK);
    assert_int_equal(keyring_new(NULL, &w->no_keys, &err), ERR_OK);
    buf_init(&w->wrapped, 256);
    buf_init(&w->sealed, 8192);
    buf_init(&w->list, 65536);
    assert_int_equal(data_key_make(w->keys, STR("default"), 3, &w->wrapped, &w->key, &err), ERR_OK);
    seal(w, "PAY", VALUE);
    w->task.organisation = STR("default");
    w->task.with = STR("{\"url\":\"http://x\",\"headers\":{\"Authorization\":\"?\",\"X-Plain\":\"${ .secrets.PAY "
                       "}\"},\"list\":[1,\"?\",0.10]}");
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    secrets_free(w->secrets);
    keyring_free(w->keys);
    keyring_free(w->other_keys);
    keyring_free(w->no_keys);
    buf_deinit(&w->wrapped);
    buf_deinit(&w->sealed);
    buf_deinit(&w->list);
    mem_free(w);
    return 0;
}

/* One more of the task: `text` is what was sealed; NULL: nothing. */
static void add(struct world *w, const char *pointer, const char *name, const char *text)
{
    w->list.len -= w->list.len > 0; /* its ] */
    buf_printf(&w->list, "%s{\"pointer\":\"%s\",\"name\":\"%s\"", w->list.len > 0 ? "," : "[", pointer, name);
    if (text != NULL)
        buf_printf(&w->list, ",\"sealed\":\"%s\"", text);
    buf_append_str(&w->list, STR("}]"));
    w->task.secrets = buf_str(&w->list);
}

static enum err_code open_with(struct world *w, const struct keyring *keys)
{
    struct err err = {0};

    return secrets_open(keys, &w->task, &w->secrets, &w->outcome, &err);
}

static void fails(struct world *w, const struct keyring *keys, enum err_code rc, const char *code, bool transient)
{
    assert_int_equal(open_with(w, keys), rc);
    assert_string_equal(w->outcome.code, code);
    assert_int_equal(w->outcome.transient, transient);
    assert_false(w->outcome.ok || w->outcome.sent);
    assert_int_equal(w->outcome.retry_after_ms, -1);
    assert_null(memmem(w->outcome.message.ptr, w->outcome.message.len, "planted", 7));
}

static void only_the_places_that_are_listed_are_filled(void **state)
{
    struct world *w = *state;

    assert_false(task_has_secrets(&w->task));
    add(w, "/headers/Authorization", "PAY", w->sealed.ptr);
    add(w, "/list/1", "PAY", w->sealed.ptr);
    assert_true(task_has_secrets(&w->task));
    assert_int_equal(open_with(w, w->keys), ERR_OK);
    assert_str(secrets_task(w->secrets)->with, "{\"url\":\"http://x\",\"headers\":{\"Authorization\":\"Bearer "
                                               "planted/\\\"1\",\"X-Plain\":\"${ .secrets.PAY }\"},"
                                               "\"list\":[1,\"Bearer planted/\\\"1\",0.10]}");
    assert_ptr_not_equal(secrets_task(w->secrets)->with.ptr, w->task.with.ptr);
}

static void a_name_with_a_slash_is_found_by_its_pointer(void **state)
{
    struct world *w = *state;

    w->task.with = STR("{\"a/b~\":{\"\":\"?\"},\"a\":{\"b~\":\"?\"}}");
    add(w, "/a~1b~0/", "PAY", w->sealed.ptr);
    assert_int_equal(open_with(w, w->keys), ERR_OK);
    assert_str(secrets_task(w->secrets)->with, "{\"a/b~\":{\"\":\"Bearer planted/\\\"1\"},\"a\":{\"b~\":\"?\"}}");
}

static void what_comes_back_has_none_of_the_values(void **state)
{
    struct world *w = *state;
    struct call_outcome outcome = {
        .ok = true,
        .output = STR("{\"echo\":\"Bearer planted/\\\"1\",\"part\":\"<planted/\\u00221>\",\"n\":0.10}"),
        .message = STR("said planted/\"1"),
        .detail = STR_NONE,
        .status = 200,
        .answered = true};
    struct call_outcome clean;

    add(w, "/headers/Authorization", "PAY", w->sealed.ptr);
    assert_int_equal(open_with(w, w->keys), ERR_OK);
    clean = secrets_mask(w->secrets, &outcome);
    assert_str(clean.output, "{\"echo\":\"********\",\"part\":\"<********>\",\"n\":0.10}");
    assert_str(clean.message, "said ********");
    assert_null(clean.detail.ptr);
    assert_true(clean.ok && clean.answered && clean.status == 200);
}

static void a_secret_that_nobody_wrote_fails_for_good_and_says_its_name(void **state)
{
    struct world *w = *state;

    add(w, "/headers/Authorization", "PAY", NULL);
    fails(w, w->keys, ERR_NOT_FOUND, "secret_not_found", false);
    assert_non_null(memmem(w->outcome.message.ptr, w->outcome.message.len, "ropewalk secret set PAY", 23));
}

static void a_worker_without_the_master_key_says_which_is_missing(void **state)
{
    struct world *w = *state;

    add(w, "/headers/Authorization", "PAY", w->sealed.ptr);
    fails(w, w->no_keys, ERR_NOT_AVAILABLE, "secrets_not_configured", false);
    secrets_free(w->secrets);
    fails(w, w->other_keys, ERR_NOT_AVAILABLE, "master_key_missing",
          true); /* it may come with the next look at the file */
}

static void what_was_moved_or_changed_does_not_open(void **state)
{
    struct world *w = *state;

    add(w, "/headers/Authorization", "OTHER", w->sealed.ptr); /* the value of PAY under another name */
    fails(w, w->keys, ERR_INVALID, "secret_damaged", false);
    secrets_free(w->secrets);
    w->list.len = 0;
    add(w, "/headers/Authorization", "PAY", w->sealed.ptr);
    w->task.organisation = STR("strangers");
    fails(w, w->keys, ERR_INVALID, "secret_damaged", false);
    secrets_free(w->secrets);
    w->task.organisation = STR("default");
    w->list.len = 0;
    add(w, "/headers/Authorization", "PAY", "rws1:one:3:AAAA");
    fails(w, w->keys, ERR_INVALID, "secret_damaged", false);
    secrets_free(w->secrets);
    w->list.len = 0;
    add(w, "/headers/Authorization", "PAY", w->sealed.ptr);
    add(w, "/list/1", "PAY", "nothing of ours"); /* one of two */
    fails(w, w->keys, ERR_INVALID, "secret_damaged", false);
}

static void a_task_whose_secrets_have_no_place_is_bad(void **state)
{
    struct world *w = *state;
    static const char *const nowhere[] = {"/headers/Cookie", "/list/2/0", "/list/7", "/url/x", "headers"};

    for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
        w->list.len = 0;
        add(w, nowhere[i], "PAY", w->sealed.ptr);
        fails(w, w->keys, ERR_INVALID, "bad_task", false);
        secrets_free(w->secrets);
    }
    w->task.secrets = STR("[{\"name\":\"PAY\"}]");
    fails(w, w->keys, ERR_INVALID, "bad_task", false);
    secrets_free(w->secrets);
    w->task.secrets = STR("[7]");
    fails(w, w->keys, ERR_INVALID, "bad_task", false);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(only_the_places_that_are_listed_are_filled),
        TEST(a_name_with_a_slash_is_found_by_its_pointer),
        TEST(what_comes_back_has_none_of_the_values),
        TEST(a_secret_that_nobody_wrote_fails_for_good_and_says_its_name),
        TEST(a_worker_without_the_master_key_says_which_is_missing),
        TEST(what_was_moved_or_changed_does_not_open),
        TEST(a_task_whose_secrets_have_no_place_is_bad),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
