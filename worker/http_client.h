/* Inside of http steps: http_task.c (one request) and http_client.c (all of them on the loop). */
#pragma once
#include "worker/http_output.h"
#include "worker/http_request.h"
#include "worker/http_task.h"
#include <curl/curl.h>
#include <strings.h>

struct http_task {
    struct http_task *next, *prev; /* of the client's list */
    bool listed;                   /* its handle is with the multi handle */
    struct http_client *client;
    struct arena *arena; /* owns this struct too */
    const struct task *task;
    struct http_request_spec spec;
    bool once;
    http_task_fn done;
    void *ctx;
    CURL *easy;
    struct curl_slist *header_list;
    struct http_headers headers;
    struct buf body;
    size_t body_bytes;
    const char *url;           /* of this hop */
    unsigned redirects, sends; /* sends: of this hop's request */
    bool to_get, body_dropped, other_origin, resend_refused;
    bool head_ended, too_large, enough, refused, permitted, sent, answered;
    struct mono_us until; /* 0: no bound */
    char refused_text[EGRESS_TEXT_SIZE];
    char error[CURL_ERROR_SIZE];
};

struct http_client {
    struct http_client_options options;
    CURLM *multi;
    uv_timer_t timer;
    struct http_task *first;
    bool freed;
};

void http_client_add(struct http_client *client, struct http_task *http);
void http_client_forget(struct http_client *client, struct http_task *http);
void http_task_transferred(struct http_task *http, CURLcode code);
