/* Time zones: the system's own (TZif files of tzdata, RFC 8536), so that they change with it and agree with
 * PostgreSQL's. A library with data of its own would keep the rules of the day it was packaged. */
#pragma once
#include "common/base/err.h"
#include "common/base/str.h"

#define ZONE_NAME_MAX 64

/* Times of one offset, as long as can be: `offset` is seconds east of UTC for from <= t < until. */
struct zone_span {
    int64_t from, until; /* INT64_MIN and INT64_MAX where nothing ends it */
    int32_t offset;
};

struct zone;
/* Reads a zone by its IANA name. ERR_NOT_FOUND when there is none of that name, ERR_UNAVAILABLE when the machine has no
 * zones, ERR_INVALID when the file is no good. The folder is ROPEWALK_ZONEINFO's, as a rule /usr/share/zoneinfo. */
enum err_code zone_load(const char *folder, struct str name, struct zone **ret, struct err *err) MUST_CHECK;
enum err_code zone_parse(struct str bytes, struct zone **ret, struct err *err) MUST_CHECK;
struct zone *zone_utc(void); /* without any file */
void zone_free(struct zone *zone);

struct zone_span zone_span_at(const struct zone *zone, int64_t utc_s);

#define ZONEINFO_FOLDER "/usr/share/zoneinfo"
