/* Force-included into the migrator of a release that is yet to come: how many migrations there are today. */
#pragma once
enum {
    MIGRATIONS_RELEASED = 0
#define MIGRATION(number, name, text) +1
#define INDEX_MIGRATION(number, name, text) +1
#include "common/db/migrations.def"
#undef MIGRATION
#undef INDEX_MIGRATION
};
