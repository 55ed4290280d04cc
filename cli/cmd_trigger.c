/* trigger: what starts runs of a workflow, and a sample of it, signed here as its sender would sign it. */
#include "cli/document.h"
#include "common/base/id.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

#define HEADERS_MAX 6
#define BODY_MAX ((size_t)8 << 20)

/* The workflow of the first word, and what its organisation is called. */
static enum cli_exit get_workflow(const struct cli *cli, struct answer *ret, char **ret_organisation)
{
    struct answer stats;
    enum cli_exit rc = api_call(cli, &(struct api_request){.method = "GET", .path = "/v1/stats"}, &stats);

    if (rc != CLI_DONE)
        return rc;
    rc = api_get(cli, "/v1/workflows/", cli->argv[0], "", ret);
    if (rc == CLI_DONE)
        *ret_organisation = mem_strdup(text_or(json_text(stats.json, "organisation"), ""));
    answer_deinit(&stats);
    return rc;
}

/* "/hooks/{organisation}/{workflow}/{trigger}": names need no escapes. */
static void put_path(struct buf *out, const char *organisation, const char *workflow, const char *trigger)
{
    buf_printf(out, "/hooks/%s/%s/%s", organisation, workflow, trigger);
}

/* ---- list ---- */

static const char *kind_of(const json_t *trigger)
{
    static const char *const kinds[] = {"webhook", "cron", "every", "at", "event"};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (json_object_get(trigger, kinds[i]) != NULL)
            return kinds[i];
    return NULL;
}

/* "debounce 5s", "throttle 10 per 1m, drop", "batch 10 or 30s"; nothing for a trigger whose arrivals start at once. */
static const char *pacing_of(const json_t *trigger, struct buf *out)
{
    const json_t *debounce = json_object_get(trigger, "debounce"), *throttle = json_object_get(trigger, "throttle"),
                 *batch = json_object_get(trigger, "batch");

    if (debounce != NULL)
        buf_printf(out, "debounce %s", text_or(json_text(debounce, "period"), ""));
    else if (throttle != NULL)
        buf_printf(out, "throttle %lld per %s, %s", json_int(throttle, "limit"),
                   text_or(json_text(throttle, "per"), ""), text_or(json_text(throttle, "on_limit"), "queue"));
    else if (batch != NULL)
        buf_printf(out, "batch %lld or %s", json_int(batch, "max_size"), text_or(json_text(batch, "timeout"), ""));
    return out->len == 0 ? NULL : out->ptr;
}

static void print_triggers(const struct cli *cli, const json_t *triggers, const char *organisation)
{
    static const char *const titles[] = {"TRIGGER", "KIND", "ENABLED", "SIGNATURE", "PACING", "URL", NULL};
    struct table *table = table_new(titles);
    const char *name;
    json_t *trigger;

    json_object_foreach((json_t *)triggers, name, trigger)
    {
        CLEANUP(buf_deinit) struct buf url = {0}, pacing = {0};
        const json_t *webhook = json_object_get(trigger, "webhook");
        bool enabled = !json_is_false(json_object_get(trigger, "enabled"));

        buf_init(&pacing, 256);
        buf_init(&url, 8192);
        buf_append_str(&url, str_of(cli->url));
        put_path(&url, organisation, cli->argv[0], name);
        table_row(table, (const char *const[]){name, kind_of(trigger), enabled ? "yes" : "no",
                                               json_text(json_object_get(webhook, "signature"), "scheme"),
                                               pacing_of(trigger, &pacing), webhook == NULL ? NULL : url.ptr});
    }
    table_print(table);
}

static enum cli_exit list(struct cli *cli)
{
    CLEANUP(mem_cleanup) char *organisation = NULL;
    struct answer answer;
    enum cli_exit rc;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    rc = get_workflow(cli, &answer, &organisation);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json) {
        struct str triggers = jt_get(answer_member(&answer, "document"), "triggers");

        print_document(cli, triggers.ptr == NULL ? STR("{}") : triggers);
    } else {
        print_triggers(cli, json_object_get(json_object_get(answer.json, "document"), "triggers"), organisation);
    }
    answer_deinit(&answer);
    return CLI_DONE;
}

/* ---- test ---- */

struct header {
    const char *name;
    struct str value;
};

struct sample {
    const struct plan_webhook *webhook;
    struct hook_scheme scheme;
    struct arena *arena;
    struct str secret, body;
    struct header headers[HEADERS_MAX];
    size_t header_count;
    struct str id, time; /* ours */
};

static struct str header_of(void *ctx, const char *name)
{
    const struct sample *s = ctx;

    for (size_t i = 0; i < s->header_count; i++)
        if (strcmp(s->headers[i].name, name) == 0)
            return s->headers[i].value;
    return STR_NONE;
}

static void put_header(struct sample *s, const char *name, struct str value)
{
    s->headers[s->header_count++] = (struct header){name, value};
}

static struct str sign(struct sample *s)
{
    struct hook_message message = {STR("POST"), s->webhook->url, s->body, header_of, s};
    struct buf *out = arena_alloc(s->arena, sizeof(*out));

    buf_init(out, BODY_MAX);
    arena_defer(s->arena, (void (*)(void *))buf_deinit, out);
    return hook_scheme_sign(&s->scheme, &message, s->secret, s->arena, out) ? buf_str(out) : STR_NONE;
}

/* A body that such a sender could send, and that no other delivery is equal to. */
static void make_body(struct sample *s)
{
    const char *id = arena_printf(s->arena, STR_FMT, STR_ARG(s->id));
    const char *text;

    if (strstr(s->scheme.signed_text, "{form}") != NULL)
        text = arena_printf(s->arena, "sample=%s", id);
    else if (s->scheme.header[0] == '/') /* goes on with the signature */
        text = arena_printf(s->arena, "{\"signature\":{\"timestamp\":\"" STR_FMT "\",\"token\":\"%s\"",
                            STR_ARG(s->time), id);
    else if (s->scheme.time_at[0] == '/')
        text = arena_printf(s->arena, "{\"sample\":\"%s\",\"webhookTimestamp\":" STR_FMT "}", id, STR_ARG(s->time));
    else
        text = arena_printf(s->arena, "{\"sample\":\"%s\"}", id);
    s->body = str_of(text);
}

static void put_signed_headers(struct sample *s)
{
    const struct hook_scheme *scheme = &s->scheme;

    if (scheme->time_at[0] == '=') /* the time is a part of the signature: a beginning of one is read */
        put_header(s, scheme->header,
                   str_of(arena_printf(s->arena, "%s=" STR_FMT, scheme->time_at + 1, STR_ARG(s->time))));
    else if (scheme->time_at[0] != '\0' && scheme->time_at[0] != '/')
        put_header(s, scheme->time_at, s->time);
    if (scheme->id_at[0] != '\0' && scheme->id_at[0] != '/')
        put_header(s, scheme->id_at, s->id);
}

/* Mailgun's signature stands in the body, and covers time and token alone. */
static bool sign_body(struct sample *s)
{
    struct str open = s->body, signature;

    s->body = str_of(arena_printf(s->arena, STR_FMT "}}", STR_ARG(open)));
    signature = sign(s);
    s->body =
        str_of(arena_printf(s->arena, STR_FMT ",\"signature\":\"" STR_FMT "\"}}", STR_ARG(open), STR_ARG(signature)));
    return signature.ptr != NULL;
}

static bool sign_header(struct sample *s)
{
    struct str signature = sign(s);

    if (signature.ptr == NULL)
        return false;
    if (s->scheme.time_at[0] == '=')
        s->header_count--;
    put_header(s, s->scheme.header, signature);
    return true;
}

/* False: said why. */
static bool make_sample(struct sample *s, struct str given)
{
    struct wall_us now = clock_wall();
    struct run_id id = run_id_make(now, 0);
    bool form, made;
    char *name = arena_alloc(s->arena, UUID_TEXT_SIZE);

    run_id_format(id, name);
    s->id = str_of(name);
    if (s->scheme.time_unit_us > 0)
        s->time = str_of(arena_printf(s->arena, "%lld", (long long)(now.us / s->scheme.time_unit_us)));
    form = given.ptr == NULL && strstr(s->scheme.signed_text, "{form}") != NULL;
    put_header(s, "content-type", form ? STR("application/x-www-form-urlencoded") : STR("application/json"));
    if (given.ptr != NULL && (s->scheme.header[0] == '/' || strstr(s->scheme.signed_text, "{form}") != NULL)) {
        (void)usage_error("this sender's signature stands in the body, or covers a form: leave --body out");
        return false;
    }
    put_signed_headers(s);
    if (given.ptr != NULL)
        s->body = given;
    else
        make_body(s);
    made = s->webhook->scheme.ptr == NULL || (s->scheme.header[0] == '/' ? sign_body(s) : sign_header(s));
    if (!made)
        (void)usage_error("nothing can be signed with this secret: it is no secret of its scheme, or a public key");
    return made;
}

static enum cli_exit send_sample(const struct cli *cli, const struct sample *s, const char *organisation)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    const char *lines[HEADERS_MAX + 1] = {NULL};
    struct answer answer;
    enum cli_exit rc;

    for (size_t i = 0; i < s->header_count; i++)
        lines[i] = arena_printf(s->arena, "%s: " STR_FMT, s->headers[i].name, STR_ARG(s->headers[i].value));
    buf_init(&path, 4096);
    put_path(&path, organisation, cli->argv[0], cli->argv[1]);
    rc = api_call(
        cli,
        &(struct api_request){.method = "POST", .path = path.ptr, .body = s->body, .stranger = true, .headers = lines},
        &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        printf("%s\n", text_or(json_text(answer.json, "run_id"), text_or(json_text(answer.json, "status"), "")));
    answer_deinit(&answer);
    return CLI_DONE;
}

/* The first secret, as the document has it or as standard input does. False: said why. */
static bool find_secret(struct sample *s, bool from_stdin)
{
    const struct plan_secret *secret = &s->webhook->secrets[0];
    size_t len;
    char *value;

    if (s->webhook->scheme.ptr == NULL)
        return true;
    if (!from_stdin && s->webhook->secret_count > 0 && !secret->named) {
        s->secret = secret->text;
        return true;
    }
    if (!from_stdin) {
        (void)usage_error("the document names the secret '" STR_FMT
                          "', which nobody can read back: give it with --secret-from-stdin",
                          STR_ARG(secret->text));
        return false;
    }
    value = secret_read("the signature's secret", &len);
    if (value == NULL)
        return false;
    s->secret = str_arena(s->arena, (struct str){value, len});
    explicit_bzero(value, len);
    mem_free(value);
    return true;
}

static enum cli_exit test_with(struct cli *cli, const struct plan *plan, struct str given, bool from_stdin,
                               const char *organisation)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    const struct plan_trigger *trigger = plan == NULL ? NULL : plan_find_trigger(plan, str_of(cli->argv[1]));
    struct sample sample = {.arena = arena, .secret = STR_NONE};

    if (trigger == NULL || trigger->kind != TRIGGER_WEBHOOK)
        return usage_error("'%s' has no webhook '%s'", cli->argv[0], cli->argv[1]);
    sample.webhook = &trigger->webhook;
    sample.scheme = *hook_scheme_find(STR("generic"));
    if (trigger->webhook.scheme.ptr != NULL)
        sample.scheme = plan_webhook_scheme(&trigger->webhook, arena);
    if (!find_secret(&sample, from_stdin) || !make_sample(&sample, given))
        return CLI_USAGE;
    return send_sample(cli, &sample, organisation);
}

/* A file goes byte for byte: whoever keeps a recorded delivery wants that. */
static bool read_body(const char *value, char **ret_file, struct str *ret)
{
    size_t len;

    *ret = value == NULL ? STR_NONE : str_of(value);
    if (value == NULL || value[0] != '@')
        return true;
    *ret_file = read_file(value + 1, &len);
    *ret = (struct str){*ret_file, len};
    return *ret_file != NULL;
}

static enum cli_exit test(struct cli *cli)
{
    CLEANUP(mem_cleanup) char *organisation = NULL, *file = NULL;
    bool from_stdin = take_flag(cli, "--secret-from-stdin");
    const char *body = take_option(cli, "--body");
    struct answer answer;
    struct plan *plan;
    enum cli_exit rc;
    struct str given;

    if (!words_left(cli, 2, 2) || !read_body(body, &file, &given))
        return CLI_USAGE;
    rc = get_workflow(cli, &answer, &organisation);
    if (rc != CLI_DONE)
        return rc;
    plan = document_compile(answer_member(&answer, "document"));
    rc = test_with(cli, plan, given, from_stdin, organisation);
    plan_unref(plan);
    answer_deinit(&answer);
    return rc;
}

enum cli_exit cmd_trigger(struct cli *cli)
{
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";

    cli->argv++;
    cli->argc--;
    if (strcmp(verb, "list") == 0)
        return list(cli);
    if (strcmp(verb, "test") == 0)
        return test(cli);
    return usage_error("trigger takes list or test");
}
