/* Bodies of multipart/form-data (RFC 7578), fields and small files. Strict: what two readers could read differently is
 * refused. Pure. */
#pragma once
#include "common/base/json_text.h"

#define MULTIPART_FILE_MAX ((size_t)64 << 10)   /* bytes of one file */
#define MULTIPART_FILES_MAX ((size_t)256 << 10) /* of all files of a body */

enum multipart_verdict {
    MULTIPART_READ,
    MULTIPART_MALFORMED, /* no such body */
    MULTIPART_TOO_LARGE, /* a file, or all of them, or too many fields */
};

/* The body as an object: a field is a text, a file {"name", "type", "base64"}; what is there twice is a list, in order.
 * *ret_fault says what is wrong, for the sender; memory of the arena. */
enum multipart_verdict multipart_to_json(struct str content_type, struct str body, struct arena *arena, struct jw *w,
                                         const char **ret_fault);
