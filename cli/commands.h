/* The table of commands (commands.def), and what is said of it. */
#pragma once
#include "cli/cli.h"

struct command {
    const char *name;                      /* "apply", "keys list"; of an option "--input" */
    const char *takes;                     /* words, or the option's value; "" for none */
    enum cli_exit (*run)(struct cli *cli); /* NULL: an option of the command before it */
    bool needs_server;                     /* settings are read before it runs */
    const char *says;
};
extern const struct command commands[];
extern const size_t command_count;

/* The command whose name begins with this word, a verb's too; NULL when there is none. */
const struct command *command_find(const char *word);
/* The row that these words begin with, so that of "keys" "list" ... it is the verb's; NULL when there is none. How many
 * words its name has goes to *ret_words. */
const struct command *command_of_words(char *const *words, int count, int *ret_words);
/* The option of that name of a command, NULL when it has none. "-o" is everybody's. */
const struct command *command_option(const struct command *command, struct str name);
void command_help(void);
/* Of one command with all its verbs. */
void command_help_of(const char *word);
