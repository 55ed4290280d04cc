/* Every .sql statement of every service, against the migrated schema and as the role that will run it: it parses, its
 * tables and columns exist, the role may do it, and its parameters have the types that its opening comment says. */
#include "tests/sql/sql_fixture.h"
#include <dirent.h>
#include <libpq-fe.h>

static const struct {
    const char *folder, *role;
} folders[] = {
    {"gateway/sql", "ropewalk_gateway"},
    {"scheduler/sql", "ropewalk_scheduler"},
    {"common/io/sql", "ropewalk_gateway"},
    {"common/db/sql", "ropewalk_owner"},
};

/* Scripts of the migrator: several statements, or not for a prepared statement. Run by every test here. */
static const char *const scripts[] = {"migrate_prepare.sql", "migrate_begin.sql"};

#define PARAMS_MAX 64

struct faults {
    int count;
    struct buf text;
};

#define fault(faults, path, ...)                                                                                       \
    do {                                                                                                               \
        buf_printf(&(faults)->text, "%s: ", (path));                                                                   \
        buf_printf(&(faults)->text, __VA_ARGS__);                                                                      \
        buf_append_char(&(faults)->text, '\n');                                                                        \
        (faults)->count++;                                                                                             \
    } while (0)

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = mem_alloc(65536);

    assert_non_null(file);
    assert_true(fread(text, 1, 65535, file) < 65535);
    fclose(file);
    return text;
}

/* PostgreSQL's name of a type as comments write it; NULL: the word is no type. */
static const char *type_named(struct str word)
{
    static const char *const names[][2] = {
        {"smallint", "smallint"},
        {"int2", "smallint"},
        {"int", "integer"},
        {"integer", "integer"},
        {"int4", "integer"},
        {"bigint", "bigint"},
        {"int8", "bigint"},
        {"text", "text"},
        {"uuid", "uuid"},
        {"json", "json"},
        {"bytea", "bytea"},
        {"boolean", "boolean"},
        {"bool", "boolean"},
        {"float8", "double precision"},
        {"timestamptz", "timestamp with time zone"},
        {"interval", "interval"},
        {"date", "date"},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (str_is(word, names[i][0]))
            return names[i][1];
    return NULL;
}

/* What the comment says of $n: found at all, and a type when a type's name stands behind it ("$2 text[]"). */
static bool comment_says(const char *comment, int n, char type[64])
{
    const char *p = comment;

    type[0] = '\0';
    while ((p = strchr(p, '$')) != NULL) {
        char *end = NULL;
        long first = strtol(++p, &end, 10), last = first;
        size_t len;
        const char *name;

        if (end == p)
            continue;
        if (strncmp(end, "..$", 3) == 0)
            last = strtol(end + 3, &end, 10);
        if (n < first || n > last)
            continue;
        while (*end == ' ' || *end == ':')
            end++;
        len = strspn(end, "abcdefghijklmnopqrstuvwxyz0123456789");
        name = type_named((struct str){end, len});
        if (name != NULL)
            snprintf(type, 64, "%s%s", name, strncmp(end + len, "[]", 2) == 0 ? "[]" : "");
        return true;
    }
    return false;
}

static Oid type_oid(PGconn *conn, const char *name)
{
    char sql[128];
    PGresult *res;
    uint32_t oid = 0;

    snprintf(sql, sizeof(sql), "SELECT '%s'::regtype::oid", name);
    res = PQexec(conn, sql);
    assert_int_equal(PQresultStatus(res), PGRES_TUPLES_OK);
    assert_true(parse_u32(str_of(PQgetvalue(res, 0, 0)), 1, UINT32_MAX, &oid));
    PQclear(res);
    return oid;
}

/* What the comment promises is what callers send: the statement must take exactly that. */
static int types_from_comment(PGconn *conn, const char *comment, Oid types[PARAMS_MAX])
{
    char said[64];
    int count = 0;

    for (int n = 1; n <= PARAMS_MAX; n++) {
        types[n - 1] = 0;
        if (!comment_says(comment, n, said))
            continue;
        count = n;
        if (said[0] != '\0')
            types[n - 1] = type_oid(conn, said);
    }
    return count;
}

static void check_parameters(PGconn *conn, const char *path, const char *comment, struct faults *faults, int *ret_count)
{
    PGresult *res = PQdescribePrepared(conn, "statement");
    char said[64];

    *ret_count = PQnparams(res);
    for (int n = 1; n <= PQnparams(res); n++)
        if (!comment_says(comment, n, said))
            fault(faults, path, "the comment does not say what $%d is", n);
    PQclear(res);
}

/* Planning and opening the statement checks the role's rights; nothing is run. */
static void check_rights(PGconn *conn, const char *path, int count, struct faults *faults)
{
    char sql[1024] = "EXPLAIN EXECUTE statement";
    PGresult *res;

    for (int i = 0; i < count; i++)
        strncat(sql, i == 0 ? " (NULL" : ", NULL", sizeof(sql) - strlen(sql) - 1);
    if (count > 0)
        strncat(sql, ")", sizeof(sql) - strlen(sql) - 1);
    res = PQexec(conn, sql);
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        fault(faults, path, "%s", PQresultErrorMessage(res));
    PQclear(res);
}

static void check_statement(PGconn *conn, const char *path, struct faults *faults)
{
    char *text = read_file(path), *sql = text, *comment;
    Oid types[PARAMS_MAX];
    PGresult *res;
    int count;

    if (strncmp(text, "-- ", 3) != 0)
        fault(faults, path, "does not open with a comment");
    while (strncmp(sql, "--", 2) == 0 && strchr(sql, '\n') != NULL)
        sql = strchr(sql, '\n') + 1;
    for (const char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p >= 0x80) {
            fault(faults, path, "is not plain ASCII");
            break;
        }
    comment = mem_dup(text, (size_t)(sql - text));
    count = types_from_comment(conn, comment, types);
    res = PQprepare(conn, "statement", text, count, types);
    if (PQresultStatus(res) != PGRES_COMMAND_OK) {
        fault(faults, path, "%s", PQresultErrorMessage(res));
    } else {
        check_parameters(conn, path, comment, faults, &count);
        check_rights(conn, path, count, faults);
        PQclear(PQexec(conn, "DEALLOCATE statement"));
    }
    mem_free(comment);
    PQclear(res);
    mem_free(text);
}

static bool is_script(const char *name)
{
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++)
        if (strcmp(name, scripts[i]) == 0)
            return true;
    return false;
}

static int check_folder(PGconn *conn, const char *folder, const char *role, struct faults *faults)
{
    char path[1024], sql[128];
    DIR *dir;
    const struct dirent *entry;
    int count = 0;

    snprintf(path, sizeof(path), "%s/%s", SOURCE_DIR, folder);
    dir = opendir(path);
    if (dir == NULL)
        return 0;
    snprintf(sql, sizeof(sql), "RESET ROLE; SET ROLE %s", role);
    PQclear(PQexec(conn, sql));
    while ((entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);

        if (len < 5 || strcmp(entry->d_name + len - 4, ".sql") != 0 || is_script(entry->d_name))
            continue;
        snprintf(path, sizeof(path), "%s/%s/%s", SOURCE_DIR, folder, entry->d_name);
        check_statement(conn, path, faults);
        count++;
    }
    closedir(dir);
    return count;
}

static void every_statement_fits_the_schema_and_its_role(void **state)
{
    struct database db = {0};
    struct migrate_report report;
    struct faults faults = {0};
    PGconn *conn;

    (void)state;
    buf_init(&faults.text, 1 << 20);
    database_make(&db, "statements");
    database_migrate(&db, &report);
    conn = PQconnectdb(db.url);
    assert_int_equal(PQstatus(conn), CONNECTION_OK);
    PQclear(PQexec(conn, "SET search_path = ropewalk, pg_temp"));
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
        printf("%s: %d statements\n", folders[i].folder,
               check_folder(conn, folders[i].folder, folders[i].role, &faults));
    PQfinish(conn);
    database_drop(&db);
    fprintf(stderr, STR_FMT, STR_ARG(buf_str(&faults.text)));
    buf_deinit(&faults.text);
    assert_int_equal(faults.count, 0);
}

static void every_migration_file_is_in_the_list(void **state)
{
    char path[1024];
    DIR *dir;
    const struct dirent *entry;
    int count = 0;

    (void)state;
    snprintf(path, sizeof(path), "%s/common/db/migrations", SOURCE_DIR);
    dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        if (strstr(entry->d_name, ".sql") != NULL)
            count++;
    closedir(dir);
    assert_int_equal(count, migrate_newest());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_migration_file_is_in_the_list),
        cmocka_unit_test(every_statement_fits_the_schema_and_its_role),
    };

    return cmocka_run_group_tests_name("statements", tests, NULL, NULL);
}
