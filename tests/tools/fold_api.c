/* See fold_api.h. */
#include "tests/tools/fold_api.h"
#include "common/base/json_text.h"
#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX ((size_t)64 << 20)

struct fold_api {
    CURL *easy;
    struct curl_slist *headers;
    const char *url;
    struct buf answer;
    struct arena *arena;
};

static size_t on_body(char *ptr, size_t size, size_t count, void *ctx)
{
    buf_append(ctx, ptr, size * count);
    return size * count;
}

struct fold_api *fold_api_new(void)
{
    const char *url = getenv("ROPEWALK_URL"), *key = getenv("ROPEWALK_API_KEY");
    struct fold_api *api;
    char header[512];

    if (url == NULL || key == NULL) {
        fprintf(stderr, "fold-check: --api wants ROPEWALK_URL and ROPEWALK_API_KEY\n");
        exit(2);
    }
    api = mem_alloc(sizeof(*api));
    api->url = url;
    api->arena = arena_new(1 << 16);
    buf_init(&api->answer, ANSWER_MAX);
    (void)snprintf(header, sizeof(header), "Authorization: Bearer %s", key);
    api->headers = curl_slist_append(NULL, header);
    api->easy = curl_easy_init();
    curl_easy_setopt(api->easy, CURLOPT_HTTPHEADER, api->headers);
    curl_easy_setopt(api->easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(api->easy, CURLOPT_TIMEOUT, 60L);
    curl_easy_setopt(api->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(api->easy, CURLOPT_WRITEDATA, &api->answer);
    return api;
}

void fold_api_free(struct fold_api *api)
{
    if (api == NULL)
        return;
    curl_easy_cleanup(api->easy);
    curl_slist_free_all(api->headers);
    buf_deinit(&api->answer);
    arena_free(api->arena);
    mem_free(api);
}

static long get(struct fold_api *api, const char *run)
{
    char url[1024];
    long status = 0;
    CURLcode code;

    buf_reset(&api->answer);
    (void)snprintf(url, sizeof(url), "%s/v1/runs/%s", api->url, run);
    curl_easy_setopt(api->easy, CURLOPT_URL, url);
    code = curl_easy_perform(api->easy);
    if (code != CURLE_OK) {
        fprintf(stderr, "fold-check: %s: %s\n", url, curl_easy_strerror(code));
        exit(2);
    }
    curl_easy_getinfo(api->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static struct str text_of(struct fold_api *api, struct str object, const char *key)
{
    struct str text = STR_NONE;

    (void)jt_string(jt_get(object, key), api->arena, &text);
    return text;
}

/* People are told whether an active run runs or waits. */
static bool same_status(struct str said, enum run_status status)
{
    if (status == RUN_ACTIVE)
        return str_is(said, "running") || str_is(said, "waiting");
    return str_is(said, run_status_name(status));
}

struct comparison {
    struct fold_api *api;
    void (*fault)(void *ctx, const char *text);
    void *ctx;
};

static void differs(const struct comparison *c, const char *what, struct str said, struct str is)
{
    c->fault(c->ctx, arena_printf(c->api->arena, "the API says %s " STR_FMT ", tables and history say " STR_FMT, what,
                                  STR_ARG(said.ptr == NULL ? STR("nothing") : said),
                                  STR_ARG(is.ptr == NULL ? STR("nothing") : is)));
}

static void compare_text(const struct comparison *c, const char *what, struct str said, struct str is)
{
    if ((said.ptr == NULL) != (is.ptr == NULL) || !str_eq(said, is))
        differs(c, what, said, is);
}

static void compare_step(const struct comparison *c, struct str steps, const struct run_state *state, uint32_t node)
{
    const struct step_state *s = run_step(state, node);
    struct str name = run_plan_step(state, node)->name;
    struct str said = jt_get_str(steps, name), attempts = jt_get(said, "attempts");
    const char *what = arena_printf(c->api->arena, "step '" STR_FMT "' is", STR_ARG(name));
    size_t count = jt_count(attempts);
    int64_t last = 0;

    compare_text(c, what, text_of(c->api, said, "status"), str_of(step_status_name((enum step_status)s->status)));
    if (count > 0 && (!jt_i64(jt_get(jt_at(attempts, count - 1), "attempt"), &last) || last != s->attempt))
        differs(c, arena_printf(c->api->arena, "the last attempt of step '" STR_FMT "' is", STR_ARG(name)),
                str_of(arena_printf(c->api->arena, "%" PRId64, last)),
                str_of(arena_printf(c->api->arena, "%u", (unsigned)s->attempt)));
}

static void compare_answer(const struct comparison *c, struct str run, const struct fold_row *row,
                           const struct run_state *state)
{
    struct str status = text_of(c->api, run, "status"), error = jt_get(run, "error"), steps = jt_get(run, "steps");
    int64_t version = 0;

    if (!same_status(status, (enum run_status)state->status))
        differs(c, "its status is", status, str_of(run_status_name((enum run_status)state->status)));
    if ((jt_type(jt_get(run, "ended_at")) == JT_STRING) != row->ended)
        differs(c, "it ended at", jt_get(run, "ended_at"), row->ended ? STR("a time") : STR_NONE);
    if (!jt_i64(jt_get(run, "version"), &version) || version != row->version)
        differs(c, "its version is", jt_get(run, "version"), STR("another"));
    compare_text(c, "its error is", text_of(c->api, error, "code"), row->error_code);
    compare_text(c, "its error is of step", text_of(c->api, error, "step"), row->error_step);
    if (jt_count(steps) != state->plan->root_count)
        differs(c, "its steps are", steps, STR("another number"));
    for (uint32_t i = 0; i < state->plan->root_count; i++)
        compare_step(c, steps, state, i);
}

void fold_api_compare(struct fold_api *api, const struct fold_row *row, const struct run_state *state,
                      void (*fault)(void *ctx, const char *text), void *ctx)
{
    const struct comparison c = {api, fault, ctx};
    long status = get(api, row->run);
    struct err err;

    if (status != 200)
        fault(ctx, arena_printf(api->arena, "the API answers %ld", status));
    else if (jt_check(buf_str(&api->answer), &JT_LIMITS_MESSAGE, &err) != ERR_OK)
        fault(ctx, arena_printf(api->arena, "the API's answer is no JSON: %s", err.message));
    else
        compare_answer(&c, buf_str(&api->answer), row, state);
    arena_reset(api->arena);
}
