/* Is the role of a connection fit for a service? Row-level security is worth nothing against those who bypass it. */
#include "common/io/pg_internal.h"
#include "rw_pg_sql.h"

#include "common/base/banned.h"

struct role_check {
    pg_role_fn done;
    void *ctx;
};

static enum err_code judge(const struct pg_result *res, struct err *err)
{
    struct str name = pg_get_str(res, 0, 0);
    struct str owned = pg_get_str(res, 0, 3);

    if (pg_get_bool(res, 0, 1))
        return err_set(err, ERR_FORBIDDEN, "the database role '" STR_FMT "' is or may become a superuser",
                       STR_ARG(name));
    if (pg_get_bool(res, 0, 2))
        return err_set(err, ERR_FORBIDDEN, "the database role '" STR_FMT "' may bypass row-level security",
                       STR_ARG(name));
    if (owned.ptr != NULL)
        return err_set(err, ERR_FORBIDDEN, "the database role '" STR_FMT "' owns the table '" STR_FMT "'",
                       STR_ARG(name), STR_ARG(owned));
    return ERR_OK;
}

static void on_answer(void *ctx, const struct pg_outcome *outcome)
{
    struct role_check *check = ctx;
    struct err err = *outcome->err;
    enum err_code rc = outcome->rc;

    if (rc == ERR_OK)
        rc = judge(outcome->results[0], &err);
    else
        rc = err_prefix(&err, rc, "checking the database role");
    check->done(check->ctx, rc, &err);
    mem_free(check);
}

void pg_check_role(struct pg *pg, pg_role_fn done, void *ctx)
{
    struct pg_batch *batch = pg_batch_new(false);
    struct role_check *check = mem_alloc(sizeof(*check));

    *check = (struct role_check){done, ctx};
    pg_batch_add0(batch, SQL_ROLE_CHECK);
    pg_submit(pg, batch, on_answer, check);
}
