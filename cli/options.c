/* Words of the command line and settings of the environment. */
#include "cli/cli.h"
#include <errno.h>

#include "common/base/banned.h"

static const char *usage_name, *usage_takes;

void usage_is(const char *name, const char *takes)
{
    usage_name = name;
    usage_takes = takes;
}

enum cli_exit usage_error(const char *format, ...)
{
    va_list args;

    (void)fputs("ropewalk: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    if (usage_name == NULL)
        (void)fputs("\n  'ropewalk --help' lists the commands\n", stderr);
    else
        fprintf(stderr, "\n  usage: ropewalk %s%s%s; --help says more\n", usage_name, *usage_takes == '\0' ? "" : " ",
                usage_takes);
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
        const char *word = cli->argv[i];

        if (strcmp(word, name) == 0 && i + 1 < cli->argc) {
            const char *value = cli->argv[i + 1];

            drop(cli, i, 2);
            return value;
        }
        if (strncmp(word, name, len) == 0 && word[len] == '=') {
            drop(cli, i, 1);
            return word + len + 1;
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
    if (cli->argc < min) {
        (void)usage_error("a word is missing");
        return false;
    }
    if (cli->argc > max) {
        (void)usage_error("one word too many: '%s'", cli->argv[max]);
        return false;
    }
    return true;
}

static const char *setting(const char *name)
{
    const char *value = getenv(name);

    return value == NULL || *value == '\0' ? NULL : value;
}

/* Would break the header line that it goes into. */
static bool is_one_line(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x21 || *text == 0x7f)
            return false;
    }
    return true;
}

static bool load_key(struct cli *cli)
{
    const char *path = setting("ROPEWALK_API_KEY_FILE");
    char line[512] = "";
    FILE *file;

    if (setting("ROPEWALK_API_KEY") != NULL) {
        cli->key = mem_strdup(setting("ROPEWALK_API_KEY"));
    } else if (path == NULL) {
        (void)fputs("ropewalk: ROPEWALK_API_KEY or ROPEWALK_API_KEY_FILE must be set\n", stderr);
        return false;
    } else {
        file = fopen(path, "r");
        if (file == NULL || fgets(line, sizeof(line), file) == NULL) {
            fprintf(stderr, "ropewalk: cannot read ROPEWALK_API_KEY_FILE '%s': %s\n", path,
                    file == NULL ? strerror(errno) : "it is empty");
            if (file != NULL)
                (void)fclose(file);
            return false;
        }
        (void)fclose(file);
        line[strcspn(line, "\r\n")] = '\0';
        cli->key = mem_strdup(line);
    }
    if (cli->key[0] != '\0' && is_one_line(cli->key))
        return true;
    (void)fputs("ropewalk: the API key is empty, or has blanks in it\n", stderr);
    return false;
}

static bool load_url(struct cli *cli)
{
    const char *url = setting("ROPEWALK_URL");
    size_t len;

    if (url == NULL) {
        (void)fputs("ropewalk: ROPEWALK_URL must be set, for example http://127.0.0.1:8080\n", stderr);
        return false;
    }
    if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) || !is_one_line(url)) {
        fprintf(stderr, "ropewalk: ROPEWALK_URL '%s' must begin with http:// or https:// and have no blanks\n", url);
        return false;
    }
    len = strlen(url);
    while (len > 0 && url[len - 1] == '/')
        len--;
    cli->url = mem_dup(url, len);
    return true;
}

bool settings_load(struct cli *cli)
{
    bool url = load_url(cli);
    bool key = load_key(cli);

    return url && key;
}
