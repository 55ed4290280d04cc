/* See limits.h. */
#include "common/base/limits.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

const struct limits LIMITS_DEFAULT = {{
#define LIMIT_SAVE(id, name, setting, value, ...) [LIMIT_##id] = (value),
#define LIMIT_RUN(id, name, setting, value, ...) [LIMIT_##id] = (value),
#include "common/base/limits.def"
#undef LIMIT_SAVE
#undef LIMIT_RUN
}};

const struct limit_info LIMIT_INFO[LIMIT_COUNT] = {
#define LIMIT_SAVE(id, name, setting, value, least, ceiling, unit, help) {name, setting, unit, least, ceiling},
#define LIMIT_RUN(id, name, setting, value, least, ceiling, unit, help) {name, setting, unit, least, ceiling},
#include "common/base/limits.def"
#undef LIMIT_SAVE
#undef LIMIT_RUN
};

enum limit limit_find(struct str name)
{
    size_t i = 0;

    while (i < LIMIT_COUNT && !str_is(name, LIMIT_INFO[i].name))
        i++;
    return (enum limit)i;
}

int64_t limit_most(const struct limit_settings *settings, enum limit limit)
{
    int64_t standard = settings->standard.of[limit], most = settings->most.of[limit];

    return most > standard ? most : standard;
}

int64_t limit_of(const struct limit_settings *settings, struct str own, enum limit limit, enum limit_source *ret)
{
    int64_t most = limit_most(settings, limit), value;

    *ret = LIMIT_OF_INSTALLATION;
    if (own.ptr == NULL || !jt_i64(jt_get(own, LIMIT_INFO[limit].name), &value) || value < LIMIT_INFO[limit].least)
        return settings->standard.of[limit];
    *ret = value > most ? LIMIT_CUT : LIMIT_OF_ORGANISATION;
    return value > most ? most : value;
}

void limits_of(const struct limit_settings *settings, struct str own, struct limits *ret)
{
    enum limit_source ignored;

    for (int i = 0; i < LIMIT_COUNT; i++)
        ret->of[i] = limit_of(settings, own, (enum limit)i, &ignored);
}
