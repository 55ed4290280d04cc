/* ropewalk: the command line. Exit codes: 0 done, 1 the run ended otherwise than succeeded, 2 usage or settings,
 * 3 refused by the server, 4 not reachable, 5 the wait was over. */
#include "cli/commands.h"
#include "common/expr/sandbox.h"
#include <curl/curl.h>

#include "common/base/banned.h"

static enum cli_exit run_command(struct cli *cli, char **words, int count)
{
    const struct command *command = command_find(words[0]), *row;
    const char *format;
    int named;

    if (command == NULL)
        return usage_error("there is no command '%s'", words[0]);
    row = command_of_words(words, count, &named);
    if (row != NULL)
        usage_is(row->name, row->takes);
    format = take_option(cli, "-o");
    cli->yaml = format != NULL && strcmp(format, "yaml") == 0;
    cli->json = cli->yaml || (format != NULL && strcmp(format, "json") == 0);
    if (format != NULL && !cli->json && strcmp(format, "table") != 0)
        return usage_error("-o takes json, yaml or table, not '%s'", format);
    return !command->needs_server || settings_load(cli) ? command->run(cli) : CLI_USAGE;
}

static bool asks_for(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return true;
    }
    return false;
}

/* Help, the version, and what the shells ask: all that is no command. False: it is one. */
static bool answer_at_once(struct cli *cli, int argc, char **argv)
{
    if (strcmp(argv[1], COMPLETE_WORD) == 0)
        complete(cli, argc - 2, argv + 2);
    else if (strcmp(argv[1], "--version") == 0)
        (void)puts("ropewalk " ROPEWALK_VERSION);
    else if (asks_for(argc, argv, "--help") && command_find(argv[1]) != NULL)
        command_help_of(argv[1]);
    else if (asks_for(argc, argv, "--help") || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)
        command_help();
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    struct cli cli = {.argc = argc - 2, .argv = argv + 2};
    enum cli_exit rc = CLI_DONE;

    sandbox_child_main_if_asked(argc, argv); /* `test` evaluates jq in children of this very program */
    if (argc < 2)
        return (int)usage_error("a command is missing; usage: ropewalk COMMAND [OPTIONS]");
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    if (!answer_at_once(&cli, argc, argv))
        rc = run_command(&cli, argv + 1, argc - 1);
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
