/* Redis through hiredis, asynchronous on the loop: claims, counters, breakers. Redis may be absent, slow or empty at
 * any time: every command has a bound, a lost connection answers at once with CACHE_DOWN, and nothing is kept waiting
 * for it. Commands are pipelined. Loop thread only. */
#pragma once
#include "common/base/str.h"
#include <uv.h>

struct cache;
struct cache *cache_new(uv_loop_t *loop, const char *url, int timeout_ms); /* redis://[:password@]host:port[/db] */
void cache_free(struct cache *cache);
bool cache_is_up(const struct cache *cache);

enum cache_status { CACHE_OK, CACHE_NIL, CACHE_ERROR, CACHE_DOWN };
/* value: the bulk string, or the integer as text. */
typedef void (*cache_fn)(void *ctx, enum cache_status status, struct str value);

/* argv-style command; `done` may be NULL when nobody waits for the answer. */
void cache_command(struct cache *cache, cache_fn done, void *ctx, size_t argc, const struct str *argv);
