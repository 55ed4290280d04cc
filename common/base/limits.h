/* How much an organisation may have of what costs: the installation's settings, an organisation's own values, and what
 * holds in the end. Rows: limits.def. An own value may be lower than the installation's, and higher as far as
 * ROPEWALK_LIMIT_*_MAX allows; what is allowed no more (the setting was lowered) is cut when it is read. Pure. */
#pragma once
#include "common/base/str.h"

enum limit {
#define LIMIT_SAVE(id, ...) LIMIT_##id,
#define LIMIT_RUN(id, ...) LIMIT_##id,
#include "common/base/limits.def"
#undef LIMIT_SAVE
#undef LIMIT_RUN
    LIMIT_COUNT
};

struct limits {
    int64_t of[LIMIT_COUNT];
};
extern const struct limits LIMITS_DEFAULT; /* of an installation that sets nothing */

/* The installation's: fields of a service's config. */
struct limit_settings {
    struct limits standard;
    struct limits most; /* 0: no more than the standard */
};

struct limit_info {
    const char *name, *setting, *unit;
    int64_t least, ceiling;
};
extern const struct limit_info LIMIT_INFO[LIMIT_COUNT];

enum limit_source {
    LIMIT_OF_INSTALLATION, /* the organisation has no value of its own */
    LIMIT_OF_ORGANISATION,
    LIMIT_CUT, /* the organisation's own is more than the installation allows now */
};

/* Finds a limit by its name in the API; LIMIT_COUNT: there is none. */
enum limit limit_find(struct str name);
/* The most that an organisation may give itself. */
int64_t limit_most(const struct limit_settings *settings, enum limit limit);
/* What holds for an organisation with these own values (JSON, {"steps": 200}; STR_NONE: none). */
int64_t limit_of(const struct limit_settings *settings, struct str own, enum limit limit, enum limit_source *ret);
void limits_of(const struct limit_settings *settings, struct str own, struct limits *ret);

/* Rows of a service's settings, between its own: two for each limit, in `field` of the config. */
#define LIMIT_SETTINGS(field, id, setting, value, least, ceiling, unit, help)                                          \
    CONFIG_INT(field.standard.of[LIMIT_##id], setting, value, least, ceiling, unit, help)                              \
    CONFIG_INT(field.most.of[LIMIT_##id], setting "_MAX", 0, 0, ceiling, unit,                                         \
               "the most that an organisation may give itself of " setting "; 0: no more than that")
