/* Which secrets a workflow refers to, and where. Written in the transaction of its save. */
#pragma once
#include "gateway/call.h"

/* Adds to a batch, behind the save, what the document refers to; it counts if the document is then the newest one
 * (hash: document_hash of it). */
void secret_uses_add(struct call *call, struct pg_batch *batch, struct str workflow, struct str document,
                     const uint8_t hash[32]);
