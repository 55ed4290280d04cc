/* ropewalk: the command line. Exit codes: 0 done, 1 the run ended otherwise than succeeded, 2 usage or settings,
 * 3 refused by the server, 4 not reachable, 5 the wait was over. */
#include "cli/cli.h"
#include <curl/curl.h>
#include <errno.h>
#include <stdarg.h>
#include "common/base/banned.h"

static const char help[] =
    "usage: ropewalk COMMAND [OPTIONS]\n"
    "\n"
    "  apply FILE...                 save workflows (YAML or JSON; - for standard input)\n"
    "  validate FILE...              say all that is wrong with them, save nothing\n"
    "  run WORKFLOW                  start a run and print its id\n"
    "      --input JSON|@FILE          its input (default {})\n"
    "      --label KEY=VALUE           may be repeated\n"
    "      --idempotency-key KEY       the same key starts one run, however often it is sent\n"
    "      --wait                      until it has ended; prints its output\n"
    "      --watch                     the same, and show each step on the way\n"
    "      --timeout SECONDS           how long to wait (then exit 5; the run goes on)\n"
    "  get run ID | workflow NAME    one, whole\n"
    "  list runs | workflows | keys  newest first; --workflow, --status, --label KEY=VALUE, --limit N\n"
    "  events RUN [-f]               its history; -f follows it to the end\n"
    "  explain RUN                   why it is not moving\n"
    "  keys list | create NAME --role ROLE | revoke ID\n"
    "\n"
    "  -o json|table                 the server's answer as it came, or a table (default)\n"
    "\n"
    "settings: ROPEWALK_URL, ROPEWALK_API_KEY or ROPEWALK_API_KEY_FILE\n";

static const struct {
    const char *name;
    enum cli_exit (*run)(struct cli *cli);
} commands[] = {
    {"apply", cmd_apply}, {"validate", cmd_validate}, {"run", cmd_run},         {"get", cmd_get},
    {"list", cmd_list},   {"events", cmd_events},     {"explain", cmd_explain}, {"keys", cmd_keys},
};

enum cli_exit usage_error(const char *format, ...)
{
    va_list args;

    (void)fputs("ropewalk: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputs("\n  'ropewalk --help' lists the commands\n", stderr);
    return CLI_USAGE;
}

static void drop(struct cli *cli, int index, int count)
{
    for (int i = index; i + count < cli->argc; i++)
        cli->argv[i] = cli->argv[i + count];
    cli->argc -= count;
}

const char *take_option(struct cli *cli, const char *name)
{
    size_t len = strlen(name);

    for (int i = 0; i < cli->argc; i++) {
        const char *arg = cli->argv[i];
        if (strcmp(arg, name) == 0 && i + 1 < cli->argc) {
            const char *value = cli->argv[i + 1];
            drop(cli, i, 2);
            return value;
        }
        if (strncmp(arg, name, len) == 0 && arg[len] == '=') {
            drop(cli, i, 1);
            return arg + len + 1;
        }
    }
    return NULL;
}

bool take_flag(struct cli *cli, const char *name)
{
    for (int i = 0; i < cli->argc; i++) {
        if (strcmp(cli->argv[i], name) == 0) {
            drop(cli, i, 1);
            return true;
        }
    }
    return false;
}

bool words_left(struct cli *cli, int min, int max)
{
    for (int i = 0; i < cli->argc; i++) {
        if (cli->argv[i][0] == '-' && cli->argv[i][1] != '\0') {
            (void)usage_error("unknown option '%s', or its value is missing", cli->argv[i]);
            return false;
        }
    }
    if (cli->argc < min || cli->argc > max) {
        (void)usage_error(cli->argc < min ? "a word is missing" : "too many words");
        return false;
    }
    return true;
}

/* The key itself, or the first line of the file that ROPEWALK_API_KEY_FILE names. */
static char *load_key(void)
{
    const char *key = getenv("ROPEWALK_API_KEY");
    const char *path = getenv("ROPEWALK_API_KEY_FILE");
    char line[512] = "";
    FILE *file;

    if (key != NULL && *key != '\0')
        return mem_strdup(key);
    if (path == NULL || *path == '\0') {
        (void)usage_error("ROPEWALK_API_KEY or ROPEWALK_API_KEY_FILE must be set");
        return NULL;
    }
    file = fopen(path, "r");
    if (file == NULL || fgets(line, sizeof(line), file) == NULL) {
        (void)usage_error("cannot read ROPEWALK_API_KEY_FILE '%s': %s", path, strerror(errno));
        if (file != NULL)
            (void)fclose(file);
        return NULL;
    }
    (void)fclose(file);
    line[strcspn(line, "\r\n")] = '\0';
    return mem_strdup(line);
}

static bool load_settings(struct cli *cli, char **url)
{
    const char *setting = getenv("ROPEWALK_URL");
    size_t len;

    if (setting == NULL || *setting == '\0') {
        (void)usage_error("ROPEWALK_URL must be set, for example http://127.0.0.1:8080");
        return false;
    }
    if (strncmp(setting, "http://", 7) != 0 && strncmp(setting, "https://", 8) != 0) {
        (void)usage_error("ROPEWALK_URL '%s' must begin with http:// or https://", setting);
        return false;
    }
    cli->key = load_key();
    if (cli->key == NULL)
        return false;
    len = strlen(setting);
    while (len > 0 && setting[len - 1] == '/')
        len--;
    *url = mem_dup(setting, len);
    cli->url = *url;
    return true;
}

static enum cli_exit run_command(struct cli *cli, const char *name)
{
    const char *format = take_option(cli, "-o");
    char *url = NULL;
    enum cli_exit rc;

    if (format != NULL && strcmp(format, "json") != 0 && strcmp(format, "table") != 0)
        return usage_error("-o takes json or table, not '%s'", format);
    cli->json = format != NULL && strcmp(format, "json") == 0;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(name, commands[i].name) != 0)
            continue;
        if (!load_settings(cli, &url))
            return CLI_USAGE;
        rc = commands[i].run(cli);
        mem_free(url);
        mem_free(cli->key);
        return rc;
    }
    return usage_error("there is no command '%s'", name);
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    enum cli_exit rc;

    if (argc < 2) {
        (void)fputs(help, stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        (void)fputs(help, stdout);
        return CLI_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)puts("ropewalk " ROPEWALK_VERSION);
        return CLI_DONE;
    }
    cli.argc = argc - 2;
    cli.argv = argv + 2;
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    rc = run_command(&cli, argv[1]);
    curl_global_cleanup();
    if (fflush(stdout) != 0 && rc == CLI_DONE)
        rc = CLI_USAGE;
    return (int)rc;
}
