/* Which workflows a document starts as child runs, and where that leads: a chain that comes back to the workflow
 * itself, or goes deeper than the organisation may, is a fault of the document; a child that does not exist (yet) is a
 * warning. The newest versions are looked at, as far down, so what is saved later may still make such a chain:
 * then the run says so, when it comes to that. */
#pragma once
#include "gateway/document.h"

#define LINEAGE_LOOKUPS_MAX 500

/* Calls `fn` for each step of a document that starts a child run, steps of loops too, with the JSON Pointer of the
 * name. */
typedef void (*lineage_fn)(void *ctx, struct str name, struct str pointer);
void lineage_each(struct arena *arena, struct str document, lineage_fn fn, void *ctx);

/* Adds to the document's errors and warnings, then goes on; answers itself when the database cannot be asked. */
void lineage_check(struct call *call, struct document *document, void (*done)(void *ctx, struct document *document),
                   void *ctx);
