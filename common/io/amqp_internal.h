/* What the two halves of a broker link share: amqp_link.c (loop thread: the public functions and callbacks) and amqp.c
 * (the link's own thread: the library). Commands go one way, events the other; nothing else is shared but `struct
 * amqp_shared`, under its lock. */
#pragma once
#include "common/io/amqp.h"
#include "common/io/amqp_tags.h"
#include <pthread.h>

enum amqp_cmd_kind {
    CMD_DECLARE,
    CMD_FANOUT,
    CMD_CONSUME,
    CMD_CLOSE,
    CMD_CANCEL,
    CMD_ACK,
    CMD_NACK,
    CMD_NACK_REQUEUE,
    CMD_DEPTH,
    CMD_PUBLISH,
};

struct amqp_cmd {
    struct amqp_cmd *next;
    enum amqp_cmd_kind kind;
    struct amqp_consumer *consumer; /* CONSUME, CLOSE, CANCEL, ACK, NACK */
    uint64_t generation, tag;       /* ACK, NACK */
    struct amqp_queue queue;        /* DECLARE; DEPTH and FANOUT use its name. Strings live behind the struct. */
    amqp_depth_fn depth;            /* DEPTH */
    struct amqp_message message;    /* PUBLISH; strings and body live behind the struct */
    void *ctx;                      /* DEPTH */
};
struct amqp_cmds {
    struct amqp_cmd *head, *tail;
};

enum amqp_event_kind { EV_UP, EV_DOWN, EV_BLOCKED, EV_DELIVERIES, EV_LOST, EV_CONFIRMS, EV_DEPTH };

struct amqp_confirmed {
    void (*fn)(void *ctx, enum amqp_confirm outcome);
    void *ctx;
    enum amqp_confirm outcome;
};
#define CONFIRMS_PER_EVENT 64

struct amqp_event {
    struct amqp_event *next;
    enum amqp_event_kind kind;
    struct amqp_consumer *consumer;     /* DELIVERIES, LOST */
    struct amqp_delivery *first, *last; /* DELIVERIES */
    struct amqp_confirmed *confirmed;   /* CONFIRMS: CONFIRMS_PER_EVENT slots */
    size_t count;
    struct err *err; /* DOWN */
    bool flag;       /* BLOCKED: is it; DEPTH: found */
    amqp_depth_fn depth;
    void *ctx;
    uint32_t ready, consumers;
};
struct amqp_events {
    struct amqp_event *head, *tail;
};

enum consumer_state {
    CONSUMER_WANTED,  /* open it as soon as the topology stands */
    CONSUMER_OPENING, /* waits for consume-ok */
    CONSUMER_ACTIVE,
    CONSUMER_CANCELLED, /* keeps its channel for acknowledgements */
    CONSUMER_RETRY,     /* the broker closed its channel; again at retry_at */
    CONSUMER_CLOSED,
};

/* Lives until its link is freed, so that late acknowledgements of a closed consumer find it. */
struct amqp_consumer {
    struct amqp_consumer *next; /* loop thread */
    struct amqp_link *link;
    struct amqp_consume options; /* constant */
    char *queue;                 /* constant */
    bool closed;                 /* loop thread: no callback any more */
    /* the link's thread */
    struct amqp_consumer *thread_next;
    enum consumer_state state;
    uint16_t channel; /* 0: none */
    uint64_t generation;
    struct mono_us retry_at;
    struct ack_window acks;
    bool acks_waiting;
    struct amqp_consumer *acks_next;
};

/* The part under the lock, and what both sides only read. */
struct amqp_shared {
    char *url, *name; /* constant */
    int heartbeat_s;  /* constant */
    int wake_fd;      /* eventfd that wakes the thread */
    pthread_mutex_t lock;
    pthread_cond_t ended;
    struct amqp_cmds inbox;    /* loop → thread */
    struct amqp_events outbox; /* thread → loop */
    bool sleeping;             /* the thread is about to wait: write wake_fd */
    bool stopping;             /* close soon */
    bool thread_done;
    uv_async_t *async; /* NULL once the loop side has gone: post nothing */
    void (*release)(struct amqp_shared *shared);
    unsigned refs; /* loop side, thread */
};

/* amqp.c */
void *amqp_thread_main(void *shared);
/* amqp_link.c, any thread */
void amqp_cmds_push(struct amqp_cmds *list, struct amqp_cmd *cmd);
void amqp_cmds_append(struct amqp_cmds *list, struct amqp_cmds *more); /* empties `more` */
struct amqp_cmd *amqp_cmds_pop(struct amqp_cmds *list);
void amqp_cmd_free(struct amqp_cmd *cmd);
void amqp_events_push(struct amqp_events *list, struct amqp_event *event);
void amqp_event_confirm(struct amqp_events *list, void (*fn)(void *, enum amqp_confirm), void *ctx,
                        enum amqp_confirm outcome);
/* Hands events to the loop. */
void amqp_shared_post(struct amqp_shared *shared, struct amqp_events *events);
void amqp_shared_unref(struct amqp_shared *shared);
