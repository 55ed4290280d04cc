/* The rows without which nothing can start. Only migrate.c calls it. */
#pragma once
#include "common/db/migrate.h"

/* Each row is made when it is missing; the key's file is in place before its row is committed, so that a crash between
 * them leaves a key that works nowhere, and the next run makes another. */
enum err_code seed_run(struct pg_session *session, const char *key_file, struct migrate_report *report,
                       struct err *err) MUST_CHECK;
