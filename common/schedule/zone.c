/* TZif files (RFC 8536): a table of times at which the offset changes, and the rule for all times behind it. */
#include "common/base/civil.h"
#include "common/schedule/zone.h"
#include "common/schedule/zone_rule.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/base/banned.h"

#define FILE_MAX 65536
#define HEADER_BYTES 44
#define TIME_FAR (INT64_C(1) << 59) /* RFC 8536 wants none before it */
#define OFFSET_MAX (26 * 3600)      /* RFC 8536, 3.2 */

struct change {
    int64_t at;
    int32_t offset; /* from then on */
};

struct zone {
    int32_t first; /* offset before all changes */
    size_t count;
    struct change *changes; /* ascending, each with another offset than before */
    bool ruled;
    struct zone_rule rule;
};

struct header {
    uint8_t version;
    uint32_t is_ut, is_std, leaps, times, types, chars;
};

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t be64(const uint8_t *p)
{
    return (int64_t)((uint64_t)be32(p) << 32 | be32(p + 4));
}

static bool read_header(struct str bytes, struct header *ret)
{
    const uint8_t *p = (const uint8_t *)bytes.ptr;

    if (bytes.len < HEADER_BYTES || memcmp(p, "TZif", 4) != 0)
        return false;
    *ret = (struct header){p[4], be32(p + 20), be32(p + 24), be32(p + 28), be32(p + 32), be32(p + 36), be32(p + 40)};
    return ret->is_ut <= FILE_MAX && ret->is_std <= FILE_MAX && ret->leaps <= FILE_MAX && ret->times <= FILE_MAX &&
           ret->types >= 1 && ret->types <= 256 && ret->chars <= FILE_MAX;
}

static size_t block_bytes(const struct header *h, size_t time_bytes)
{
    return h->times * (time_bytes + 1) + h->types * (size_t)6 + h->chars + h->leaps * (time_bytes + 4) + h->is_std +
           h->is_ut;
}

static struct str drop(struct str s, size_t len)
{
    return (struct str){s.ptr + len, s.len - len};
}

/* The changes of one data block, whose times have 8 bytes. */
static bool read_block(struct zone *zone, const struct header *h, const uint8_t *p)
{
    const uint8_t *indexes = p + (size_t)h->times * 8, *types = indexes + h->times;
    int32_t offset = (int32_t)be32(types);
    int64_t before = INT64_MIN;

    zone->first = offset;
    zone->changes = mem_array((size_t)h->times + 1, sizeof(*zone->changes));
    for (uint32_t i = 0; i < h->times; i++) {
        int64_t at = be64(p + (size_t)i * 8);
        int32_t next;

        if (indexes[i] >= h->types || (i > 0 && at <= before))
            return false;
        before = at;
        if (at > TIME_FAR)
            return false;
        next = (int32_t)be32(types + (size_t)indexes[i] * 6);
        if (next < -OFFSET_MAX || next > OFFSET_MAX)
            return false;
        if (next != offset)
            zone->changes[zone->count++] = (struct change){at < -TIME_FAR ? -TIME_FAR : at, next};
        offset = next;
    }
    return zone->first >= -OFFSET_MAX && zone->first <= OFFSET_MAX;
}

static bool read_all(struct zone *zone, struct str bytes)
{
    struct header h;

    if (!read_header(bytes, &h) || h.version < '2' || bytes.len - HEADER_BYTES < block_bytes(&h, 4))
        return false;
    bytes = drop(bytes, HEADER_BYTES + block_bytes(&h, 4));
    if (!read_header(bytes, &h) || bytes.len - HEADER_BYTES < block_bytes(&h, 8) ||
        !read_block(zone, &h, (const uint8_t *)bytes.ptr + HEADER_BYTES))
        return false;
    bytes = drop(bytes, HEADER_BYTES + block_bytes(&h, 8));
    if (bytes.len < 2 || bytes.ptr[0] != '\n' || bytes.ptr[bytes.len - 1] != '\n')
        return false;
    bytes = (struct str){bytes.ptr + 1, bytes.len - 2};
    zone->ruled = bytes.len > 0;
    return !zone->ruled || zone_rule_parse(bytes, &zone->rule);
}

enum err_code zone_parse(struct str bytes, struct zone **ret, struct err *err)
{
    struct zone *zone = mem_alloc(sizeof(*zone));

    if (bytes.len > FILE_MAX || !read_all(zone, bytes)) {
        zone_free(zone);
        return err_set(err, ERR_INVALID, "the file is no table of a time zone (TZif, version 2 or later)");
    }
    *ret = zone;
    return ERR_OK;
}

struct zone *zone_utc(void)
{
    return mem_alloc(sizeof(struct zone));
}

void zone_free(struct zone *zone)
{
    if (zone == NULL)
        return;
    mem_free(zone->changes);
    mem_free(zone);
}

/* Letters, digits and "+-_" in parts between slashes, which begin with a letter: what cannot leave the folder. */
static bool is_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        if ((i == 0 || name.ptr[i - 1] == '/')
                ? !letter
                : !letter && (c < '0' || c > '9') && c != '+' && c != '-' && c != '_' && c != '/')
            return false;
    }
    return name.len >= 1 && name.len <= ZONE_NAME_MAX && name.ptr[name.len - 1] != '/';
}

/* What lies in the folder beside the zones of IANA: other people's names for them, with or without leap seconds. */
static bool is_beside(struct str name)
{
    static const char *const beside[] = {"posix/", "right/", "posixrules", "localtime", "Factory"};

    for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++)
        if (str_starts(name, beside[i]))
            return true;
    return false;
}

static enum err_code read_file(const char *path, struct str name, char bytes[FILE_MAX + 1], size_t *ret_len,
                               struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = 0;
    size_t len = 0;

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return err_set(err, ERR_NOT_FOUND, "'" STR_FMT "' is no time zone", STR_ARG(name));
    if (fd < 0)
        return err_set(err, ERR_UNAVAILABLE, "could not open '%s': errno %d", path, errno);
    while (len <= FILE_MAX && (got = read(fd, bytes + len, FILE_MAX + 1 - len)) > 0)
        len += (size_t)got;
    close(fd);
    if (got < 0 && errno == EISDIR)
        return err_set(err, ERR_NOT_FOUND, "'" STR_FMT "' is no time zone", STR_ARG(name));
    if (got < 0)
        return err_set(err, ERR_UNAVAILABLE, "could not read '%s': errno %d", path, errno);
    *ret_len = len;
    return ERR_OK;
}

enum err_code zone_load(const char *folder, struct str name, struct zone **ret, struct err *err)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    CLEANUP(mem_cleanup) void *bytes = NULL;
    size_t len = 0;
    enum err_code rc;

    if (str_is(name, "UTC")) {
        *ret = zone_utc();
        return ERR_OK;
    }
    if (!is_name(name) || is_beside(name))
        return err_set(err, ERR_NOT_FOUND, "'" STR_FMT "' is no time zone", STR_ARG(utf8_prefix(name, ZONE_NAME_MAX)));
    if (access(folder, X_OK) != 0)
        return err_set(err, ERR_UNAVAILABLE, "no time zones in '%s': the package tzdata is missing", folder);
    buf_init(&path, 4096);
    buf_printf(&path, "%s/" STR_FMT, folder, STR_ARG(name));
    bytes = mem_alloc(FILE_MAX + 1);
    rc = read_file(path.ptr, name, bytes, &len, err);
    if (rc != ERR_OK)
        return rc;
    rc = zone_parse((struct str){bytes, len}, ret, err);
    return rc == ERR_OK ? ERR_OK : err_prefix(err, rc, "reading '%s'", path.ptr);
}

/* Both changes of the years around `t`, as far as they lie behind the table; ascending. */
static size_t ruled_changes(const struct zone *zone, int64_t t, struct change ret[6])
{
    int64_t last = zone->count == 0 ? INT64_MIN : zone->changes[zone->count - 1].at;
    int year, month, day;
    size_t count = 0;

    civil_date(civil_floor_div(t, S_PER_DAY), &year, &month, &day);
    for (int64_t y = year - 1; y <= year + 1; y++) {
        struct change start, end;

        zone_rule_year(&zone->rule, y, &start.at, &end.at);
        start.offset = zone->rule.daylight;
        end.offset = zone->rule.standard;
        ret[count] = start.at < end.at ? start : end;
        count += ret[count].at > last;
        ret[count] = start.at < end.at ? end : start;
        count += ret[count].at > last;
    }
    return count;
}

static void narrow(struct zone_span *span, const struct change *changes, size_t count, int64_t t)
{
    for (size_t i = 0; i < count && changes[i].at <= t; i++)
        if (changes[i].offset != span->offset)
            *span = (struct zone_span){changes[i].at, span->until, changes[i].offset};
    for (size_t i = count; i-- > 0 && changes[i].at > t;)
        if (changes[i].at < span->until)
            span->until = changes[i].at;
}

struct zone_span zone_span_at(const struct zone *zone, int64_t t)
{
    struct zone_span span = {INT64_MIN, INT64_MAX, zone->first};
    size_t low = 0, high = zone->count;
    struct change around[6] = {{0}};

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (zone->changes[middle].at <= t)
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0)
        span = (struct zone_span){zone->changes[low - 1].at, INT64_MAX, zone->changes[low - 1].offset};
    if (low < zone->count)
        span.until = zone->changes[low].at;
    else if (zone->ruled && zone->rule.has_daylight)
        narrow(&span, around, ruled_changes(zone, t, around), t);
    return span;
}
