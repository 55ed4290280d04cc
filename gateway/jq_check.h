/* Does libjq take the expressions of a document? What is no plain path is compiled by a sandbox child, so that
 * `bad_expression` is told when a workflow is saved and not when it runs. */
#pragma once
#include "gateway/document.h"

/* Adds faults to the document's errors, then calls `done`, maybe from inside this call. When no child can be had the
 * call is answered 503 and `done` is not called. The document must live in the call's arena. */
void jq_check(struct call *call, struct document *document, void (*done)(void *ctx, struct document *document),
              void *ctx);
