/* What forms of both kinds have in common: fields, and their writing. Pure. */
#pragma once
#include "common/base/json_text.h"

#define FORM_FIELDS_MAX 1000

struct form_field {
    struct str name, value;
    size_t at;                  /* the order they came in */
    struct str file_name, type; /* of a file; file_name STR_NONE: it is none */
};

/* An object, by name; a name that is there twice is a list, in order. Sorts the fields. */
void form_write_fields(struct form_field *fields, size_t count, struct jw *w);
/* UTF-8 without NUL. STR_NONE is. */
bool form_is_text(struct str s);
/* %XX are decoded; a % that begins no escape stands for itself, and *bad is set. */
struct str form_decode_percent(struct str raw, struct arena *arena, bool *bad);
