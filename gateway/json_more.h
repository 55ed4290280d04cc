/* Small additions to the JSON writer that answers need. */
#pragma once
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/json_text.h"

static inline void jw_ktime(struct jw *w, const char *key, struct wall_us t)
{
    char text[WALL_TEXT_SIZE];

    wall_format(t, text);
    jw_kcstr(w, key, t.us == 0 ? NULL : text);
}

static inline void jw_krun(struct jw *w, const char *key, struct run_id id)
{
    char text[UUID_TEXT_SIZE];

    run_id_format(id, text);
    jw_kcstr(w, key, text);
}
