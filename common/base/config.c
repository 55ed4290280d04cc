/* Settings from the environment. Every fault is told at once: who sets a service up should not have to start it once
 * per mistake. Values of secrets are never printed, not even wrong ones. */
#include "common/base/config.h"
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "common/base/banned.h"

#define VALUE_MAX ((size_t)64 << 10)
#define MASK "********"

union slot {
    char *str;
    int64_t i64;
    bool boolean;
};

static union slot *slot_of(const struct config_row *row, void *config)
{
    return (union slot *)(void *)((char *)config + row->offset);
}

static void fault(const struct config_row *row, const char *suffix, const char *what)
{
    fprintf(stderr, "ropewalk: ROPEWALK_%s%s %s (%s)\n", row->name, suffix, what, row->help);
}

static const char *lookup(const struct config_row *row, const char *suffix)
{
    char name[128];
    int n = snprintf(name, sizeof(name), "ROPEWALK_%s%s", row->name, suffix);

    ENSURE(n > 0 && (size_t)n < sizeof(name));
    return getenv(name);
}

/* Reads all of the file, at most VALUE_MAX bytes of it. False with errno. */
static bool read_all(const char *path, char *text, size_t *ret_len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    size_t len = 0;
    ssize_t n = 0;
    int saved;

    if (fd < 0)
        return false;
    while (len < VALUE_MAX + 1) {
        n = read(fd, text + len, VALUE_MAX + 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    saved = errno;
    close(fd);
    errno = saved;
    *ret_len = len;
    return n >= 0;
}

/* The value in a file, without one line end behind it: editors and `echo` put it there. NULL: a fault was told. */
static char *value_of_file(const struct config_row *row, const char *path)
{
    CLEANUP(mem_cleanup) char *text = mem_alloc(VALUE_MAX + 1);
    size_t len;

    if (!read_all(path, text, &len)) {
        char what[256];

        snprintf(what, sizeof(what), "names a file that could not be read: %s", strerrordesc_np(errno));
        fault(row, "_FILE", what);
        return NULL;
    }
    if (len > VALUE_MAX || memchr(text, '\0', len) != NULL) {
        fault(row, "_FILE", len > VALUE_MAX ? "names a file of more than 64 KiB" : "names a file with a NUL byte");
        return NULL;
    }
    if (len > 0 && text[len - 1] == '\n')
        len--;
    if (len > 0 && text[len - 1] == '\r')
        len--;
    return mem_dup(text, len);
}

static bool load_str(const struct config_row *row, union slot *slot)
{
    const char *value = lookup(row, "");
    const char *path = lookup(row, "_FILE");

    if (value != NULL && path != NULL) {
        fault(row, "", "and its _FILE form are both set");
        return false;
    }
    if (path != NULL)
        slot->str = value_of_file(row, path);
    else if (value != NULL)
        slot->str = mem_strdup(value);
    else if (row->default_text != NULL)
        slot->str = mem_strdup(row->default_text);
    else
        fault(row, "", "is required");
    if (slot->str == NULL)
        return false;
    if (row->default_text == NULL && slot->str[0] == '\0') {
        fault(row, path != NULL ? "_FILE" : "", "is required and empty");
        return false;
    }
    return true;
}

static bool load_int(const struct config_row *row, union slot *slot)
{
    const char *value = lookup(row, "");
    char what[256];

    if (value == NULL) {
        ENSURE(row->default_text == NULL || parse_i64(str_of(row->default_text), row->min, row->max, &slot->i64));
        if (row->default_text == NULL)
            fault(row, "", "is required");
        return row->default_text != NULL;
    }
    if (parse_i64(str_of(value), row->min, row->max, &slot->i64))
        return true;
    snprintf(what, sizeof(what), "is '%.40s', not a whole number from %" PRId64 " to %" PRId64 "%s%s", value, row->min,
             row->max, row->unit == NULL || row->unit[0] == '\0' ? "" : " ", row->unit == NULL ? "" : row->unit);
    fault(row, "", what);
    return false;
}

static bool bool_of(struct str text, bool *ret)
{
    *ret = str_is(text, "true") || str_is(text, "1");
    return *ret || str_is(text, "false") || str_is(text, "0");
}

static bool load_bool(const struct config_row *row, union slot *slot)
{
    const char *value = lookup(row, "");
    char what[128];

    if (value == NULL) {
        ENSURE(row->default_text == NULL || bool_of(str_of(row->default_text), &slot->boolean));
        if (row->default_text == NULL)
            fault(row, "", "is required");
        return row->default_text != NULL;
    }
    if (bool_of(str_of(value), &slot->boolean))
        return true;
    snprintf(what, sizeof(what), "is '%.40s', neither true nor false", value);
    fault(row, "", what);
    return false;
}

static bool load_row(const struct config_row *row, union slot *slot)
{
    switch (row->type) {
    case CONFIG_T_STR:
        return load_str(row, slot);
    case CONFIG_T_INT:
        return load_int(row, slot);
    case CONFIG_T_BOOL:
        return load_bool(row, slot);
    }
    return false;
}

enum err_code config_load(const struct config_row *rows, size_t count, void *config, struct err *err)
{
    size_t faults = 0;

    for (size_t i = 0; i < count; i++) {
        union slot *slot = slot_of(&rows[i], config);

        if (rows[i].type == CONFIG_T_STR)
            slot->str = NULL;
        if (!load_row(&rows[i], slot))
            faults++;
    }
    if (faults == 0)
        return ERR_OK;
    config_free(rows, count, config);
    return err_set(err, ERR_INVALID, "%zu of the settings %s missing or bad", faults, faults == 1 ? "is" : "are");
}

void config_free(const struct config_row *rows, size_t count, void *config)
{
    for (size_t i = 0; i < count; i++) {
        union slot *slot = slot_of(&rows[i], config);

        if (rows[i].type != CONFIG_T_STR)
            continue;
        mem_free(slot->str);
        slot->str = NULL;
    }
}

static void print_str(const struct config_row *row, const char *value)
{
    CLEANUP(buf_deinit) struct buf quoted;

    buf_init(&quoted, VALUE_MAX * 8);
    json_quote(&quoted, row->secret && value[0] != '\0' ? STR(MASK) : str_of(value));
    printf("%s", buf_str(&quoted).ptr);
}

void config_print(const struct config_row *rows, size_t count, const void *config)
{
    for (size_t i = 0; i < count; i++) {
        const struct config_row *row = &rows[i];
        const char *at = (const char *)config + row->offset;
        union slot slot;

        printf("ROPEWALK_%s=", row->name);
        switch (row->type) {
        case CONFIG_T_STR:
            memcpy(&slot.str, at, sizeof(slot.str));
            print_str(row, slot.str == NULL ? "" : slot.str);
            break;
        case CONFIG_T_INT:
            memcpy(&slot.i64, at, sizeof(slot.i64));
            printf("%" PRId64, slot.i64);
            break;
        case CONFIG_T_BOOL:
            memcpy(&slot.boolean, at, sizeof(slot.boolean));
            printf("%s", slot.boolean ? "true" : "false");
            break;
        }
        printf("\n");
    }
}

void config_markdown(const struct config_row *rows, size_t count)
{
    printf("| Setting | Default | Range | Meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < count; i++) {
        const struct config_row *row = &rows[i];
        const char *def = row->default_text;
        bool on;

        /* In a row's expansion `true` has become 1. */
        if (row->type == CONFIG_T_BOOL && def != NULL && bool_of(str_of(def), &on))
            def = on ? "true" : "false";
        printf("| `ROPEWALK_%s` | ", row->name);
        if (def == NULL)
            printf("required");
        else if (def[0] == '\0')
            printf("empty");
        else
            printf("`%s`", def);
        if (row->type == CONFIG_T_INT)
            printf(" | %" PRId64 " to %" PRId64 "%s%s", row->min, row->max,
                   row->unit == NULL || row->unit[0] == '\0' ? "" : " ", row->unit == NULL ? "" : row->unit);
        else
            printf(" | %s", row->type == CONFIG_T_BOOL ? "true, false" : row->secret ? "secret" : "");
        printf(" | %s |\n", row->help);
    }
}
