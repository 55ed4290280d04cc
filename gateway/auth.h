/* Who asks: API keys by the hash of the whole key. What PostgreSQL said is believed for at most 4 s, so that a revoked
 * key ends within 5 s on every gateway; keys in use are asked for again before that, so that nobody waits for it. */
#pragma once
#include "gateway/call.h"

struct auth;
struct auth *auth_new(struct gateway *gw);
void auth_free(struct auth *auth);
/* Fills call->caller and goes on with `next`, or answers 401 or 503. */
void auth_call(struct auth *auth, struct call *call, void (*next)(struct call *call));
/* This gateway has just revoked a key, or changed what an organisation may: believe nothing that was read before. */
void auth_forget(struct auth *auth);

#define API_KEY_PREFIX_CHARS 8
#define API_KEY_SIZE 64
/* A new key: "rw_" + prefix + "_" + secret; its public prefix ("rw_" + 8) and its hash. */
void api_key_make(char ret_key[API_KEY_SIZE], char ret_prefix[24], uint8_t ret_hash[32]);
