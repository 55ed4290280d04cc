/* One JSON object per line on stderr, in one write of at most PIPE_BUF bytes, so that lines of several processes on
 * one pipe do not mix. A reader that is slow or gone costs lines, not time. */
#include "common/base/log.h"
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include "common/base/metrics.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/banned.h"

#define LINE_MAX_BYTES ((size_t)PIPE_BUF)
/* Strings are cut to this, and to less when the line is still too long: escapes can make six bytes of one. */
#define FIELD_MAX_BYTES ((size_t)1024)

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static struct {
    pthread_mutex_t lock;
    const char *svc;
    const char *name;
    enum log_level level;
    bool cut_short; /* the last line could be written in part only */
    _Atomic uint64_t lost;
} logger = {.lock = PTHREAD_MUTEX_INITIALIZER, .svc = "ropewalk", .level = LOG_INFO};

void log_init(const char *svc, const char *name, enum log_level level)
{
    logger.svc = svc;
    logger.name = name;
    logger.level = level;
}

bool log_level_parse(struct str s, enum log_level *ret)
{
    for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (str_is(s, level_names[i])) {
            *ret = (enum log_level)i;
            return true;
        }
    }
    return false;
}

uint64_t log_lost(void)
{
    return logger.lost;
}

static void put_cut(struct jw *w, const char *key, struct str s, size_t max)
{
    struct str cut = utf8_prefix(s, max);
    char text[FIELD_MAX_BYTES + 4];

    jw_key(w, key);
    if (cut.len == s.len) {
        jw_str(w, s);
        return;
    }
    memcpy(text, cut.ptr, cut.len);
    memcpy(text + cut.len, "...", sizeof("..."));
    jw_str(w, (struct str){text, cut.len + 3});
}

static void put_err(struct jw *w, const char *key, const struct err *err, size_t max)
{
    char at[128];

    jw_key(w, key);
    jw_obj(w);
    jw_kcstr(w, "code", err_code_name(err->code));
    put_cut(w, "message", str_of(err->message), max);
    if (err->lib_code != 0)
        jw_ki64(w, "lib_code", err->lib_code);
    if (err->sqlstate[0] != '\0')
        jw_kcstr(w, "sqlstate", err->sqlstate);
    if (err->file != NULL) {
        snprintf(at, sizeof(at), "%s:%d", err->file, err->line);
        jw_kcstr(w, "at", at);
    }
    jw_end_obj(w);
}

static void put_field(struct jw *w, const struct log_field *f, size_t max)
{
    char id[UUID_TEXT_SIZE];

    switch (f->type) {
    case LOG_F_STR:
        put_cut(w, f->name, f->value.str, max);
        break;
    case LOG_F_I64:
        jw_ki64(w, f->name, f->value.i64);
        break;
    case LOG_F_RUN:
        run_id_format(f->value.run, id);
        jw_kcstr(w, f->name, id);
        break;
    case LOG_F_BOOL:
        jw_kbool(w, f->name, f->value.boolean);
        break;
    case LOG_F_ERR:
        put_err(w, f->name, f->value.err, max);
        break;
    }
}

/* The line with strings of at most `max` bytes; with max 0 without its fields. False when it does not fit. */
static bool build_line(struct buf *line, enum log_level level, const char *event, const struct log_field *fields,
                       size_t count, size_t max)
{
    struct jw w;
    char ts[WALL_TEXT_SIZE];

    buf_reset(line);
    w = jw_to(line);
    wall_format(clock_wall(), ts);
    jw_obj(&w);
    jw_kcstr(&w, "ts", ts);
    jw_kcstr(&w, "level", level_names[level]);
    jw_kcstr(&w, "svc", logger.svc);
    if (logger.name != NULL)
        jw_kcstr(&w, "name", logger.name);
    jw_kcstr(&w, "event", event);
    for (size_t i = 0; i < count && max > 0; i++) {
        if (fields[i].name != NULL)
            put_field(&w, &fields[i], max);
    }
    if (max == 0)
        jw_kbool(&w, "fields_dropped", true);
    jw_end_obj(&w);
    buf_append_char(line, '\n');
    return !line->overflow;
}

/* Writes without waiting. Sockets can be asked not to block; a pipe that polls writable has room for PIPE_BUF bytes,
 * unless another process fills it in between. O_NONBLOCK is no choice: it would hold for all who share the pipe. */
static ssize_t write_now(struct str line)
{
    struct pollfd poller = {.fd = STDERR_FILENO, .events = POLLOUT};
    ssize_t n;

    do {
        n = send(STDERR_FILENO, line.ptr, line.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == ENOTSOCK) {
            if (poll(&poller, 1, 0) != 1 || poller.revents != POLLOUT) /* not when the reader is gone: SIGPIPE */
                return -1;
            n = write(STDERR_FILENO, line.ptr, line.len);
        }
    } while (n < 0 && errno == EINTR);
    return n;
}

static void emit(struct str line)
{
    ssize_t n;
    bool lost;

    pthread_mutex_lock(&logger.lock);
    if (logger.cut_short && write_now(STR("\n")) == 1)
        logger.cut_short = false;
    n = logger.cut_short ? -1 : write_now(line);
    lost = n != (ssize_t)line.len;
    if (lost && n > 0)
        logger.cut_short = true;
    pthread_mutex_unlock(&logger.lock);
    if (lost) {
        logger.lost++;
        metric_add(METRIC_LOG_LOST, 1);
    }
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
    CLEANUP(buf_deinit) struct buf line = {0};
    int saved_errno = errno;
    size_t max = FIELD_MAX_BYTES;

    if (level < logger.level)
        return;
    ENSURE((size_t)level < sizeof(level_names) / sizeof(level_names[0]));
    buf_init(&line, LINE_MAX_BYTES);
    while (!build_line(&line, level, event, fields, count, max) && max > 0)
        max = max > 16 ? max / 4 : 0;
    emit(buf_str(&line));
    errno = saved_errno;
}
