/* Seeds: names of events, the installation with its token key, the first organisation and its first admin key. */
#include "common/db/seed.h"
#include "rw_db_sql.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/banned.h"

#define TOKEN_KEY_BYTES 32
/* rw_ + 8 + _ + 32 characters of base62 */
#define PREFIX_CHARS 8
#define SECRET_CHARS 32
#define KEY_TEXT_SIZE (3 + PREFIX_CHARS + 1 + SECRET_CHARS + 1)

static const struct {
    int16_t number;
    const char *name;
} event_types[] = {
#define EVENT(number, id, name, format) {number, name},
#include "common/engine/event.def"
#undef EVENT
};

static enum err_code seed_event_types(struct pg_session *session, struct err *err)
{
    struct pg_batch *room = pg_batch_new(false);
    struct pg_array *numbers = pg_array_new(room, PG_E_I16), *names = pg_array_new(room, PG_E_TEXT);
    enum err_code rc;

    for (size_t i = 0; i < sizeof(event_types) / sizeof(event_types[0]); i++) {
        pg_array_add(numbers, pg_i16(event_types[i].number));
        pg_array_add(names, pg_text(str_of(event_types[i].name)));
    }
    const struct pg_param params[] = {pg_array_param(numbers), pg_array_param(names)};
    rc = pg_session_run(session, SQL_SEED_EVENT_TYPE, params, 2, NULL, err);
    pg_batch_free(room);
    return rc == ERR_OK ? ERR_OK : err_prefix(err, rc, "writing the names of events");
}

static enum err_code seed_installation(struct pg_session *session, struct err *err)
{
    char key[TOKEN_KEY_BYTES];
    struct pg_param param;
    enum err_code rc;

    random_bytes(key, sizeof(key));
    param = pg_bytea((struct str){key, sizeof(key)});
    rc = pg_session_run(session, SQL_SEED_INSTALLATION, &param, 1, NULL, err);
    explicit_bzero(key, sizeof(key));
    return rc == ERR_OK ? ERR_OK : err_prefix(err, rc, "making the installation's token key");
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static enum err_code write_all(int fd, const char *ptr, size_t len, const char *path, struct err *err)
{
    while (len > 0) {
        ssize_t n = write(fd, ptr, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, ERR_UNAVAILABLE, "could not write '%s': %s", path, strerror(errno));
        ptr += n;
        len -= (size_t)n;
    }
    return ERR_OK;
}

/* Written beside its place and renamed: the file is never half a key, never readable by others, and on disk. */
static enum err_code write_key_file(const char *path, const char *key, struct err *err)
{
    char beside[4096];
    CLEANUP(close_fd) int fd = -1;
    enum err_code rc;

    if (snprintf(beside, sizeof(beside), "%s.new", path) >= (int)sizeof(beside))
        return err_set(err, ERR_INVALID, "the path of the admin key file is too long");
    unlink(beside);
    fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_set(err, ERR_UNAVAILABLE, "could not make '%s': %s", beside, strerror(errno));
    rc = write_all(fd, key, strlen(key), beside, err);
    if (rc == ERR_OK)
        rc = write_all(fd, "\n", 1, beside, err);
    if (rc == ERR_OK && fsync(fd) != 0)
        rc = err_set(err, ERR_UNAVAILABLE, "could not write '%s': %s", beside, strerror(errno));
    if (rc == ERR_OK && rename(beside, path) != 0)
        rc = err_set(err, ERR_UNAVAILABLE, "could not write '%s': %s", path, strerror(errno));
    if (rc != ERR_OK)
        unlink(beside);
    return rc;
}

static enum err_code make_admin_key(struct pg_session *session, const char *key_file, struct err *err)
{
    char key[KEY_TEXT_SIZE] = "rw_";
    uint8_t hash[32];
    enum err_code rc;

    random_token(key + 3, PREFIX_CHARS);
    key[3 + PREFIX_CHARS] = '_';
    random_token(key + 3 + PREFIX_CHARS + 1, SECRET_CHARS);
    sha256(str_of(key), hash);
    const struct pg_param params[] = {pg_text((struct str){key, 3 + PREFIX_CHARS}),
                                      pg_bytea((struct str){(const char *)hash, sizeof(hash)})};

    rc = write_key_file(key_file, key, err);
    if (rc == ERR_OK)
        rc = pg_session_run(session, SQL_SEED_ADMIN_KEY, params, 2, NULL, err);
    explicit_bzero(key, sizeof(key));
    return rc == ERR_OK ? ERR_OK : err_prefix(err, rc, "making the first admin key");
}

static enum err_code seed_admin_key(struct pg_session *session, const char *key_file, struct migrate_report *report,
                                    struct err *err)
{
    struct pg_result *res = NULL;
    enum err_code rc = pg_session_run(session, SQL_SEED_ADMIN_KEYS, NULL, 0, &res, err);
    bool there;

    if (rc != ERR_OK)
        return err_prefix(err, rc, "looking for an admin key");
    there = pg_get_int(res, 0, 0) > 0;
    pg_result_free(res);
    if (there)
        return ERR_OK;
    if (key_file == NULL || *key_file == '\0') {
        report->key_missing = true;
        return ERR_OK;
    }
    rc = make_admin_key(session, key_file, err);
    report->key_made = rc == ERR_OK;
    return rc;
}

enum err_code seed_run(struct pg_session *session, const char *key_file, struct migrate_report *report, struct err *err)
{
    enum err_code rc = seed_event_types(session, err);

    if (rc == ERR_OK)
        rc = seed_installation(session, err);
    if (rc != ERR_OK)
        return rc;
    rc = pg_session_script(session, SQL_SEED_ORGANISATION, err);
    if (rc != ERR_OK)
        return err_prefix(err, rc, "making the first organisation");
    return seed_admin_key(session, key_file, report, err);
}
