/* ropewalk: the command line. Exit codes: 0 done, 1 the run ended otherwise than succeeded, 2 usage or settings,
 * 3 refused by the server, 4 not reachable, 5 the wait was over. */
#include "cli/cli.h"
#include <curl/curl.h>

#include "common/base/banned.h"

static const char help[] =
    "usage: ropewalk COMMAND [OPTIONS]\n"
    "\n"
    "  apply FILE...                 save workflows (YAML or JSON; - for standard input)\n"
    "  validate FILE...              say all that is wrong with them, save nothing\n"
    "  run WORKFLOW                  start a run and print its id\n"
    "      --input JSON|@FILE          its input (default {}); a file may be YAML\n"
    "      --label KEY=VALUE           may be repeated\n"
    "      --priority CLASS            critical, high, normal or low\n"
    "      --idempotency-key KEY       the same key starts one run, however often it is sent\n"
    "      --wait                      until it has ended; prints its output\n"
    "      --watch                     the same, and show each step on the way\n"
    "      --timeout SECONDS           how long to wait (then exit 5; the run goes on)\n"
    "  get run ID | workflow NAME    one, whole\n"
    "  list [runs|workflows|keys|dead-letters]   newest first; of runs --workflow, --status, --label KEY=VALUE;\n"
    "                                --limit N (at most 500), --page-token TOKEN\n"
    "  events RUN [-f]               its history; -f follows it to the end\n"
    "  explain RUN                   why it is not moving\n"
    "  signal RUN NAME [JSON|@FILE]  hand a waiting step what it waits for; --idempotency-key KEY\n"
    "  settle RUN STEP --as succeeded|failed [--output JSON|@FILE]   of a step whose outcome nobody knows\n"
    "  cancel RUN [--compensate]     nothing new starts; --compensate undoes what was done\n"
    "  compensate RUN                undo what a run that has ended did\n"
    "  diff WORKFLOW FROM TO         what changed between two versions\n"
    "  rollback WORKFLOW VERSION     make an older version the newest\n"
    "  dead-letter list              what could not be dealt with; --status, --reason, --limit, --page-token\n"
    "  dead-letter show ID [--body]  one, whole; --body prints its body alone\n"
    "  dead-letter requeue ID [--body FILE] | discard ID   send it again, or put it away\n"
    "  keys list | create NAME --role ROLE | revoke ID\n"
    "\n"
    "  -o json|yaml|table            the server's answer as it came, as YAML, or a table (default)\n"
    "\n"
    "settings: ROPEWALK_URL, ROPEWALK_API_KEY or ROPEWALK_API_KEY_FILE\n"
    "exits:    0 done, 1 the run did not succeed, 2 usage, 3 refused, 4 not reachable, 5 the wait was over\n";

static const struct {
    const char *name;
    enum cli_exit (*run)(struct cli *cli);
} commands[] = {
    {"apply", cmd_apply},     {"validate", cmd_validate}, {"run", cmd_run},
    {"get", cmd_get},         {"list", cmd_list},         {"events", cmd_events},
    {"explain", cmd_explain}, {"keys", cmd_keys},         {"signal", cmd_signal},
    {"settle", cmd_settle},   {"cancel", cmd_cancel},     {"compensate", cmd_compensate},
    {"diff", cmd_diff},       {"rollback", cmd_rollback}, {"dead-letter", cmd_dead_letter},
};

static enum cli_exit run_command(struct cli *cli, const char *name)
{
    const char *format = take_option(cli, "-o");

    cli->yaml = format != NULL && strcmp(format, "yaml") == 0;
    cli->json = cli->yaml || (format != NULL && strcmp(format, "json") == 0);
    if (format != NULL && !cli->json && strcmp(format, "table") != 0)
        return usage_error("-o takes json, yaml or table, not '%s'", format);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(name, commands[i].name) == 0)
            return settings_load(cli) ? commands[i].run(cli) : CLI_USAGE;
    }
    return usage_error("there is no command '%s'", name);
}

static bool asks_for(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    struct cli cli = {.argc = argc - 2, .argv = argv + 2};
    enum cli_exit rc;

    if (argc < 2) {
        (void)fputs(help, stderr);
        return CLI_USAGE;
    }
    if (asks_for(argc, argv, "--help") || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        (void)fputs(help, stdout);
        return CLI_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)puts("ropewalk " ROPEWALK_VERSION);
        return CLI_DONE;
    }
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    rc = run_command(&cli, argv[1]);
    curl_global_cleanup();
    mem_free(cli.url);
    mem_free(cli.key);
    /* A full disk behind a redirection must not look like success. */
    if (fflush(stdout) != 0 && rc == CLI_DONE) {
        (void)fputs("ropewalk: cannot write to standard output\n", stderr);
        rc = CLI_USAGE;
    }
    return (int)rc;
}
