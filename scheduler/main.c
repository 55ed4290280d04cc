/* ropewalk-scheduler: settings, --migrate, and the service around the shell. */
#include "common/base/log.h"
#include "common/db/migrate.h"
#include "common/expr/sandbox.h"
#include "scheduler/shell.h"

#include "common/base/banned.h"

#define DRAIN_MARGIN_MS 5000

#define CONFIG_STR(...) CONFIG_ROW_STR(config, __VA_ARGS__)
#define CONFIG_INT(...) CONFIG_ROW_INT(config, __VA_ARGS__)
static const struct config_row CONFIG_ROWS[] = {
#include "scheduler/config.def"
};
#define CONFIG_COUNT (sizeof(CONFIG_ROWS) / sizeof(CONFIG_ROWS[0]))

struct admin_config {
    char *pg_url, *key_file;
};
#undef CONFIG_STR
#define CONFIG_STR(...) CONFIG_ROW_STR(admin_config, __VA_ARGS__)
static const struct config_row ADMIN_ROWS[] = {
#include "scheduler/migrate.def"
};
#undef CONFIG_STR
#undef CONFIG_INT
#define ADMIN_COUNT (sizeof(ADMIN_ROWS) / sizeof(ADMIN_ROWS[0]))

/* Exits 0 done, 1 could not, 2 settings. */
static int migrate(void)
{
    struct admin_config config = {0};
    struct migrate_report report;
    struct err err = {0};
    enum err_code rc;

    if (config_load(ADMIN_ROWS, ADMIN_COUNT, &config, &err) != ERR_OK)
        return 2;
    log_init("scheduler", "migrate", LOG_INFO);
    rc = migrate_run(&(struct migrate_options){config.pg_url, config.key_file}, &report, &err);
    if (rc != ERR_OK)
        log_event(LOG_ERROR, "migrate.failed", log_err(&err));
    else
        log_event(LOG_INFO, "migrate.done", log_i64("from", report.from), log_i64("to", report.to),
                  log_bool("admin_key_written", report.key_made));
    if (rc == ERR_OK && report.key_missing)
        log_event(LOG_WARN, "migrate.no_admin_key", log_cstr("hint", "set ROPEWALK_ADMIN_KEY_FILE to have one made"));
    config_free(ADMIN_ROWS, ADMIN_COUNT, &config);
    if (rc == ERR_INVALID)
        return 2;
    return rc == ERR_OK ? 0 : 1;
}

static bool setting_fault(const char *name, const char *what)
{
    fprintf(stderr, "ROPEWALK_%s: %s\n", name, what);
    return false;
}

/* What the rows alone cannot say. */
static bool check_config(const struct config *config, enum log_level *ret_level)
{
    bool good = true;

    if (!log_level_parse(str_of(config->log_level), ret_level))
        good = setting_fault("LOG_LEVEL", "must be debug, info, warn or error");
    if (strcmp(config->queue_type, "classic") != 0 && strcmp(config->queue_type, "quorum") != 0)
        good = setting_fault("QUEUE_TYPE", "must be classic or quorum");
    if (strlen(config->name) == 0 || strlen(config->name) > 100)
        good = setting_fault("NAME", "must have 1 to 100 characters");
    if (config->renew_ms > config->lease_ms / 3)
        good = setting_fault("RENEW_MS", "must be at most a third of ROPEWALK_LEASE_MS");
    return good;
}

struct process {
    struct shell *shell;
};

static void on_stop(void *ctx)
{
    shell_stop(((struct process *)ctx)->shell);
}

static void readiness(void *ctx, struct buf *lines, bool *ready)
{
    shell_readiness(((struct process *)ctx)->shell, lines, ready);
}

static void metrics(void *ctx, struct buf *text)
{
    shell_metrics(((struct process *)ctx)->shell, text);
}

int main(int argc, char **argv)
{
    static struct config config;
    struct process process = {0};
    struct service *service;
    enum log_level level = LOG_INFO;
    int exit_code;

    sandbox_child_main_if_asked(argc, argv);
    if (argc == 2 && strcmp(argv[1], "--migrate") == 0)
        return migrate();
    exit_code = service_args(argc, argv, "scheduler", CONFIG_ROWS, CONFIG_COUNT, &config);
    if (exit_code >= 0)
        return exit_code;
    if (!check_config(&config, &level))
        return 2;
    log_init("scheduler", config.name, level);
    service = service_new(&(struct service_options){
        .svc = "scheduler",
        .name = config.name,
        .listen = config.listen,
        .on_stop = on_stop,
        .readiness = readiness,
        .metrics = metrics,
        .drain_timeout_ms = (int)config.drain_ms + DRAIN_MARGIN_MS,
        .ctx = &process,
    });
    process.shell = shell_new(service, &config);
    exit_code = service_run(service);
    shell_free(process.shell);
    service_free(service);
    config_free(CONFIG_ROWS, CONFIG_COUNT, &config);
    return exit_code;
}
