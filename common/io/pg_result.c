/* Rows in binary format, and PostgreSQL's errors turned into ours. */
#include "common/base/ensure.h"
#include "common/io/pg_internal.h"
#include <endian.h>

#include "common/base/banned.h"

/* 2000-01-01, PostgreSQL's epoch, in Unix time. */
#define PG_EPOCH_US (INT64_C(946684800) * US_PER_S)

static const PGresult *raw(const struct pg_result *res)
{
    ENSURE(res != NULL);
    return (const PGresult *)res;
}

static const char *cell(const struct pg_result *res, size_t row, int col, int *ret_len)
{
    const PGresult *r = raw(res);

    ENSURE(row < (size_t)PQntuples(r) && col >= 0 && col < PQnfields(r));
    if (PQgetisnull(r, (int)row, col))
        return NULL;
    *ret_len = PQgetlength(r, (int)row, col);
    return PQgetvalue(r, (int)row, col);
}

size_t pg_rows(const struct pg_result *res)
{
    return (size_t)PQntuples(raw(res));
}

int64_t pg_affected(const struct pg_result *res)
{
    int64_t n = 0;

    if (!parse_i64(str_of(PQcmdTuples((PGresult *)raw(res))), 0, INT64_MAX, &n))
        return 0;
    return n;
}

bool pg_is_null(const struct pg_result *res, size_t row, int col)
{
    int len = 0;

    return cell(res, row, col, &len) == NULL;
}

int64_t pg_get_int(const struct pg_result *res, size_t row, int col)
{
    int len = 0;
    const char *bytes = cell(res, row, col, &len);
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;

    if (bytes == NULL)
        return 0;
    ENSURE(len == 2 || len == 4 || len == 8);
    if (len == 2) {
        memcpy(&u16, bytes, 2);
        return (int16_t)be16toh(u16);
    }
    if (len == 4) {
        memcpy(&u32, bytes, 4);
        return (int32_t)be32toh(u32);
    }
    memcpy(&u64, bytes, 8);
    return (int64_t)be64toh(u64);
}

double pg_get_double(const struct pg_result *res, size_t row, int col)
{
    int len = 0;
    const char *bytes = cell(res, row, col, &len);
    uint32_t u32;
    uint64_t u64;
    float f;
    double d;

    if (bytes == NULL)
        return 0;
    ENSURE(len == 4 || len == 8);
    if (len == 4) {
        memcpy(&u32, bytes, 4);
        u32 = be32toh(u32);
        memcpy(&f, &u32, 4);
        return (double)f;
    }
    memcpy(&u64, bytes, 8);
    u64 = be64toh(u64);
    memcpy(&d, &u64, 8);
    return d;
}

bool pg_get_bool(const struct pg_result *res, size_t row, int col)
{
    int len = 0;
    const char *bytes = cell(res, row, col, &len);

    if (bytes == NULL)
        return false;
    ENSURE(len == 1);
    return bytes[0] != 0;
}

struct str pg_get_str(const struct pg_result *res, size_t row, int col)
{
    int len = 0;
    const char *bytes = cell(res, row, col, &len);

    if (bytes == NULL)
        return STR_NONE;
    if (PQftype(raw(res), col) == OID_JSONB && len > 0)
        return (struct str){bytes + 1, (size_t)len - 1}; /* its binary form begins with a version byte */
    return (struct str){bytes, (size_t)len};
}

struct run_id pg_get_uuid(const struct pg_result *res, size_t row, int col)
{
    int len = 0;
    const char *bytes = cell(res, row, col, &len);
    struct run_id id = {{0}};

    if (bytes == NULL)
        return id;
    ENSURE(len == (int)sizeof(id.bytes));
    memcpy(id.bytes, bytes, sizeof(id.bytes));
    return id;
}

struct wall_us pg_time_decode(const char *bytes)
{
    uint64_t u64;

    memcpy(&u64, bytes, 8);
    return (struct wall_us){(int64_t)be64toh(u64) + PG_EPOCH_US};
}

struct wall_us pg_get_time(const struct pg_result *res, size_t row, int col)
{
    int len = 0;
    const char *bytes = cell(res, row, col, &len);

    if (bytes == NULL)
        return (struct wall_us){0};
    ENSURE(len == 8);
    return pg_time_decode(bytes);
}

void pg_result_free(struct pg_result *res)
{
    PQclear((PGresult *)res);
}

/* By class first; "Appendix A. PostgreSQL Error Codes" of its manual. */
enum err_code pg_error_code(const char *sqlstate)
{
    static const struct {
        const char *prefix;
        enum err_code code;
    } codes[] = {
        {"RW001", ERR_STALE},       {"RW002", ERR_BUSY}, /* no room for what would have to wait */
        {"23505", ERR_CONFLICT},    {"22", ERR_REFUSED_DATA},
        {"23", ERR_REFUSED_DATA},   {"54", ERR_REFUSED_DATA}, /* beyond a limit of the server, as an index row */
        {"40", ERR_BUSY},                                     /* serialization failure, deadlock */
        {"55P03", ERR_BUSY},                                  /* lock not available */
        {"57014", ERR_BUSY},                                  /* cancelled, statement timeout */
        {"53", ERR_BUSY},                                     /* out of disk, memory or connections */
        {"58", ERR_BUSY},                                     /* the server's system or files */
        {"26000", ERR_BUSY}, /* the prepared statement is gone: prepared again next time */
        {"08", ERR_UNAVAILABLE},    {"57P", ERR_UNAVAILABLE}, /* shut down or starting */
        {"25006", ERR_UNAVAILABLE},                           /* read only: a standby */
        {"25P03", ERR_UNAVAILABLE},                           /* idle in transaction for too long: connection closed */
    };

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (strncmp(sqlstate, codes[i].prefix, strlen(codes[i].prefix)) == 0)
            return codes[i].code;
    return ERR_INTERNAL;
}

static struct str first_line(const char *message)
{
    struct str rest = str_of(message == NULL ? "" : message);

    return str_trim(str_cut(&rest, '\n'));
}

void pg_error_from_result(struct err *err, const PGresult *res)
{
    const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    struct str text = first_line(primary != NULL ? primary : PQresultErrorMessage(res));
    enum err_code code = sqlstate == NULL ? ERR_UNAVAILABLE : pg_error_code(sqlstate);

    if (sqlstate != NULL && strcmp(sqlstate, "0A000") == 0 && str_starts(text, "cached plan"))
        code = ERR_BUSY; /* a table changed under a prepared statement: it is prepared again next time */
    err_set_at(err, code, __FILE__, __LINE__, STR_FMT, STR_ARG(text));
    if (sqlstate != NULL)
        memcpy(err->sqlstate, sqlstate, sizeof(err->sqlstate) - 1);
}

void pg_error_from_conn(struct err *err, const PGconn *conn, const char *what)
{
    struct str text = first_line(conn == NULL ? "" : PQerrorMessage(conn));

    if (text.len == 0)
        text = STR("no reason given");
    err_set_at(err, ERR_UNAVAILABLE, __FILE__, __LINE__, "%s: " STR_FMT, what, STR_ARG(text));
}
