/* For check_peers: a JSON object of each line, {"scheme", "secret", "url", "body", "headers", "now", "sign"}, and a
 * line for it: the signature's header value when it is to be signed, else "genuine", or why it is not. */
#include "common/base/json_text.h"
#include "common/webhook/scheme.h"
#include <stdio.h>

#include "common/base/banned.h"

#define LINE_MAX_BYTES (1 << 20)

struct asked {
    struct str json;
    struct arena *arena;
};

static struct str text_of(const struct asked *asked, struct str object, const char *name)
{
    struct str text;

    return jt_string(jt_get(object, name), asked->arena, &text) ? text : STR_NONE;
}

static struct str header_of(void *ctx, const char *name)
{
    const struct asked *asked = ctx;

    return text_of(asked, jt_get(asked->json, "headers"), name);
}

static void answer(struct asked *asked)
{
    const struct hook_scheme *scheme = hook_scheme_find(text_of(asked, asked->json, "scheme"));
    struct str secret = text_of(asked, asked->json, "secret"), url = text_of(asked, asked->json, "url");
    struct hook_message message = {STR("POST"), url, text_of(asked, asked->json, "body"), header_of, asked};
    CLEANUP(buf_deinit) struct buf signature = {0};
    struct hook_verdict verdict;
    int64_t now = 0;
    bool sign = false;

    (void)parse_i64(jt_get(asked->json, "now"), 0, INT64_C(1) << 40, &now);
    (void)jt_bool(jt_get(asked->json, "sign"), &sign);
    buf_init(&signature, 4096);
    if (scheme == NULL) {
        puts("no such scheme");
    } else if (sign) {
        (void)hook_scheme_sign(scheme, &message, secret, asked->arena, &signature);
        puts(signature.ptr);
    } else {
        hook_scheme_check(scheme, &message, &secret, 1, (struct wall_us){now * US_PER_S}, 300 * US_PER_S, asked->arena,
                          &verdict);
        puts(verdict.refused == NULL ? "genuine" : verdict.refused);
    }
}

int main(void)
{
    char *line = mem_alloc(LINE_MAX_BYTES);

    while (fgets(line, LINE_MAX_BYTES, stdin) != NULL) {
        struct asked asked = {str_trim(str_of(line)), arena_new(4096)};
        struct err err;

        if (jt_check(asked.json, &JT_LIMITS_API, &err) != ERR_OK)
            puts(err.message);
        else
            answer(&asked);
        arena_free(asked.arena);
    }
    mem_free(line);
    return 0;
}
