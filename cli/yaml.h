/* YAML 1.2 (core schema) to JSON text, by libfyaml, which is met here alone. Numbers stay as written where JSON can say
 * them so: 0.10 stays 0.10. One document; the keys of maps are texts; tags beyond the core schema are refused. */
#pragma once
#include "common/base/str.h"

#define YAML_MAX_BYTES ((size_t)4 << 20) /* of the text, and of the JSON: aliases can make it grow */

/* ERR_SYNTAX with "line N: ..." and what is wrong. Appends to `out`, whose maximum bounds the JSON. */
enum err_code yaml_to_json(struct str text, struct buf *out, struct err *err) MUST_CHECK;

/* Appends checked JSON as YAML in block style, with a line end. It is read back as the same by 1.1 and 1.2; its depth
 * is that of the JSON. */
void yaml_from_json(struct str json, struct buf *out);

/* The line (from 1) of what the JSON Pointer names in YAML or JSON text, or of the nearest thing around it that is
 * there; 0 when the text cannot be read. */
int yaml_line(struct str text, struct str pointer);
