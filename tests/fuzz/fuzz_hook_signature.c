/* A webhook of a stranger under every scheme: header, time, id and body of any bytes are refused without reading
 * outside, and what was signed here is genuine. The first byte chooses the scheme; parts end at NUL. */
#include "common/base/ensure.h"
#include "common/webhook/scheme.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"standard-webhooks", "github", "stripe", "slack", "shopify", "gitlab",
                                    "bitbucket",         "twilio", "square", "zoom",  "linear",  "dropbox",
                                    "mailgun",           "hubspot"};
#define NAMES (sizeof(names) / sizeof(names[0]))

struct parts {
    const struct hook_scheme *scheme;
    struct str signature, time, id, type;
};

static struct str header_of(void *ctx, const char *name)
{
    const struct parts *parts = ctx;

    if (strcmp(name, parts->scheme->header) == 0)
        return parts->signature;
    if (strcmp(name, parts->scheme->time_at) == 0)
        return parts->time;
    if (strcmp(name, parts->scheme->id_at) == 0)
        return parts->id;
    return strcmp(name, "content-type") == 0 ? parts->type : STR_NONE;
}

static struct str take(struct str *rest)
{
    struct str part = str_cut(rest, '\0');

    if (rest->ptr == NULL)
        *rest = STR("");
    return part;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    CLEANUP(buf_deinit) struct buf signature = {0};
    struct str rest = {(const char *)data + 1, size - 1};
    struct wall_us now = {INT64_C(1700000000) * US_PER_S};
    struct hook_verdict verdict;

    if (size < 2)
        return 0;
    struct parts parts = {.scheme = hook_scheme_find(str_of(names[data[0] % NAMES]))};
    bool standard = parts.scheme->key == SCHEME_KEY_BASE64;
    struct str secrets[2] = {standard ? STR("whsec_AAAA") : STR("secret"),
                             standard ? STR("whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=") : STR("before")};

    parts.signature = take(&rest);
    parts.time = take(&rest);
    parts.id = take(&rest);
    parts.type = take(&rest);
    struct hook_message message = {STR("POST"), STR("https://example.com/hook?bodySHA256=0"), rest, header_of, &parts};

    hook_scheme_check(parts.scheme, &message, secrets, 2, now, 300 * US_PER_S, arena, &verdict);
    buf_init(&signature, 8192);
    if (parts.scheme->header[0] == '/' || parts.signature.len == 0 ||
        !hook_scheme_sign(parts.scheme, &message, secrets[0], arena, &signature))
        return 0;
    parts.signature = buf_str(&signature);
    hook_scheme_check(parts.scheme, &message, secrets, 2, now, INT64_MAX / 4, arena, &verdict);
    ENSURE(verdict.refused == NULL || strcmp(verdict.refused, "no_timestamp") == 0 ||
           strcmp(verdict.refused, "no_id") == 0 || strcmp(verdict.refused, "body_differs") == 0 ||
           strcmp(verdict.refused, "timestamp_too_old") == 0 || strcmp(verdict.refused, "timestamp_in_future") == 0);
    return 0;
}
