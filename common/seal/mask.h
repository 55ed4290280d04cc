/* Takes values of secrets out of what leaves a process: answers that echo them, errors, details. A value is found as it
 * is, with any escapes of JSON, percent-encoded, and inside of base64 wherever it lies in it; of "Bearer x" and the
 * like x alone too, of "Basic x" also what it encodes. What is cut short, or changed in another way, is not found.
 * Pure. */
#pragma once
#include "common/base/str.h"

struct masker;
struct masker *masker_new(void);
void masker_free(struct masker *masker); /* wipes; accepts NULL */
/* Values of fewer than SECRET_VALUE_MIN bytes are left alone: taking them out would take out everything. */
void masker_add(struct masker *masker, struct str value);
/* Appends `text` with "********" in the place of each value. */
void masker_text(const struct masker *masker, struct str text, struct buf *out);
/* The same for checked JSON, which stays JSON: values are looked for in keys and strings, and a number or literal that
 * holds one becomes the string "********". */
void masker_json(const struct masker *masker, struct str json, struct buf *out);
