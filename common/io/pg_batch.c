/* Batches: parameters in PostgreSQL's binary format, arrays for unnest(), and the way of a batch onto the wire. */
#include "common/base/ensure.h"
#include "common/base/metrics.h"
#include "common/io/pg_internal.h"
#include "rw_pg_sql.h"
#include <assert.h>
#include <endian.h>

#include "common/base/banned.h"

#define PG_EPOCH_US (INT64_C(946684800) * US_PER_S)
#define ARRAY_BYTES_MAX ((size_t)256 << 20)
#define ARRAY_HEADER_BYTES 20

/* Says that a parameter's bytes are in its inline_: a pointer into the struct itself would not survive a copy. */
static const char in_line[1];

static struct pg_param param_of(uint32_t oid, const void *ptr, size_t len)
{
    ENSURE(len <= INT32_MAX);
    return (struct pg_param){.oid = oid, .ptr = ptr, .len = (int)len};
}

static struct pg_param param_inline(uint32_t oid, const void *bytes, size_t len)
{
    struct pg_param param = {.oid = oid, .ptr = in_line, .len = (int)len};

    ENSURE(len <= sizeof(param.inline_));
    memcpy(param.inline_, bytes, len);
    return param;
}

static const void *param_bytes(const struct pg_param *param)
{
    return param->ptr == in_line ? param->inline_ : param->ptr;
}

struct pg_param pg_text(struct str s)
{
    return param_of(OID_TEXT, s.ptr, s.len);
}

struct pg_param pg_json(struct str s)
{
    return param_of(OID_JSON, s.ptr, s.len);
}

struct pg_param pg_bytea(struct str s)
{
    return param_of(OID_BYTEA, s.ptr, s.len);
}

struct pg_param pg_i16(int16_t n)
{
    uint16_t wire = htobe16((uint16_t)n);

    return param_inline(OID_INT2, &wire, sizeof(wire));
}

struct pg_param pg_i32(int32_t n)
{
    uint32_t wire = htobe32((uint32_t)n);

    return param_inline(OID_INT4, &wire, sizeof(wire));
}

struct pg_param pg_i64(int64_t n)
{
    uint64_t wire = htobe64((uint64_t)n);

    return param_inline(OID_INT8, &wire, sizeof(wire));
}

struct pg_param pg_bool(bool b)
{
    char wire = b ? 1 : 0;

    return param_inline(OID_BOOL, &wire, 1);
}

struct pg_param pg_uuid(struct run_id id)
{
    return param_inline(OID_UUID, id.bytes, sizeof(id.bytes));
}

struct pg_param pg_time(struct wall_us t)
{
    uint64_t wire = htobe64((uint64_t)(t.us - PG_EPOCH_US));

    if (t.us == 0)
        return param_of(OID_TIMESTAMPTZ, NULL, 0);
    return param_inline(OID_TIMESTAMPTZ, &wire, sizeof(wire));
}

struct pg_param pg_null(void)
{
    return (struct pg_param){0};
}

/* --- arrays ------------------------------------------------------------------------------------------------------- */

struct pg_array {
    enum pg_elem type;
    struct buf buf; /* header, then the elements */
    size_t count;
    bool has_null;
};

static const struct {
    uint32_t oid, array_oid;
} elems[] = {
    [PG_E_TEXT] = {OID_TEXT, 1009}, [PG_E_JSON] = {OID_JSON, 199},  [PG_E_BYTEA] = {OID_BYTEA, 1001},
    [PG_E_I16] = {OID_INT2, 1005},  [PG_E_I32] = {OID_INT4, 1007},  [PG_E_I64] = {OID_INT8, 1016},
    [PG_E_BOOL] = {OID_BOOL, 1000}, [PG_E_UUID] = {OID_UUID, 2951}, [PG_E_TIME] = {OID_TIMESTAMPTZ, 1185},
};

static void array_free(void *ptr)
{
    struct pg_array *array = ptr;

    buf_deinit(&array->buf);
}

static void append_i32(struct buf *buf, int32_t n)
{
    uint32_t wire = htobe32((uint32_t)n);

    buf_append(buf, &wire, sizeof(wire));
}

struct pg_array *pg_array_new(struct pg_batch *batch, enum pg_elem type)
{
    struct pg_array *array = arena_alloc(batch->arena, sizeof(*array));
    static const char room[ARRAY_HEADER_BYTES];

    array->type = type;
    buf_init(&array->buf, ARRAY_BYTES_MAX);
    buf_append(&array->buf, room, sizeof(room));
    arena_defer(batch->arena, array_free, array);
    return array;
}

void pg_array_add(struct pg_array *array, struct pg_param value)
{
    array->count++;
    if (value.ptr == NULL) {
        array->has_null = true;
        append_i32(&array->buf, -1);
        return;
    }
    ENSURE(value.oid == elems[array->type].oid);
    append_i32(&array->buf, value.len);
    buf_append(&array->buf, param_bytes(&value), (size_t)value.len);
}

size_t pg_array_count(const struct pg_array *array)
{
    return array->count;
}

struct pg_param pg_array_param(struct pg_array *array)
{
    /* dimensions, has nulls, element type, length and lower bound of the only dimension; an empty array has none */
    const uint32_t header[] = {htobe32(array->count > 0 ? 1 : 0), htobe32(array->has_null ? 1 : 0),
                               htobe32(elems[array->type].oid), htobe32((uint32_t)array->count), htobe32(1)};
    struct pg_param param;

    static_assert(sizeof(header) == ARRAY_HEADER_BYTES, "the room in front of the elements");
    ENSURE(!array->buf.overflow);
    memcpy(array->buf.ptr, header, sizeof(header));
    param = param_of(elems[array->type].array_oid, array->buf.ptr,
                     array->count > 0 ? array->buf.len : ARRAY_HEADER_BYTES - 8);
    param.stable = true;
    return param;
}

/* --- building ----------------------------------------------------------------------------------------------------- */

struct pg_batch *pg_batch_new(bool transaction)
{
    struct arena *arena = arena_new(2048);
    struct pg_batch *batch = arena_alloc(arena, sizeof(*batch));

    batch->arena = arena;
    batch->transaction = transaction;
    batch->failed_statement = -1;
    return batch;
}

void pg_batch_free(struct pg_batch *batch)
{
    if (batch == NULL)
        return;
    for (size_t i = 0; batch->results != NULL && i < batch->statements; i++)
        PQclear(batch->results[i]);
    arena_free(batch->arena);
}

struct arena *pg_batch_arena(struct pg_batch *batch)
{
    return batch->arena;
}

static struct pg_op *add_op(struct pg_batch *batch, enum pg_op_kind kind, const char *sql,
                            const struct pg_param *params, size_t count)
{
    struct pg_op *op;

    ENSURE(count <= PG_PARAMS_MAX);
    if (batch->op_count == batch->op_cap) {
        size_t cap = batch->op_cap == 0 ? 16 : batch->op_cap * 2;
        struct pg_op *ops = arena_array(batch->arena, cap, sizeof(*ops));

        if (batch->op_count > 0)
            memcpy(ops, batch->ops, batch->op_count * sizeof(*ops));
        batch->ops = ops;
        batch->op_cap = cap;
    }
    op = &batch->ops[batch->op_count++];
    *op = (struct pg_op){.kind = kind, .sql = sql, .count = count, .index = -1};
    if (count == 0)
        return op;
    op->oids = arena_array(batch->arena, count, sizeof(*op->oids));
    op->values = arena_array(batch->arena, count, sizeof(*op->values));
    op->lens = arena_array(batch->arena, count, sizeof(*op->lens));
    for (size_t i = 0; i < count; i++) {
        const struct pg_param *param = &params[i];

        op->oids[i] = param->oid;
        op->lens[i] = param->len;
        if (param->ptr != NULL)
            op->values[i] =
                param->stable ? param->ptr : arena_dup(batch->arena, param_bytes(param), (size_t)param->len);
    }
    return op;
}

int pg_batch_add(struct pg_batch *batch, const char *sql, const struct pg_param *params, size_t count)
{
    struct pg_op *op = add_op(batch, PG_OP_STATEMENT, sql, params, count);

    ENSURE(batch->statements < INT32_MAX);
    op->index = (int)batch->statements++;
    return op->index;
}

int pg_batch_add0(struct pg_batch *batch, const char *sql)
{
    return pg_batch_add(batch, sql, NULL, 0);
}

static void set_organisation(struct pg_batch *batch, const char *sql, int32_t organisation)
{
    char text[16];
    struct pg_param param;

    snprintf(text, sizeof(text), "%d", (int)organisation);
    param = pg_text(str_of(text));
    add_op(batch, PG_OP_SETTING, sql, &param, 1);
}

void pg_batch_organisation(struct pg_batch *batch, int32_t organisation)
{
    set_organisation(batch, SQL_SET_ORGANISATION, organisation);
}

void pg_batch_organisation_by_index(struct pg_batch *batch, int32_t organisation)
{
    set_organisation(batch, SQL_SET_ORGANISATION_BY_INDEX, organisation);
}

void pg_batch_sample_clock(struct pg_batch *batch)
{
    add_op(batch, PG_OP_CLOCK, SQL_CLOCK, NULL, 0);
}

/* In front of everything else. */
void pg_batch_prepend_path(struct pg_batch *batch)
{
    struct pg_op op;

    add_op(batch, PG_OP_SETTING, SQL_SET_SEARCH_PATH, NULL, 0);
    op = batch->ops[batch->op_count - 1];
    memmove(&batch->ops[1], &batch->ops[0], (batch->op_count - 1) * sizeof(op));
    batch->ops[0] = op;
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static size_t stmt_bucket(const char *sql)
{
    return ((uintptr_t)sql >> 4) % PG_STMT_BUCKETS;
}

static struct pg_stmt *stmt_find(const struct pg *pg, const struct pg_op *op)
{
    for (struct pg_stmt *stmt = pg->stmts[stmt_bucket(op->sql)]; stmt != NULL; stmt = stmt->next)
        if (stmt->sql == op->sql && !stmt->dead && stmt->count == op->count &&
            (op->count == 0 || memcmp(stmt->oids, op->oids, op->count * sizeof(*op->oids)) == 0))
            return stmt;
    return NULL;
}

static struct pg_stmt *stmt_add(struct pg *pg, const struct pg_op *op)
{
    struct pg_stmt *stmt = arena_alloc(pg->stmt_arena, sizeof(*stmt));
    struct pg_stmt **bucket = &pg->stmts[stmt_bucket(op->sql)];

    stmt->sql = op->sql;
    stmt->count = op->count;
    if (op->count > 0)
        stmt->oids = (const uint32_t *)(const void *)arena_dup(pg->stmt_arena, (const char *)op->oids,
                                                               op->count * sizeof(*op->oids));
    snprintf(stmt->name, sizeof(stmt->name), "s%u", pg->stmt_number++);
    stmt->next = *bucket;
    *bucket = stmt;
    return stmt;
}

void pg_stmts_forget(struct pg *pg)
{
    /* The memory stays until the connection ends: batches in flight still point to them. */
    memset(pg->stmts, 0, sizeof(pg->stmts));
}

/* Prepares what this connection has not seen yet. */
static bool send_prepares(struct pg *pg, struct pg_batch *batch)
{
    batch->prepares = arena_array(batch->arena, batch->op_count, sizeof(struct pg_stmt *));
    for (size_t i = 0; i < batch->op_count; i++) {
        const struct pg_op *op = &batch->ops[i];
        struct pg_stmt *stmt;

        if (stmt_find(pg, op) != NULL)
            continue;
        stmt = stmt_add(pg, op);
        if (PQsendPrepare(pg->conn, stmt->name, stmt->sql, (int)op->count, stmt->oids) != 1)
            return false;
        batch->prepares[batch->prepare_count++] = stmt;
    }
    if (batch->prepare_count == 0)
        return true;
    batch->preparing = true;
    return PQpipelineSync(pg->conn) == 1;
}

static bool send_op(struct pg *pg, const struct pg_op *op)
{
    int formats[PG_PARAMS_MAX];

    for (size_t i = 0; i < op->count; i++)
        formats[i] = 1;
    if (pg->options.prepared)
        return PQsendQueryPrepared(pg->conn, stmt_find(pg, op)->name, (int)op->count, op->values, op->lens, formats,
                                   1) == 1;
    return PQsendQueryParams(pg->conn, op->sql, (int)op->count, op->oids, op->values, op->lens, formats, 1) == 1;
}

bool pg_batch_send(struct pg *pg, struct pg_batch *batch)
{
    batch->results = arena_array(batch->arena, batch->statements + 1, sizeof(PGresult *));
    if (batch->transaction)
        metric_add(METRIC_PG_TRANSACTIONS, 1);
    if (pg->options.prepared && !send_prepares(pg, batch))
        return false;
    for (size_t i = 0; i < batch->op_count; i++)
        if (!send_op(pg, &batch->ops[i]))
            return false;
    batch->commit_sent = true; /* PQpipelineSync flushes: from here on nobody knows how much has gone */
    return PQpipelineSync(pg->conn) == 1;
}
