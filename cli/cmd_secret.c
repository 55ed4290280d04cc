/* secret: values that are written and never read back. A value comes from standard input or from a terminal that does
 * not show it, never from the command line, where others could read it. */
#include "cli/cli.h"
#include "common/base/json_text.h"
#include <errno.h>
#include <termios.h>
#include <unistd.h>

#include "common/base/banned.h"

#define VALUE_MAX ((size_t)64 << 10)

static void wipe(char *text, size_t len)
{
    explicit_bzero(text, len);
}

/* All of standard input, at most `max` bytes and one more. False with errno. */
static bool read_input(char *text, size_t max, bool line, size_t *ret_len)
{
    size_t len = 0;
    ssize_t n = 0;

    while (len <= max && !(line && len > 0 && text[len - 1] == '\n')) {
        n = read(STDIN_FILENO, text + len, max + 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    *ret_len = len;
    return n >= 0;
}

/* From a terminal: asked for, without showing it. */
static bool read_hidden(const char *name, char *text, size_t max, size_t *ret_len)
{
    struct termios shown, hidden;
    bool good;

    if (tcgetattr(STDIN_FILENO, &shown) != 0)
        return false;
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
    (void)fprintf(stderr, "value of %s: ", name);
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden) != 0)
        return false;
    good = read_input(text, max, true, ret_len);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    (void)fputc('\n', stderr);
    return good;
}

/* Without the one line end that editors and `echo` put behind it. */
char *secret_read(const char *name, size_t *ret_len)
{
    char *text = mem_alloc(VALUE_MAX + 3);
    size_t len = 0;
    bool good = isatty(STDIN_FILENO) ? read_hidden(name, text, VALUE_MAX + 1, &len)
                                     : read_input(text, VALUE_MAX + 1, false, &len);

    if (good && len > 0 && text[len - 1] == '\n')
        len--;
    if (good && len > 0 && text[len - 1] == '\r')
        len--;
    if (good && len > 0 && len <= VALUE_MAX) {
        *ret_len = len;
        return text;
    }
    (void)usage_error(!good      ? "the value could not be read from standard input"
                      : len == 0 ? "there is no value: give it on standard input"
                                 : "the value has more than 65536 bytes");
    wipe(text, VALUE_MAX + 3);
    mem_free(text);
    return NULL;
}

static char *path_of(const char *name)
{
    char *escaped = api_escape(name);
    struct buf path;
    size_t len;

    buf_init(&path, 1 << 16);
    buf_printf(&path, "/v1/secrets/%s", escaped);
    mem_free(escaped);
    return buf_take(&path, &len);
}

static enum cli_exit secret_set(struct cli *cli)
{
    CLEANUP(mem_cleanup) char *path = NULL;
    struct answer answer;
    enum cli_exit rc;
    struct buf body;
    struct jw w;
    size_t len;
    char *value;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    value = secret_read(cli->argv[0], &len);
    if (value == NULL)
        return CLI_USAGE;
    path = path_of(cli->argv[0]);
    buf_init(&body, 8 * VALUE_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kstr(&w, "value", (struct str){value, len});
    jw_end_obj(&w);
    wipe(value, len);
    mem_free(value);
    rc = api_call(cli, &(struct api_request){.method = "PUT", .path = path, .body = buf_str(&body)}, &answer);
    wipe(body.ptr, body.cap);
    buf_deinit(&body);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        printf("%s version %lld\n", cli->argv[0], json_int(answer.json, "version"));
    answer_deinit(&answer);
    return CLI_DONE;
}

static enum cli_exit secret_delete(struct cli *cli)
{
    CLEANUP(mem_cleanup) char *path = NULL;
    struct answer answer;
    enum cli_exit rc;

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    path = path_of(cli->argv[0]);
    rc = api_call(cli, &(struct api_request){.method = "DELETE", .path = path}, &answer);
    if (rc != CLI_DONE)
        return rc;
    if (cli->json)
        print_answer(cli, &answer);
    else
        printf("deleted %s\n", cli->argv[0]);
    answer_deinit(&answer);
    return CLI_DONE;
}

/* Slice after slice until nothing remains; ended in the middle, the next call goes on. The answers differ in what they
 * call the key. */
static enum cli_exit secret_rotate(struct cli *cli)
{
    bool master = take_flag(cli, "--master-key");
    const char *path = master ? "/v1/secrets:rewrap" : "/v1/secrets:rotate",
               *again = master ? "{}" : "{\"continue\":true}";
    struct answer answer;
    long long done = 0, remaining = 1;
    enum cli_exit rc;

    if (!words_left(cli, 0, 0))
        return CLI_USAGE;
    for (const char *body = "{}"; remaining > 0; body = again) {
        rc = api_call(cli, &(struct api_request){.method = "POST", .path = path, .body = str_of(body)}, &answer);
        if (rc != CLI_DONE)
            return rc;
        done += json_int(answer.json, "done");
        remaining = json_int(answer.json, "remaining");
        if (cli->json) {
            print_answer(cli, &answer);
        } else if (remaining == 0 && master) {
            printf("%lld data keys wrapped with master key ", done);
            print_clean(stdout, text_or(json_text(answer.json, "master_key"), ""));
            (void)putchar('\n');
        } else if (remaining == 0) {
            printf("%lld secrets sealed with data key %lld\n", done, json_int(answer.json, "key_version"));
        }
        answer_deinit(&answer);
    }
    return CLI_DONE;
}

enum cli_exit cmd_secret(struct cli *cli)
{
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";

    cli->argv++;
    cli->argc--;
    if (strcmp(verb, "list") == 0)
        return list_things(cli, "secrets");
    if (strcmp(verb, "set") == 0)
        return secret_set(cli);
    if (strcmp(verb, "delete") == 0)
        return secret_delete(cli);
    if (strcmp(verb, "rotate") == 0)
        return secret_rotate(cli);
    return usage_error("secret takes list, set, delete or rotate");
}
