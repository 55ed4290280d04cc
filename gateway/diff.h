/* What differs between two JSON texts, value by value. */
#pragma once
#include "common/base/json_text.h"

/* Writes an array of {"op": "added" | "removed" | "changed", "pointer", "from", "to"} in the order of `from`, then what
 * is new. Objects are matched by key, whatever their order, lists by index; what is no container is compared as its
 * canonical text. Both are checked JSON. */
void diff_write(struct jw *w, struct str from, struct str to);
