/* The schema: numbered migrations embedded in the program, applied in order, each in one transaction, under an advisory
 * lock; and the rows without which nothing can start. Blocking: start-up work only, before there is a loop. */
#pragma once
#include "common/io/pg.h"

struct migrate_options {
    const char *admin_url; /* may create roles; becomes a member of ropewalk_owner when it is no superuser */
    const char *key_file;  /* where a first admin key goes (0600); NULL: none is made */
};
struct migrate_report {
    int from, to;     /* newest migration before and after */
    bool key_made;    /* key_file was written */
    bool key_missing; /* the first organisation has no admin key, and no key_file was named */
};

/* Idempotent: brings the schema up to date, then seeds what is missing: names of events, the installation with its
 * token key, organisation `default`, its first admin key when it has no usable one. ERR_CONFLICT: the schema is newer
 * than this release. */
enum err_code migrate_run(const struct migrate_options *options, struct migrate_report *ret,
                          struct err *err) MUST_CHECK;

/* Number of the newest migration that this release knows. */
int migrate_newest(void);
/* Asks over a service's own connection whether the schema is there: ERR_UNAVAILABLE when it is not migrated (far
 * enough) yet. */
void migrate_check(struct pg *pg, pg_role_fn done, void *ctx);
