/* CloudEvents: the specification's own examples are read, and each rule has an event that breaks it alone. */
#include "common/cloudevent/cloudevent.h"
#include "tests/unit/base/test.h"

#include "common/base/banned.h"

#define NEEDED "\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/x\",\"type\":\"t\""

struct told {
    size_t count;
    char first[128]; /* "code pointer" */
};

static void on_fault(void *ctx, const char *code, const char *pointer, const char *message)
{
    struct told *told = ctx;

    assert_true(message[0] != '\0');
    if (told->count++ == 0)
        snprintf(told->first, sizeof(told->first), "%s %s", code, pointer);
}

/* "" when it is good, else the first fault and how many there are. */
static const char *read_text(struct arena *arena, const char *text, struct cloudevent *ret)
{
    struct told told = {0};
    struct err err;
    bool good;

    assert_true(jt_check(str_of(text), &JT_LIMITS_API, &err) == ERR_OK);
    good = cloudevent_read(str_of(text), arena, on_fault, &told, ret);
    assert_true(good == (told.count == 0));
    return told.count > 1 ? arena_printf(arena, "%s (%zu)", told.first, told.count)
                          : arena_printf(arena, "%s", told.first);
}

static void examples_of_the_specification_are_read(void **state)
{
    /* JSON format 1.0.2, 3.2: with data, with base64, without a content type */
    static const char *const examples[] = {
        "{\"specversion\":\"1.0\",\"type\":\"com.example.someevent\",\"source\":\"/"
        "mycontext\",\"subject\":null,\"id\":\"C234-1234-1234\","
        "\"time\":\"2018-04-05T17:31:00Z\",\"comexampleextension1\":\"value\",\"comexampleothervalue\":5,"
        "\"datacontenttype\":\"application/json\","
        "\"data\":{\"appinfoA\":\"abc\",\"appinfoB\":123,\"appinfoC\":true}}",
        "{\"specversion\":\"1.0\",\"type\":\"com.example.someevent\",\"source\":\"/"
        "mycontext\",\"id\":\"B234-1234-1234\","
        "\"time\":\"2018-04-05T17:31:00Z\",\"unsetextension\":null,\"datacontenttype\":\"application/"
        "vnd.apache.thrift.binary\","
        "\"data_base64\":\"aGVsbG8=\"}",
        "{\"specversion\":\"1.0\",\"type\":\"com.example.someevent\",\"source\":\"/"
        "mycontext\",\"id\":\"A234-1234-1234\","
        "\"data\":\"I'm just a string\"}",
        "{\"specversion\":\"1.0\",\"type\":\"t\",\"source\":\"https://github.com/cloudevents/spec/"
        "pull\",\"subject\":\"123\",\"id\":\"1\"}",
        "{\"specversion\":\"1.0\",\"type\":\"t\",\"source\":\"urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66\",\"id\":"
        "\"1\"}",
        "{\"specversion\":\"1.0\",\"type\":\"t\",\"source\":\"mailto:cncf-wg-serverless@lists.cncf.io\",\"id\":\"1\"}",
        "{\"specversion\":\"1.0\",\"type\":\"t\",\"source\":\"1-555-123-4567\",\"id\":\"1\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
        struct cloudevent event;

        assert_string_equal(read_text(arena, examples[i], &event), "");
        assert_true(str_eq(event.json, str_of(examples[i])) && event.id.len > 0);
        assert_true(i != 0 || (str_is(event.data, "{\"appinfoA\":\"abc\",\"appinfoB\":123,\"appinfoC\":true}") &&
                               event.subject.ptr == NULL));
        assert_true(i != 1 || str_is(event.data, "\"aGVsbG8=\""));
        assert_true(i != 3 || (str_is(event.data, "null") && str_is(event.subject, "123")));
    }
}

static void each_rule_is_held(void **state)
{
    static const struct {
        const char *text, *fault;
    } cases[] = {
        {"[]", "wrong_type "},
        {"{}", "missing_field /specversion (4)"},
        {"{\"specversion\":\"1.0\",\"id\":null,\"source\":\"/x\",\"type\":\"t\"}", "missing_field /id"},
        {"{\"specversion\":1.0,\"id\":\"1\",\"source\":\"/x\",\"type\":\"t\"}", "wrong_type /specversion"},
        {"{\"specversion\":\"1.1\",\"id\":\"1\",\"source\":\"/x\",\"type\":\"t\"}", "out_of_range /specversion"},
        {"{\"specversion\":\"1.0\",\"id\":\"\",\"source\":\"/x\",\"type\":\"t\"}", "out_of_range /id"},
        {"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/%2\",\"type\":\"t\"}", "out_of_range /source"},
        {"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/\\u00e9\",\"type\":\"t\"}", "out_of_range /source"},
        {"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/x\",\"type\":\"a\\u0085\"}", "out_of_range /type"},
        {"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/x\",\"type\":\"a\\uffff\"}", "out_of_range /type"},
        {"{" NEEDED ",\"subject\":\"\"}", "out_of_range /subject"},
        {"{" NEEDED ",\"time\":\"2026-11-22\"}", "out_of_range /time"},
        {"{" NEEDED ",\"time\":\"2026-11-22T04:00:00.5+01:00\"}", ""},
        {"{" NEEDED ",\"datacontenttype\":\"json\"}", "out_of_range /datacontenttype"},
        {"{" NEEDED ",\"datacontenttype\":\"text/plain; charset=utf-8\"}", ""},
        {"{" NEEDED ",\"dataschema\":\"/order.json\"}", "out_of_range /dataschema"},
        {"{" NEEDED ",\"dataschema\":\"urn:order:1\"}", ""},
        {"{" NEEDED ",\"my_name\":\"x\"}", "unknown_field /my_name"},
        {"{" NEEDED ",\"a/b\":\"x\"}", "unknown_field /a~1b"},
        {"{" NEEDED ",\"n\":2147483648}", "out_of_range /n"},
        {"{" NEEDED ",\"n\":-2147483648,\"b\":false}", ""},
        {"{" NEEDED ",\"n\":0.5}", "out_of_range /n"},
        {"{" NEEDED ",\"n\":[]}", "wrong_type /n"},
        {"{" NEEDED ",\"data_base64\":7}", "wrong_type /data_base64"},
        {"{" NEEDED ",\"data_base64\":\"AA\"}", "out_of_range /data_base64"},
        {"{" NEEDED ",\"data\":1,\"data_base64\":\"AAAA\"}", "unknown_field /data_base64"},
        {"{" NEEDED ",\"data\":1,\"data_base64\":null}", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
        struct cloudevent event;

        assert_string_equal(read_text(arena, cases[i].text, &event), cases[i].fault);
    }
}

static void lengths_have_bounds(void **state)
{
    static const struct {
        const char *name;
        size_t most;
    } bounds[] = {{"id", CLOUDEVENT_ID_MAX},
                  {"type", CLOUDEVENT_TYPE_MAX},
                  {"source", CLOUDEVENT_SOURCE_MAX},
                  {"subject", CLOUDEVENT_SOURCE_MAX}};

    (void)state;
    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++)
        for (size_t more = 0; more < 2; more++) {
            CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
            CLEANUP(buf_deinit) struct buf text = {0};
            struct cloudevent event;
            struct jw w = jw_to(&text);
            char *value = arena_alloc(arena, bounds[i].most + 2);

            memset(value, 'x', bounds[i].most + more);
            buf_init(&text, 1 << 20);
            jw_obj(&w);
            jw_kcstr(&w, "specversion", "1.0");
            for (size_t k = 0; k < 4; k++)
                jw_kcstr(&w, bounds[k].name, k == i ? value : "x");
            jw_end_obj(&w);
            assert_string_equal(read_text(arena, text.ptr, &event),
                                more == 0 ? "" : arena_printf(arena, "out_of_range /%s", bounds[i].name));
        }
}

static void an_event_is_put_together_of_its_parts(void **state)
{
    const struct cloudevent_attribute attributes[] = {{STR("specversion"), STR("1.0")},
                                                      {STR("id"), STR("1")},
                                                      {STR("source"), STR("/x")},
                                                      {STR("type"), STR("t")},
                                                      {STR("n"), STR("7")}};
    static const struct {
        const char *type, *data, *json;
    } cases[] = {
        {"application/json", " {\"n\": 0.10} ", "\"datacontenttype\":\"application/json\",\"data\":{\"n\": 0.10}}"},
        {"application/vnd.x+JSON; v=1", "1", "\"datacontenttype\":\"application/vnd.x+JSON; v=1\",\"data\":1}"},
        {"text/plain", "a\nb", "\"datacontenttype\":\"text/plain\",\"data\":\"a\\nb\"}"},
        {"text/plain", "\xff", "\"datacontenttype\":\"text/plain\",\"data_base64\":\"/w==\"}"},
        {"application/avro", "hello", "\"datacontenttype\":\"application/avro\",\"data_base64\":\"aGVsbG8=\"}"},
        {NULL, "", "\"n\":\"7\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
        struct told told = {0};
        struct cloudevent event;
        size_t len = strlen(cases[i].json);

        assert_true(cloudevent_assemble(attributes, 5, str_of(cases[i].type), str_of(cases[i].data), &JT_LIMITS_API,
                                        arena, on_fault, &told, &event));
        assert_true(event.json.len > len && memcmp(event.json.ptr + event.json.len - len, cases[i].json, len) == 0);
        assert_true(str_is(event.id, "1") && str_is(event.source, "/x"));
    }
}

static void parts_that_do_not_fit_are_refused(void **state)
{
    const struct cloudevent_attribute twice[] = {{STR("id"), STR("1")}, {STR("id"), STR("1")}};
    const struct cloudevent_attribute data[] = {{STR("data"), STR("1")}};
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct told told = {0};
    struct cloudevent event;

    (void)state;
    assert_true(!cloudevent_assemble(twice, 2, STR_NONE, STR(""), &JT_LIMITS_API, arena, on_fault, &told, &event));
    assert_string_equal(told.first, "duplicate_key /id");
    told = (struct told){0};
    assert_true(!cloudevent_assemble(data, 1, STR_NONE, STR(""), &JT_LIMITS_API, arena, on_fault, &told, &event));
    assert_string_equal(told.first, "unknown_field /data");
    told = (struct told){0};
    assert_true(!cloudevent_assemble(twice, 1, STR("application/json"), STR("{"), &JT_LIMITS_API, arena, on_fault,
                                     &told, &event));
    assert_string_equal(told.first, "not_json /data");
}

RUN(TEST(examples_of_the_specification_are_read), TEST(each_rule_is_held), TEST(lengths_have_bounds),
    TEST(an_event_is_put_together_of_its_parts), TEST(parts_that_do_not_fit_are_refused))
