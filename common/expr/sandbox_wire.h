/* Frames between the parent and a child of the sandbox: same machine, same program, so plain structs. The parent does
 * not trust what a child sends; a child trusts its parent. */
#pragma once
#include "common/expr/sandbox.h"

#define SANDBOX_CHILD_ARG "--expression-child"
#define SANDBOX_ID_READY 0            /* of the first frame a child sends */
#define SANDBOX_EXIT_RECYCLE 75       /* the child has worked long enough; what waits is to run elsewhere */
#define SANDBOX_MESSAGE_MAX 400       /* bytes of an error's text */
#define SANDBOX_FRAME_MAX (64u << 20) /* bytes of any frame */

enum sandbox_kind { SANDBOX_EVAL, SANDBOX_CHECK };

/* Source and document follow. */
struct sandbox_request_head {
    uint32_t frame_bytes; /* with this head */
    uint32_t id;
    uint32_t source_bytes;
    uint32_t output_max;
    int32_t organisation;
    uint32_t kind;
};

/* Value or message follows. */
struct sandbox_answer_head {
    uint32_t frame_bytes; /* with this head */
    uint32_t id;
    uint32_t status; /* enum sandbox_status */
};
