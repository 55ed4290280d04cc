/* Settings: from the environment, ROPEWALK_*, each string also as ROPEWALK_X_FILE. The rows are in a service's
 * config.def; every bad or missing value is reported at once and the process exits 2. After start it is const.
 *
 * Rows: CONFIG_STR(field, "NAME", default or NULL when required, SECRET or PUBLIC, "sentence")
 *       CONFIG_INT(field, "NAME", default, min, max, "unit", "sentence")
 *       CONFIG_BOOL(field, "NAME", default, "sentence")                                                       */
#pragma once
#include "common/base/str.h"

enum config_type { CONFIG_T_STR, CONFIG_T_INT, CONFIG_T_BOOL };

struct config_row {
    enum config_type type;
    const char *name;         /* without ROPEWALK_ */
    const char *default_text; /* NULL: required */
    bool secret;
    int64_t min, max;
    const char *unit;
    const char *help;
    size_t offset; /* of a char *, int64_t or bool in the service's struct */
};

/* Fills `config` from the environment. On faults prints each to stderr and returns ERR_INVALID (exit 2). */
enum err_code config_load(const struct config_row *rows, size_t count, void *config, struct err *err) MUST_CHECK;
void config_print(const struct config_row *rows, size_t count, const void *config); /* --print-config, to stdout */
void config_free(const struct config_row *rows, size_t count, void *config);
void config_markdown(const struct config_row *rows, size_t count); /* the table of a README, to stdout */

/* For a service's table: SECRET and PUBLIC of the rows, and their expansion for `struct type`. */
#define CONFIG_VIS_SECRET true
#define CONFIG_VIS_PUBLIC false
#define CONFIG_ROW_STR(type, field, name, value, vis, help)                                                            \
    {CONFIG_T_STR, name, value, CONFIG_VIS_##vis, 0, 0, "", help, offsetof(struct type, field)},
#define CONFIG_ROW_INT(type, field, name, value, min, max, unit, help)                                                 \
    {CONFIG_T_INT, name, #value, false, min, max, unit, help, offsetof(struct type, field)},
#define CONFIG_ROW_BOOL(type, field, name, value, help)                                                                \
    {CONFIG_T_BOOL, name, #value, false, 0, 0, "", help, offsetof(struct type, field)},
