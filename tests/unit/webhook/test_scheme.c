/* Signatures of webhooks: what vendors publish is taken, and nothing that differs from it by a bit. */
#include "common/webhook/form.h"
#include "common/webhook/scheme.h"
#include "tests/unit/base/test.h"

#include "common/base/banned.h"

#define HEADERS_MAX 4
#define WINDOW_US (300 * US_PER_S)

struct header {
    const char *name, *value;
};

struct vector {
    const char *scheme, *secret;
    int64_t now_s;
    const char *url, *body;
    bool covers_body;
    struct header headers[HEADERS_MAX];
};

// clang-format off
static const struct vector vectors[] = {
    /* Standard Webhooks: the example of its libraries and of Svix's documentation ("Verifying manually") */
    {"standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1614265330, "", "{\"test\": 2432232314}", true,
     {{"webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"}, {"webhook-timestamp", "1614265330"}, {"webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}}},
    /* v1a of the same message: no example is published; computed with openssl pkeyutl, private key 00 01 .. 1f */
    {"standard-webhooks", "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=", 1614265330, "", "{\"test\": 2432232314}", true,
     {{"webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"}, {"webhook-timestamp", "1614265330"}, {"webhook-signature", "v1a,yoUrgEkc12aGqm0n4Sydmdz55xJfTz4AsAgieHFjmkR7LJtqVCZOQYzvvHjI5kAey+r4iaBGxTFRrl2iBQxtDQ=="}}},
    /* docs.github.com, "Validating webhook deliveries", testing the validation */
    {"github", "It's a Secret to Everybody", 1700000000, "", "Hello, World!", true,
     {{"x-hub-signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}}},
    /* Stripe publishes none with its secret; computed with Python's hmac */
    {"stripe", "whsec_test_secret", 1492774577, "", "{\"id\":\"evt_test_webhook\",\"object\":\"event\"}", true,
     {{"stripe-signature", "t=1492774577,v1=88a022085c6bdb887b02cb26ff76dd681234d9675c0f22844059f55552a8883a"}}},
    /* api.slack.com, "Verifying requests from Slack", step-by-step walk-through */
    {"slack", "8f742231b10e8888abcd99yyyzzz85a5", 1531420618, "", "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c", true,
     {{"x-slack-request-timestamp", "1531420618"}, {"x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"}}},
    /* Shopify publishes none; computed with Python's hmac */
    {"shopify", "hush", 1700000000, "", "{\"id\":820982911946154508,\"email\":\"jon@example.com\"}", true,
     {{"x-shopify-hmac-sha256", "D0UMXmhjwBRi4y66TmhJrDlhQABD7zI2fm3p6/QLMo8="}}},
    /* GitLab sends the secret itself: nothing is signed, the body neither */
    {"gitlab", "my-secret-token", 1700000000, "", "{\"object_kind\":\"push\"}", false,
     {{"x-gitlab-token", "my-secret-token"}}},
    /* support.atlassian.com, Bitbucket Cloud, "Manage webhooks", test the validation */
    {"bitbucket", "It's a Secret to Everybody", 1700000000, "", "Hello World!", true,
     {{"x-hub-signature", "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"}}},
    /* twilio.com/docs, "Validating requests", the example of its libraries */
    {"twilio", "12345", 1700000000, "https://mycompany.com/myapp.php?foo=1&bar=2", "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212", true,
     {{"content-type", "application/x-www-form-urlencoded"}, {"x-twilio-signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8="}}},
    /* the same with a body that is no form: no example is published; computed with Python's hmac */
    {"twilio", "12345", 1700000000, "https://example.com/hook?bodySHA256=e7b995efa755c5ff3b84d2188b58cb4ae916a59470eb3761df8a814f11763500", "{\"text\":\"hi\"}", true,
     {{"content-type", "application/json"}, {"x-twilio-signature", "hBcJ86DwK4ekoq0R5LGfpb66zVo="}}},
    /* developer.squareup.com, "Verify and validate an event notification" */
    {"square", "asdf1234", 1700000000, "https://example.com/webhook", "{\"hello\":\"world\"}", true,
     {{"x-square-hmacsha256-signature", "2kRE5qRU2tR+tBGlDwMEw2avJ7QM4ikPYD/PJ3bd9Og="}}},
    /* Zoom publishes none with its secret; computed with Python's hmac */
    {"zoom", "D8cJuqWVQ623CI4Q8yQK0Q", 1739923528, "", "{\"event\":\"meeting.started\",\"payload\":{\"account_id\":\"o8KK_AAACq6BBEyA70CA\"}}", true,
     {{"x-zm-request-timestamp", "1739923528"}, {"x-zm-signature", "v0=28e76fb9329fcb368c4671c493004c7cbd5f5c40b6eec301cac3da10cc0d9e5f"}}},
    /* Linear publishes none; computed with Python's hmac */
    {"linear", "lin_wh_secret", 1676056940, "", "{\"action\":\"create\",\"type\":\"Issue\",\"webhookTimestamp\":1676056940508}", true,
     {{"linear-signature", "7f1b01e2282c7612f4ba310248a964ea16327e81ef037d2f5a0080bf80b4e551"}}},
    /* Dropbox publishes none with its secret; computed with Python's hmac */
    {"dropbox", "app-secret", 1700000000, "", "{\"list_folder\":{\"accounts\":[\"dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc\"]}}", true,
     {{"x-dropbox-signature", "ec937ec87a3d6b100588bc2cb51f1e2577b33d1553230100b9bf1bbb663d1661"}}},
    /* Mailgun signs time and token, not the rest of the body; computed with Python's hmac */
    {"mailgun", "key-mailgun", 1529006854, "", "{\"signature\":{\"timestamp\":\"1529006854\",\"token\":\"a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0\",\"signature\":\"4b85c3571bb0c3c16ab88b8921f8a55087cf0348e3bb3bcca7683c80606696cf\"},\"event-data\":{\"event\":\"opened\"}}", false,
     {}},
    /* HubSpot publishes none with its secret; computed with Python's hmac */
    {"hubspot", "hubspot-client-secret", 1700000000, "https://www.example.com/webhook_uri", "[{\"eventId\":1,\"subscriptionType\":\"contact.creation\"}]", true,
     {{"x-hubspot-request-timestamp", "1700000000123"}, {"x-hubspot-signature-v3", "CJHNEdkJMqiPkeMe+OJS9qRMNR1zhVg7fm8Hz3Q70Fo="}}},
};
// clang-format on
#define VECTORS (sizeof(vectors) / sizeof(vectors[0]))

static struct str header_of(void *ctx, const char *name)
{
    const struct header *headers = ctx;

    for (size_t i = 0; i < HEADERS_MAX && headers[i].name != NULL; i++)
        if (strcmp(headers[i].name, name) == 0)
            return str_of(headers[i].value);
    return STR_NONE;
}

static struct hook_verdict check(const struct hook_scheme *scheme, const struct vector *v, const struct str *secrets,
                                 size_t count, int64_t now_s)
{
    struct arena *arena = arena_new(4096);
    struct hook_verdict verdict;
    struct header headers[HEADERS_MAX];

    memcpy(headers, v->headers, sizeof(headers));
    struct hook_message message = {STR("POST"), str_of(v->url), str_of(v->body), header_of, headers};

    hook_scheme_check(scheme, &message, secrets, count, (struct wall_us){now_s * US_PER_S}, WINDOW_US, arena, &verdict);
    verdict.id = STR_NONE;
    arena_free(arena);
    return verdict;
}

static bool genuine(const struct vector *v)
{
    struct str secret = str_of(v->secret);

    return check(hook_scheme_find(str_of(v->scheme)), v, &secret, 1, v->now_s).refused == NULL;
}

static void what_vendors_publish_is_genuine(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTORS; i++) {
        struct str secret = str_of(vectors[i].secret);
        struct hook_verdict verdict =
            check(hook_scheme_find(str_of(vectors[i].scheme)), &vectors[i], &secret, 1, vectors[i].now_s);

        if (verdict.refused != NULL)
            print_error("%s: %s\n", vectors[i].scheme, verdict.refused);
        assert_null(verdict.refused);
        assert_int_equal(strlen(verdict.nonce), 64);
    }
}

/* Twilio signs names and values, however they are encoded: %2B and %2b are the same. */
static bool means_the_same(const char *a, const char *b)
{
    CLEANUP(buf_deinit) struct buf x = {0}, y = {0};
    struct arena *arena = arena_new(4096);
    bool same;

    buf_init(&x, 4096);
    buf_init(&y, 4096);
    form_write_sorted(str_of(a), arena, &x);
    form_write_sorted(str_of(b), arena, &y);
    same = str_eq(buf_str(&x), buf_str(&y));
    arena_free(arena);
    return same;
}

static size_t flip_body(const struct vector *v)
{
    size_t len = strlen(v->body), flips = 0;
    char *body = mem_strdup(v->body);
    struct vector changed = *v;

    changed.body = body;
    for (size_t bit = 0; bit < len * 8; bit++) {
        body[bit / 8] = (char)(body[bit / 8] ^ (1 << bit % 8));
        if (genuine(&changed)) {
            assert_string_equal(v->scheme, "twilio");
            assert_true(means_the_same(body, v->body));
        }
        body[bit / 8] = v->body[bit / 8];
        flips++;
    }
    mem_free(body);
    return flips;
}

/* Signatures and times are headers, but for the Content-Type, which chooses how a body is read. */
static size_t flip_headers(const struct vector *v)
{
    size_t flips = 0;

    for (size_t i = 0; i < HEADERS_MAX && v->headers[i].name != NULL; i++) {
        struct vector changed = *v;
        char *value = mem_strdup(v->headers[i].value);

        changed.headers[i].value = value;
        for (size_t bit = 0; bit < strlen(v->headers[i].value) * 8; bit++) {
            value[bit / 8] = (char)(value[bit / 8] ^ (1 << bit % 8));
            if (strcmp(v->headers[i].name, "content-type") != 0) {
                if (genuine(&changed))
                    print_error("%s: %s %s\n", v->scheme, v->headers[i].name, value);
                assert_false(genuine(&changed));
                flips++;
            }
            value[bit / 8] = v->headers[i].value[bit / 8];
        }
        mem_free(value);
    }
    return flips;
}

static void every_bit_counts(void **state)
{
    size_t flips = 0;

    (void)state;
    for (size_t i = 0; i < VECTORS; i++) {
        if (vectors[i].covers_body)
            flips += flip_body(&vectors[i]);
        flips += flip_headers(&vectors[i]);
    }
    assert_true(flips > 10000);
}

/* Mailgun's signature is in its body: time, token and signature are what it covers. */
static void every_bit_of_what_mailgun_signs_counts(void **state)
{
    const struct vector *v = vectors;
    size_t flips = 0;

    (void)state;
    while (strcmp(v->scheme, "mailgun") != 0)
        v++;
    char *body = mem_strdup(v->body);
    struct vector changed = *v;

    changed.body = body;
    for (size_t bit = 0; bit < (size_t)(strstr(v->body, ",\"event-data") - v->body) * 8; bit++, flips++) {
        body[bit / 8] = (char)(body[bit / 8] ^ (1 << bit % 8));
        assert_false(genuine(&changed));
        body[bit / 8] = v->body[bit / 8];
    }
    mem_free(body);
    assert_true(flips > 1000);
}

static void every_bit_of_the_url_counts_where_it_is_signed(void **state)
{
    size_t schemes = 0;

    (void)state;
    for (size_t i = 0; i < VECTORS; i++) {
        const struct vector *v = &vectors[i];
        struct vector changed = *v;
        char *url = mem_strdup(v->url);

        changed.url = url;
        schemes += hook_scheme_find(str_of(v->scheme))->needs_url;
        for (size_t bit = 0; bit < strlen(v->url) * 8; bit++) {
            url[bit / 8] = (char)(url[bit / 8] ^ (1 << bit % 8));
            assert_false(genuine(&changed));
            url[bit / 8] = v->url[bit / 8];
        }
        mem_free(url);
    }
    assert_int_equal(schemes, 4);
}

static void a_time_counts_within_the_window_and_not_a_second_beyond(void **state)
{
    size_t timed = 0;

    (void)state;
    for (size_t i = 0; i < VECTORS; i++) {
        const struct vector *v = &vectors[i];
        const struct hook_scheme *scheme = hook_scheme_find(str_of(v->scheme));
        struct str secret = str_of(v->secret);

        if (scheme->time_at[0] == '\0')
            continue;
        timed++;
        assert_null(check(scheme, v, &secret, 1, v->now_s + 300).refused);
        assert_string_equal(check(scheme, v, &secret, 1, v->now_s + 302).refused, "timestamp_too_old");
        assert_null(check(scheme, v, &secret, 1, v->now_s - 299).refused);
        assert_string_equal(check(scheme, v, &secret, 1, v->now_s - 302).refused, "timestamp_in_future");
    }
    assert_int_equal(timed, 8);
}

static void the_secret_before_fits_too_and_no_other(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTORS; i++) {
        const struct vector *v = &vectors[i];
        const struct hook_scheme *scheme = hook_scheme_find(str_of(v->scheme));
        const char *other = scheme->key == SCHEME_KEY_BASE64 ? "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" : "another";
        struct str secrets[2] = {str_of(other), str_of(v->secret)};
        struct hook_verdict verdict = check(scheme, v, secrets, 2, v->now_s);

        assert_null(verdict.refused);
        assert_int_equal(verdict.secret, 1);
        assert_string_equal(check(scheme, v, secrets, 1, v->now_s).refused, "signature_differs");
        assert_string_equal(check(scheme, v, secrets, 0, v->now_s).refused, "signature_differs");
    }
}

static void without_what_a_scheme_needs_it_says_what(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTORS; i++)
        for (size_t h = 0; h < HEADERS_MAX && vectors[i].headers[h].name != NULL; h++) {
            struct vector changed = vectors[i];

            if (strcmp(changed.headers[h].value, "application/json") == 0) /* what is no form is JSON enough */
                continue;
            changed.headers[h].name = "x-nothing";
            assert_false(genuine(&changed));
        }
}

struct generic_row {
    enum digest digest;
    const char *hex, *base64, *base64url;
};

// clang-format off
/* computed with Python's hmac: key generic-key, text 1700000000.payload */
static const struct generic_row generic_rows[] = {
    {DIGEST_SHA1, "1fde380b22606964edb3b1689d1ea18b0791e17a", "H944CyJgaWTts7FonR6hiweR4Xo=", "H944CyJgaWTts7FonR6hiweR4Xo"},
    {DIGEST_SHA256, "59e4984d3e49ae90b3986509a60f29aa79db717a0320a209dc81b385e37c6d28", "WeSYTT5JrpCzmGUJpg8pqnnbcXoDIKIJ3IGzheN8bSg=", "WeSYTT5JrpCzmGUJpg8pqnnbcXoDIKIJ3IGzheN8bSg"},
    {DIGEST_SHA384, "3b30bbcb67dcc8f58a7487e0a0892ba7accd9b62a555720ca66dccba5a81260c24497025e7a2f4e50c88622fafd08838", "OzC7y2fcyPWKdIfgoIkrp6zNm2KlVXIMpm3MulqBJgwkSXAl56L05QyIYi+v0Ig4", "OzC7y2fcyPWKdIfgoIkrp6zNm2KlVXIMpm3MulqBJgwkSXAl56L05QyIYi-v0Ig4"},
    {DIGEST_SHA512, "7d60643d6b925b5bfbcd59480c55429214a3079deb8c9baf0e79f8c5a5e2ff15abab2ea4f8b885f45f8aa86fae918c8c6e58071605d9753cb4d4864ccdf977e5", "fWBkPWuSW1v7zVlIDFVCkhSjB53rjJuvDnn4xaXi/xWrqy6k+LiF9F+KqG+ukYyMblgHFgXZdTy01IZMzfl35Q==", "fWBkPWuSW1v7zVlIDFVCkhSjB53rjJuvDnn4xaXi_xWrqy6k-LiF9F-KqG-ukYyMblgHFgXZdTy01IZMzfl35Q"},
};
// clang-format on

static void a_generic_signature_is_any_digest_in_any_encoding(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(generic_rows) / sizeof(generic_rows[0]); i++)
        for (int e = ENCODING_HEX; e <= ENCODING_BASE64URL; e++) {
            struct hook_scheme scheme = *hook_scheme_find(STR("generic"));
            const char *texts[] = {generic_rows[i].hex, generic_rows[i].base64, generic_rows[i].base64url};
            char header[256];
            struct vector v = {"generic",
                               "generic-key",
                               1700000000,
                               "",
                               "payload",
                               true,
                               {{"x-sign", header}, {"x-time", "1700000000"}}};
            struct str secret = str_of(v.secret);

            snprintf(header, sizeof(header), "sig=%s", texts[e]);
            scheme.header = "x-sign";
            scheme.prefix = "sig=";
            scheme.digest = generic_rows[i].digest;
            scheme.encoding = (enum encoding)e;
            scheme.signed_text = "{timestamp}.{body}";
            scheme.time_at = "x-time";
            assert_null(check(&scheme, &v, &secret, 1, v.now_s).refused);
            for (size_t bit = 0; bit < strlen(header) * 8; bit++) {
                header[bit / 8] = (char)(header[bit / 8] ^ (1 << bit % 8));
                assert_non_null(check(&scheme, &v, &secret, 1, v.now_s).refused);
                header[bit / 8] = (char)(header[bit / 8] ^ (1 << bit % 8));
            }
        }
}

static void one_of_several_signatures_is_enough_and_nine_are_too_many(void **state)
{
    struct vector v = vectors[0];
    char header[1024];
    const char *good = v.headers[2].value;

    (void)state;
    v.headers[2].value = header;
    snprintf(header, sizeof(header), "v1,AAAA v1a,BBBB %s", good);
    assert_true(genuine(&v));
    snprintf(header, sizeof(header), "v2,%s", good + 3);
    assert_false(genuine(&v));
    snprintf(header, sizeof(header), "%s a b c d e f g h", good);
    assert_false(genuine(&v));
}

static struct hook_verdict verdict_of(const struct vector *v)
{
    struct str secret = str_of(v->secret);

    return check(hook_scheme_find(str_of(v->scheme)), v, &secret, 1, v->now_s);
}

static void a_nonce_is_of_what_is_signed_and_of_nothing_that_a_stranger_can_change(void **state)
{
    struct vector github = vectors[2], again = vectors[2];

    (void)state;
    assert_string_equal(github.scheme, "github");
    github.headers[1] = (struct header){"x-github-delivery", "one"};
    again.headers[1] = (struct header){"x-github-delivery", "two"};
    assert_string_equal(verdict_of(&github).nonce, verdict_of(&again).nonce);
    assert_string_not_equal(verdict_of(&vectors[0]).nonce, verdict_of(&github).nonce);
}

static void what_is_signed_here_is_genuine(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTORS; i++) {
        const struct vector *v = &vectors[i];
        const struct hook_scheme *scheme = hook_scheme_find(str_of(v->scheme));
        struct arena *arena = arena_new(4096);
        struct header headers[HEADERS_MAX];
        CLEANUP(buf_deinit) struct buf out = {0};
        bool public = strncmp(v->secret, "whpk_", 5) == 0;

        memcpy(headers, v->headers, sizeof(headers));
        struct hook_message message = {STR("POST"), str_of(v->url), str_of(v->body), header_of, headers};

        buf_init(&out, 4096);
        assert_int_equal(hook_scheme_sign(scheme, &message, str_of(v->secret), arena, &out), !public);
        if (!public && scheme->header[0] != '/')
            assert_true(str_eq(buf_str(&out), header_of(headers, scheme->header)));
        arena_free(arena);
    }
}

static void secrets_are_looked_at_before_they_are_used(void **state)
{
    const struct hook_scheme *standard = hook_scheme_find(STR("standard-webhooks"));

    (void)state;
    assert_null(hook_scheme_secret_fault(standard, STR("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")));
    assert_null(hook_scheme_secret_fault(standard, STR("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")));
    assert_non_null(hook_scheme_secret_fault(standard, STR("whsec_not base64!")));
    assert_non_null(hook_scheme_secret_fault(standard, STR("whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")));
    assert_non_null(hook_scheme_secret_fault(hook_scheme_find(STR("github")), STR("")));
    assert_null(hook_scheme_find(STR("github2")));
}

static void base64_is_read_strictly(void **state)
{
    static const char *const bad[] = {
        "A", "AA", "AAA", "A===", "AB==", "AAB=", "AA=A", "====", "AA A", "AAAA=", "-_AA"};
    struct arena *arena = arena_new(256);
    struct str out;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(base64_read(str_of(bad[i]), arena, &out));
    assert_true(base64_read(STR("AA=="), arena, &out) && out.len == 1 && out.ptr[0] == 0);
    assert_true(base64_read(STR("Zm9v"), arena, &out));
    assert_str_eq(out, "foo");
    assert_true(base64_read(STR(""), arena, &out) && out.len == 0);
    arena_free(arena);
}

static void a_form_is_an_object_of_strings_and_lists(void **state)
{
    struct arena *arena = arena_new(4096);
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w;

    (void)state;
    buf_init(&out, 4096);
    w = jw_to(&out);
    assert_true(form_to_json(STR("b=2&a=x+y%26&b=1&c&=&d=%C3%A9"), arena, &w));
    assert_str_eq(buf_str(&out), "{\"\":\"\",\"a\":\"x y&\",\"b\":[\"2\",\"1\"],\"c\":\"\",\"d\":\"\xc3\xa9\"}");
    w = jw_to(&out);
    assert_false(form_to_json(STR("a=%zz"), arena, &w));
    assert_false(form_to_json(STR("a=%ff"), arena, &w));
    assert_false(form_to_json(STR("a=%00"), arena, &w));
    arena_free(arena);
}

RUN(TEST(what_vendors_publish_is_genuine), TEST(every_bit_counts), TEST(every_bit_of_what_mailgun_signs_counts),
    TEST(every_bit_of_the_url_counts_where_it_is_signed), TEST(a_time_counts_within_the_window_and_not_a_second_beyond),
    TEST(the_secret_before_fits_too_and_no_other), TEST(without_what_a_scheme_needs_it_says_what),
    TEST(a_generic_signature_is_any_digest_in_any_encoding),
    TEST(one_of_several_signatures_is_enough_and_nine_are_too_many),
    TEST(a_nonce_is_of_what_is_signed_and_of_nothing_that_a_stranger_can_change), TEST(what_is_signed_here_is_genuine),
    TEST(secrets_are_looked_at_before_they_are_used), TEST(base64_is_read_strictly),
    TEST(a_form_is_an_object_of_strings_and_lists))
