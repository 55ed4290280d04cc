/* See commands.h. */
#include "cli/commands.h"

#include "common/base/banned.h"

#define SERVER true
#define ALONE false
#define COMMAND(name, takes, run, talks, says) {name, takes, run, talks, says},
#define OPTION(name, takes, says) {name, takes, NULL, false, says},
const struct command commands[] = {
#include "cli/commands.def"
};
#undef COMMAND
#undef OPTION
const size_t command_count = sizeof(commands) / sizeof(commands[0]);

static const struct command format_option = {"-o", "json|yaml|table", NULL, false,
                                             "the server's answer as it came, as YAML, or for people (default)"};

static bool begins_with_word(const char *name, const char *word)
{
    size_t len = strlen(word);

    return strncmp(name, word, len) == 0 && (name[len] == '\0' || name[len] == ' ');
}

const struct command *command_find(const char *word)
{
    for (size_t i = 0; i < command_count; i++) {
        if (commands[i].run != NULL && begins_with_word(commands[i].name, word))
            return &commands[i];
    }
    return NULL;
}

const struct command *command_of_words(char *const *words, int count, int *ret_words)
{
    const struct command *found = NULL;

    *ret_words = 0;
    for (size_t i = 0; i < command_count && count > 0; i++) {
        const char *verb = strchr(commands[i].name, ' ');

        if (commands[i].run == NULL || !begins_with_word(commands[i].name, words[0]))
            continue;
        if (verb == NULL && found == NULL) {
            found = &commands[i];
            *ret_words = 1;
        } else if (verb != NULL && count > 1 && strcmp(verb + 1, words[1]) == 0) {
            *ret_words = 2;
            return &commands[i];
        }
    }
    return found;
}

const struct command *command_option(const struct command *command, struct str name)
{
    for (const struct command *row = command + 1; row < commands + command_count && row->run == NULL; row++) {
        if (str_is(name, row->name))
            return row;
    }
    return str_is(name, format_option.name) ? &format_option : NULL;
}

static void print_row(const struct command *row, int indent)
{
    char left[120];

    (void)snprintf(left, sizeof(left), "%s%s%s", row->name, row->takes[0] == '\0' ? "" : " ", row->takes);
    if (indent + (int)strlen(left) > 33)
        printf("%*s%s\n%35s%s\n", indent, "", left, "", row->says);
    else
        printf("%*s%-*s%s\n", indent, "", 35 - indent, left, row->says);
}

static void print_end(void)
{
    (void)putchar('\n');
    print_row(&format_option, 2);
}

void command_help(void)
{
    (void)puts("usage: ropewalk COMMAND [OPTIONS]\n");
    for (size_t i = 0; i < command_count; i++)
        print_row(&commands[i], commands[i].run == NULL ? 6 : 2);
    print_end();
    (void)puts("\nsettings: ROPEWALK_URL, ROPEWALK_API_KEY or ROPEWALK_API_KEY_FILE\n"
               "exits:    0 done, 1 the run did not succeed, 2 usage, 3 refused, 4 not reachable, 5 the wait was over");
}

void command_help_of(const char *word)
{
    bool ours = false;

    (void)puts("usage: ropewalk COMMAND [OPTIONS]\n");
    for (size_t i = 0; i < command_count; i++) {
        if (commands[i].run != NULL)
            ours = begins_with_word(commands[i].name, word);
        if (ours)
            print_row(&commands[i], commands[i].run == NULL ? 6 : 2);
    }
    print_end();
}
