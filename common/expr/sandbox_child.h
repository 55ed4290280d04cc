/* Inside a child of the sandbox. */
#pragma once
#include "common/expr/sandbox.h"

/* Gives up everything but computing, memory and the socket at fd 0: closes other descriptors, sets limits, installs
 * the system call filter. Ends the process when the kernel refuses any of it. `memory_bytes`: address space beyond
 * what is mapped now. Builds with a sanitizer have neither the memory limit nor the filter: their run time needs what
 * both forbid. */
void sandbox_confine(size_t memory_bytes);

/* libjq, with compiled programs kept by organisation and source (the least recently used go). */
struct sandbox_jq;
struct sandbox_jq *sandbox_jq_new(void);
/* Appends the value as JSON, or the message, to *out. A program must give exactly one value. */
enum sandbox_status sandbox_jq_eval(struct sandbox_jq *jq, int32_t organisation, struct str source, struct str document,
                                    size_t output_max, struct buf *out);
enum sandbox_status sandbox_jq_check(struct sandbox_jq *jq, struct str source, struct buf *out);

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_UNDER_SANITIZER 1
#else
#define SANDBOX_UNDER_SANITIZER 0
#endif
