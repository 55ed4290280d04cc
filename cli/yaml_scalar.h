/* Plain scalars of YAML's core schema. Between yaml.c and yaml_scalar.c. */
#pragma once
#include "common/base/str.h"

/* Appends what the scalar is in JSON: null, a boolean, a number with its digits, else a string. Returns NULL, or what
 * is wrong with it: infinities, numbers that JSON cannot carry. */
const char *yaml_plain_scalar(struct str s, struct buf *out);
