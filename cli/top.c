/* top: what an organisation has going on, once a second, over the whole terminal. */
#include "cli/cli.h"
#include "cli/terminal.h"
#include <poll.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include "common/base/banned.h"

#define PICTURE_MAX ((size_t)1 << 20)
#define REFRESH_MS 1000
#define RUNS_SHOWN "20"

static volatile sig_atomic_t stopped_by, resized;

static void on_signal(int number)
{
    if (number == SIGWINCH)
        resized = 1;
    else
        stopped_by = number;
}

/* ---- the lines ---- */

static void end_line(struct buf *out)
{
    buf_append_char(out, '\n');
}

static void age_of(const json_t *row, const char *member, char *ret, size_t size)
{
    format_took(json_text(row, member), NULL, true, ret, size);
    if (ret[0] == '\0')
        (void)snprintf(ret, size, "-");
}

/* "in 3 min 5 s" of a time to come. */
static void due_in(const json_t *row, char *ret, size_t size)
{
    const char *text = json_text(row, "next_due_at");
    struct wall_us at, now = clock_wall();

    (void)snprintf(ret, size, "-");
    if (text != NULL && wall_parse(str_of(text), &at))
        format_span(at.us > now.us ? at.us - now.us : 0, ret, size);
}

static void put_runs(const json_t *stats, struct buf *out)
{
    const json_t *runs = json_object_get(stats, "runs");
    const json_t *open = json_object_get(runs, "open");
    const json_t *minute = json_object_get(runs, "last_minute");
    const char *status;
    json_t *count;

    buf_printf(out, "open     pending %lld   active %lld   paused %lld", json_int(open, "pending"),
               json_int(open, "active"), json_int(open, "paused"));
    if (json_int(open, "active") >= json_int(runs, "counted_up_to"))
        buf_append_str(out, STR("   or more"));
    end_line(out);
    buf_printf(out, "started  %.1f/s in the last minute", (double)json_int(minute, "started") / 60.0);
    json_object_foreach(json_object_get(minute, "by_status"), status, count)
    {
        buf_append_str(out, STR("   "));
        clean_append(out, str_of(status));
        buf_printf(out, " %lld", (long long)json_integer_value(count));
    }
    end_line(out);
}

/* A number that may be kept from us, or not known. */
static void number_or_dash(const json_t *row, const char *member, char *ret, size_t size)
{
    if (json_is_integer(json_object_get(row, member)))
        (void)snprintf(ret, size, "%lld", json_int(row, member));
    else
        (void)snprintf(ret, size, "-");
}

static void put_queues(const json_t *stats, struct buf *out)
{
    json_t *row;
    size_t i;

    buf_printf(out, "alive    %lld schedulers, %lld workers\n", json_int(stats, "schedulers"),
               json_int(stats, "workers"));
    if (json_array_size(json_object_get(stats, "queues")) == 0)
        return;
    buf_append_str(out, STR("\nQUEUED   OLDEST      WORKERS  PRIORITY  POOL (of all organisations)\n"));
    json_array_foreach(json_object_get(stats, "queues"), i, row)
    {
        char age[40] = "-", waiting[24], workers[24];

        number_or_dash(row, "waiting", waiting, sizeof(waiting));
        number_or_dash(row, "consumers", workers, sizeof(workers));
        if (json_is_integer(json_object_get(row, "oldest_ms")))
            format_span(json_int(row, "oldest_ms") * US_PER_MS, age, sizeof(age));
        buf_printf(out, "%-8s %-11s %-8s %-9s ", waiting, age, workers, text_or(json_text(row, "priority"), "-"));
        clean_append(out, str_of(text_or(json_text(row, "pool"), "-")));
        end_line(out);
    }
}

static void put_tasks(const json_t *stats, struct buf *out)
{
    json_t *row;
    size_t i;

    buf_append_str(out, STR("\nTASKS    OLDEST      PRIORITY  POOL\n"));
    json_array_foreach(json_object_get(stats, "tasks"), i, row)
    {
        char age[40];

        age_of(row, "oldest_at", age, sizeof(age));
        buf_printf(out, "%-8lld %-11s %-9s ", json_int(row, "count"), age, text_or(json_text(row, "priority"), "-"));
        clean_append(out, str_of(text_or(json_text(row, "pool"), "-")));
        if (json_text(row, "reason") != NULL) {
            buf_append_str(out, STR("  "));
            clean_append(out, str_of(json_text(row, "reason")));
        }
        end_line(out);
    }
}

static void put_waiting(const json_t *stats, struct buf *out)
{
    json_t *row;
    size_t i;

    buf_append_str(out, STR("\nWAITING  OLDEST      NEXT IN     FOR\n"));
    json_array_foreach(json_object_get(stats, "waiting"), i, row)
    {
        char age[40], due[40];

        age_of(row, "oldest_at", age, sizeof(age));
        due_in(row, due, sizeof(due));
        buf_printf(out, "%-8lld %-11s %-11s ", json_int(row, "count"), age, due);
        clean_append(out, str_of(text_or(json_text(row, "kind"), "-")));
        if (json_text(row, "reason") != NULL) {
            buf_append_str(out, STR(": "));
            clean_append(out, str_of(json_text(row, "reason")));
        }
        end_line(out);
    }
}

static void put_newest(const json_t *runs, struct buf *out)
{
    json_t *run;
    size_t i;

    buf_append_str(out, STR("\nRUN                                   AGE         STATUS   WORKFLOW\n"));
    json_array_foreach(json_object_get(runs, "items"), i, run)
    {
        char age[40];

        age_of(run, "created_at", age, sizeof(age));
        buf_printf(out, "%-37s %-11s %-8s ", text_or(json_text(run, "id"), "-"), age,
                   text_or(json_text(run, "status"), "-"));
        clean_append(out, str_of(text_or(json_text(run, "workflow"), "-")));
        end_line(out);
    }
}

static void put_all(const struct cli *cli, const struct answer *stats, const struct answer *runs, struct buf *out)
{
    char now[WALL_TEXT_SIZE];

    wall_format(clock_wall(), now);
    buf_append_str(out, STR("ropewalk "));
    clean_append(out, str_of(text_or(json_text(stats->json, "organisation"), "")));
    buf_printf(out, " at %s   %.8sZ\n", cli->url, now + 11);
    put_runs(stats->json, out);
    put_queues(stats->json, out);
    put_tasks(stats->json, out);
    put_waiting(stats->json, out);
    if (!json_is_true(json_object_get(json_object_get(stats->json, "looked_at"), "all")))
        buf_printf(out, "(of the newest %lld active and pending runs)\n",
                   json_int(json_object_get(stats->json, "looked_at"), "runs"));
    if (runs->json != NULL)
        put_newest(runs->json, out);
}

/* ---- the server ---- */

/* Both answers are for answer_deinit, also when it fails. */
static enum cli_exit ask(const struct cli *cli, bool quiet, struct answer *stats, struct answer *runs)
{
    const struct api_request request = {.method = "GET", .path = "/v1/stats", .quiet = quiet, .timeout_ms = 10000};
    struct api_request newest = request;
    enum cli_exit rc = api_call(cli, &request, stats);

    *runs = (struct answer){0};
    newest.path = "/v1/runs?status=active&page_size=" RUNS_SHOWN;
    if (rc == CLI_DONE)
        rc = api_call(cli, &newest, runs);
    return rc;
}

static enum cli_exit print_once(const struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct answer stats, runs;
    enum cli_exit rc = ask(cli, false, &stats, &runs);

    buf_init(&out, PICTURE_MAX);
    if (rc == CLI_DONE && cli->json)
        print_answer(cli, &stats);
    else if (rc == CLI_DONE) {
        put_all(cli, &stats, &runs, &out);
        (void)fwrite(out.ptr, 1, out.len, stdout);
    }
    answer_deinit(&stats);
    answer_deinit(&runs);
    return rc;
}

/* ---- the screen ---- */

/* Another screen than the one that the shell wrote on, without a cursor and without what is typed. */
static void take_screen(struct termios *before)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct termios now;

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    (void)sigaction(SIGWINCH, &action, NULL);
    if (tcgetattr(STDIN_FILENO, before) == 0) {
        now = *before;
        now.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &now);
    }
    (void)fputs("\033[?1049h\033[?25l", stdout);
}

static void give_screen_back(const struct termios *before)
{
    (void)fputs("\033[?25h\033[?1049l", stdout);
    (void)fflush(stdout);
    if (isatty(STDIN_FILENO) == 1)
        (void)tcsetattr(STDIN_FILENO, TCSANOW, before);
}

/* Over the picture before, in one write: nothing is cleared that is not written anew, so that nothing flickers. */
static void draw(struct str lines)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct terminal_size size = terminal_size();
    size_t row = 0;

    buf_init(&out, PICTURE_MAX);
    buf_append_str(&out, STR("\033[H"));
    while (lines.len > 0 && row + 1 < size.rows) {
        buf_append_str(&out, terminal_cut(str_cut(&lines, '\n'), size.columns));
        buf_append_str(&out, STR("\033[K\r\n"));
        row++;
    }
    buf_append_str(&out, STR("\033[J"));
    buf_append_str(&out, terminal_cut(STR("q: quit"), size.columns));
    (void)fwrite(out.ptr, 1, out.len, stdout);
    (void)fflush(stdout);
}

/* Until it is time again, or the window has another size. False: enough. */
static bool wait_a_while(struct str lines)
{
    struct mono_us until = {clock_mono().us + REFRESH_MS * US_PER_MS};
    struct pollfd typed = {.fd = isatty(STDIN_FILENO) == 1 ? STDIN_FILENO : -1, .events = POLLIN};

    for (;;) {
        int64_t left_ms = (until.us - clock_mono().us) / US_PER_MS;
        char key = 0;

        if (stopped_by != 0)
            return false;
        if (resized != 0) {
            resized = 0;
            draw(lines);
        }
        if (left_ms <= 0)
            return true;
        if (poll(&typed, 1, (int)left_ms) > 0 && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q'))
            return false;
    }
}

static enum cli_exit watch(const struct cli *cli)
{
    CLEANUP(buf_deinit) struct buf lines = {0};
    struct termios before = {0};
    struct answer stats, runs;
    enum cli_exit rc = ask(cli, false, &stats, &runs);

    buf_init(&lines, PICTURE_MAX);
    if (rc == CLI_DONE)
        take_screen(&before);
    while (rc == CLI_DONE) {
        if (runs.json != NULL) {
            buf_reset(&lines);
            put_all(cli, &stats, &runs, &lines);
        } else {
            buf_reset(&lines);
            buf_printf(&lines, "no answer of %s; trying again\n", cli->url);
        }
        answer_deinit(&stats);
        answer_deinit(&runs);
        draw(buf_str(&lines));
        if (!wait_a_while(buf_str(&lines)))
            break;
        (void)ask(cli, true, &stats, &runs);
    }
    if (rc == CLI_DONE)
        give_screen_back(&before);
    return rc;
}

enum cli_exit cmd_top(struct cli *cli)
{
    bool once = take_flag(cli, "--once");
    enum cli_exit rc;

    if (!words_left(cli, 0, 0))
        return CLI_USAGE;
    if (once || cli->json || !terminal_is_good())
        return print_once(cli);
    rc = watch(cli);
    if (stopped_by != 0) { /* as others who are stopped end: the shell sees why */
        (void)signal(stopped_by, SIG_DFL);
        (void)raise(stopped_by);
    }
    return rc;
}
