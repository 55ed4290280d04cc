/* What a shell completes a word with: commands and options from the table, names from the server. The shells' own parts
 * (cli/completion/) only ask here: "ropewalk __complete WORD..." prints a candidate a line, its meaning behind a tab;
 * ":files" and ":@files" stand for files, which the shells know better. Nothing is said on errors. */
#include "cli/commands.h"
#include "common/base/id.h"
#include "common/base/json_text.h"
#include "completion_scripts.h"
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/banned.h"

#define NAMES_MAX ((size_t)1 << 20)
#define FRESH_S 5        /* what the server said is good for so long: a few strokes of a key */
#define PATIENCE_MS 1000 /* somebody waits at a prompt */
#define WORDS_MAX 256

/* ---- names that the server knows ---- */

static void put_name(struct buf *out, const char *name, const char *meaning)
{
    if (name == NULL)
        return;
    clean_append(out, str_of(name));
    buf_append_char(out, '\t');
    clean_append(out, str_of(text_or(meaning, "")));
    buf_append_char(out, '\n');
}

/* Where the names of this path are kept for a moment. Of the key only a hash is on the disk. */
static bool cache_path(const struct cli *cli, const char *path, struct buf *ret)
{
    CLEANUP(buf_deinit) struct buf what = {0};
    const char *folder = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    uint8_t hash[32];
    char hex[33];

    buf_init(&what, 1 << 16);
    buf_printf(&what, "%s\n%s\n%s", cli->url, cli->key, path);
    sha256(buf_str(&what), hash);
    hex_encode(hash, 16, hex);
    buf_init(ret, 4096);
    if (folder != NULL && folder[0] == '/')
        buf_append_str(ret, str_of(folder));
    else if (home != NULL && home[0] == '/')
        buf_printf(ret, "%s/.cache", home);
    else
        return false;
    (void)mkdir(ret->ptr, 0700);
    buf_append_str(ret, STR("/ropewalk"));
    (void)mkdir(ret->ptr, 0700);
    buf_printf(ret, "/names-%s", hex);
    return !ret->overflow;
}

static bool read_cache(const char *path, struct buf *out)
{
    FILE *file = fopen(path, "rb");
    struct stat st;
    char chunk[8192];
    size_t n;

    if (file == NULL)
        return false;
    if (fstat(fileno(file), &st) != 0 || time(NULL) - st.st_mtime >= FRESH_S || st.st_mtime > time(NULL)) {
        (void)fclose(file);
        return false;
    }
    while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0)
        buf_append(out, chunk, n);
    (void)fclose(file);
    return true;
}

/* Renamed into place, so that no other shell reads half of it. Without a cache it only takes longer. */
static void write_cache(const char *path, struct str names)
{
    CLEANUP(buf_deinit) struct buf fresh = {0};
    FILE *file;

    buf_init(&fresh, 4096);
    buf_printf(&fresh, "%s.%d", path, (int)getpid());
    file = fopen(fresh.ptr, "wbx");
    if (file == NULL)
        return;
    if (fwrite(names.ptr, 1, names.len, file) != names.len) {
        (void)fclose(file);
        (void)unlink(fresh.ptr);
        return;
    }
    if (fclose(file) != 0 || rename(fresh.ptr, path) != 0)
        (void)unlink(fresh.ptr);
}

static void put_items(const json_t *json, const char *id, const char *meaning, struct buf *out)
{
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(json, "items"), i, item)
    {
        char number[24];

        (void)snprintf(number, sizeof(number), "%lld", json_int(item, id));
        put_name(out, json_is_number(json_object_get(item, id)) ? number : json_text(item, id),
                 json_text(item, meaning));
    }
}

static void put_steps(const json_t *run, struct buf *out)
{
    const char *name;
    json_t *step;

    json_object_foreach(json_object_get(run, "steps"), name, step)
    {
        put_name(out, name, json_text(step, "status"));
    }
}

/* Words of the table that stand for names: where they are listed; %s is the word before, percent-encoded. */
static const struct {
    const char *word, *path;
    const char *id, *meaning; /* members of an item; NULL: the steps of a run */
} lists[] = {
    {"WORKFLOW", "/v1/workflows?page_size=500", "name", "updated_at"},
    {"RUN", "/v1/runs?page_size=100", "id", "workflow"},
    {"STEP", "/v1/runs/%s", NULL, NULL},
    {"VERSION", "/v1/workflows/%s/versions?page_size=100", "version", "created_at"},
    {"FROM", "/v1/workflows/%s/versions?page_size=100", "version", "created_at"},
    {"TO", "/v1/workflows/%s/versions?page_size=100", "version", "created_at"},
    {"LETTER", "/v1/dead-letters?page_size=100", "id", "reason"},
    {"SECRET", "/v1/secrets?page_size=500", "name", "updated_at"},
    {"SCHEDULE", "/v1/schedules?page_size=500", "id", "workflow"},
    {"ENDPOINT", "/v1/endpoints?page_size=500", "id", "url"},
    {"DELIVERY", "/v1/deliveries?page_size=100", "id", "reason"},
    {"KEY", "/v1/api-keys?page_size=100", "id", "name"},
};
#define LIST_COUNT (sizeof(lists) / sizeof(lists[0]))

static void make_path(struct buf *path, const char *pattern, const char *before)
{
    const char *hole = strstr(pattern, "%s");
    char *word = api_escape(before);

    buf_init(path, 1 << 16);
    if (hole == NULL)
        buf_append_str(path, str_of(pattern));
    else
        buf_printf(path, "%.*s%s%s", (int)(hole - pattern), pattern, word, hole + 2);
    mem_free(word);
}

static void ask_names(const struct cli *cli, size_t list, const char *path, struct buf *out)
{
    struct answer answer;

    if (api_call(cli, &(struct api_request){.method = "GET", .path = path, .quiet = true, .timeout_ms = PATIENCE_MS},
                 &answer) != CLI_DONE)
        return;
    if (lists[list].id == NULL)
        put_steps(answer.json, out);
    else
        put_items(answer.json, lists[list].id, lists[list].meaning, out);
    answer_deinit(&answer);
}

/* ---- candidates ---- */

struct wanted {
    const char *prefix; /* what candidates begin with, "--as=" included */
    size_t attached;    /* bytes of it that belong to the option */
    const char *before; /* the command's first word, for what depends on it; "" */
    struct cli *cli;    /* of the server, once it was asked for */
};

static void offer(const struct wanted *w, struct str value, struct str meaning)
{
    struct str typed = str_of(w->prefix + w->attached);

    if (value.len < typed.len || memcmp(value.ptr, typed.ptr, typed.len) != 0)
        return;
    printf("%.*s" STR_FMT, (int)w->attached, w->prefix, STR_ARG(value));
    if (meaning.len > 0)
        printf("\t" STR_FMT, STR_ARG(meaning));
    (void)putchar('\n');
}

static void offer_names(const struct wanted *w, size_t list)
{
    CLEANUP(buf_deinit) struct buf names = {0}, path = {0}, kept = {0};
    struct str rest;
    bool keep;

    if (w->cli->url == NULL && !settings_load(w->cli))
        return;
    buf_init(&names, NAMES_MAX);
    make_path(&path, lists[list].path, w->before);
    keep = cache_path(w->cli, path.ptr, &kept);
    if (!keep || !read_cache(kept.ptr, &names)) {
        ask_names(w->cli, list, path.ptr, &names);
        if (keep && names.len > 0)
            write_cache(kept.ptr, buf_str(&names));
    }
    rest = buf_str(&names);
    while (rest.len > 0) {
        struct str line = str_cut(&rest, '\n');
        struct str name = str_cut(&line, '\t');

        offer(w, name, line);
    }
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

/* All that a word of the table stands for: "[runs|workflows]", "WORKFLOW|FILE", "JSON|@FILE", "FILE...". */
static void offer_word(const struct wanted *w, struct str word)
{
    if (word.len > 3 && memcmp(word.ptr + word.len - 3, "...", 3) == 0)
        word.len -= 3;
    if (word.len > 2 && word.ptr[0] == '[')
        word = (struct str){word.ptr + 1, word.len - 2};
    while (word.len > 0) {
        struct str one = str_cut(&word, '|');
        size_t list = 0;

        while (list < LIST_COUNT && !str_is(one, lists[list].word))
            list++;
        if (list < LIST_COUNT)
            offer_names(w, list);
        else if (str_is(one, "FILE"))
            (void)puts(":files");
        else if (str_is(one, "@FILE") && w->prefix[w->attached] == '@')
            (void)puts(":@files");
        else if (one.len > 0 && !is_upper(one.ptr[0]) && one.ptr[0] != '@')
            offer(w, one, STR_NONE);
    }
}

/* First words, or the verbs of one: each once. */
static void offer_commands(const struct wanted *w, const char *first)
{
    struct str last = STR_NONE;

    for (size_t i = 0; i < command_count; i++) {
        struct str verb = str_of(commands[i].name);
        struct str word = str_cut(&verb, ' ');

        if (commands[i].run == NULL || (first != NULL && (!str_is(word, first) || verb.len == 0)))
            continue;
        if (first != NULL)
            offer(w, verb, str_of(commands[i].says));
        else if (last.ptr == NULL || !str_eq(last, word))
            offer(w, word, verb.len == 0 ? str_of(commands[i].says) : STR_NONE);
        last = word;
    }
}

static void offer_options(const struct wanted *w, const struct command *command)
{
    for (const struct command *row = command + 1; row < commands + command_count && row->run == NULL; row++)
        offer(w, str_of(row->name), str_of(row->says));
    offer(w, STR("-o"), STR("how to print the answer"));
    offer(w, STR("--help"), STR("what it takes"));
}

/* The words of `takes` by number; the last counts on when there may be more of it. */
static struct str word_at(const char *takes, int number)
{
    struct str rest = str_of(takes), word = STR_NONE;

    while (rest.len > 0 && number-- >= 0)
        word = str_cut(&rest, ' ');
    if (number >= 0 && (word.len < 3 || memcmp(word.ptr + word.len - 3, "...", 3) != 0))
        return STR_NONE;
    return word;
}

static bool is_option(const char *word)
{
    return word[0] == '-' && word[1] != '\0';
}

/* bash hands "--as=x" over as three words, and "@file" as two. */
static int join_words(int count, char **words, struct arena *arena)
{
    int kept = 0;

    for (int i = 0; i < count; i++) {
        if (kept > 0 && strcmp(words[i], "=") == 0 && is_option(words[kept - 1])) {
            const char *value = i + 1 < count ? words[++i] : "";

            words[kept - 1] = arena_printf(arena, "%s=%s", words[kept - 1], value);
        } else if (strcmp(words[i], "@") == 0 && i + 1 < count) {
            words[kept++] = arena_printf(arena, "@%s", words[++i]);
        } else {
            words[kept++] = words[i];
        }
    }
    return kept;
}

/* What the last of the words may become, after those before it. */
static void complete_of(struct wanted *w, const struct command *command, int count, char **words)
{
    const struct command *option = NULL; /* that waits for its value */
    const char *equals = strchr(w->prefix, '=');
    int plain = 0;

    for (int i = 0; i + 1 < count; i++) {
        if (option != NULL) {
            option = NULL;
        } else if (is_option(words[i])) {
            option = strchr(words[i], '=') == NULL ? command_option(command, str_of(words[i])) : NULL;
            option = option != NULL && option->takes[0] == '\0' ? NULL : option;
        } else if (plain++ == 0) {
            w->before = words[i];
        }
    }
    if (option == NULL && equals != NULL && is_option(w->prefix)) {
        option = command_option(command, (struct str){w->prefix, (size_t)(equals - w->prefix)});
        w->attached = (size_t)(equals - w->prefix) + 1;
    }
    if (option != NULL)
        offer_word(w, str_of(option->takes));
    else if (w->prefix[0] == '-')
        offer_options(w, command);
    else
        offer_word(w, word_at(command->takes, plain));
}

void complete(struct cli *cli, int count, char **given)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    char **words = arena_array(arena, WORDS_MAX, sizeof(*words));
    struct wanted w = {.before = "", .cli = cli};
    const struct command *command;
    int named;

    if (count < 1 || count > WORDS_MAX)
        return;
    memcpy(words, given, (size_t)count * sizeof(*words));
    count = join_words(count, words, arena);
    w.prefix = words[count - 1];
    if (count == 1) {
        offer_commands(&w, NULL);
        return;
    }
    command = command_of_words(words, count - 1, &named);
    if (count == 2)
        offer_commands(&w, words[0]);
    if (command != NULL)
        complete_of(&w, command, count - named, words + named);
}

enum cli_exit cmd_completion(struct cli *cli)
{
    static const struct {
        const char *shell, *script;
    } shells[] = {{"bash", COMPLETION_BASH}, {"zsh", COMPLETION_ZSH}, {"fish", COMPLETION_FISH}};

    if (!words_left(cli, 1, 1))
        return CLI_USAGE;
    for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++) {
        if (strcmp(cli->argv[0], shells[i].shell) == 0) {
            (void)fputs(shells[i].script, stdout);
            return CLI_DONE;
        }
    }
    return usage_error("completion takes bash, zsh or fish, not '%s'", cli->argv[0]);
}
