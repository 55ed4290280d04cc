/* HTTP requests to others, many at a time: libcurl's multi interface on libuv, no thread but those that the library
 * resolves names with. What is asked and what an answer means is the caller's; here are the sockets, and the rules that
 * hold for everybody: connections go where the address guard lets them (egress.h), no proxy, no .netrc, http and https
 * only, no redirect that nobody has looked at. Loop thread only. */
#pragma once
#include "common/io/egress.h"
#include <curl/curl.h>
#include <uv.h>

struct transfers;

struct transfers_options {
    uv_loop_t *loop;
    const struct egress *egress;                     /* outlives the transfers */
    const char *ca_file;                             /* certificates to trust, "" for the system's */
    void (*turned)(void *ctx, struct transfers *of); /* after each turn in which something moved; may be NULL */
    void *ctx;
};

/* One of them, inside of what is asked. Zero but for `easy`, `ended` and `aborted` at first. */
struct transfer {
    struct transfer *next, *prev; /* of those that have been added and not forgotten */
    struct transfers *transfers;
    bool listed; /* its handle is with the multi handle */
    CURL *easy;
    void (*ended)(struct transfer *transfer, CURLcode code); /* may add it once more, or free it */
    void (*aborted)(struct transfer *transfer);              /* all are given up; it is to be forgotten */
    bool refused, permitted; /* by the guard: at least one of the addresses of this request */
    char refused_text[EGRESS_TEXT_SIZE];
};

struct transfers *transfers_new(const struct transfers_options *options);
void transfers_free(struct transfers *transfers); /* calls `aborted` for each that is left */
const struct transfers_options *transfers_options(const struct transfers *transfers);
/* Sets what holds for all on the handle: guard, certificates, protocols. Once, before it is added. */
void transfer_guard(struct transfers *transfers, struct transfer *transfer);
/* Begins, also one that has ended, with what is set on its handle now. */
void transfer_add(struct transfers *transfers, struct transfer *transfer);
void transfer_forget(struct transfer *transfer); /* also one under way, or never added; the handle stays the caller's */
/* The guard let no address pass: nothing else is what `code` says. */
bool transfer_was_refused(const struct transfer *transfer, CURLcode code);
/* Has a request left that nothing has come back for? */
bool transfers_wait_for_answer(const struct transfers *transfers);
/* What is wrong with an address that is to be posted to, for people; NULL: nothing. */
const char *transfer_url_fault(const char *text);
