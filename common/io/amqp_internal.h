/* Inside of a broker link: amqp_link.c (loop: public functions, callbacks), amqp.c (the session: what is declared,
 * consumed, published), amqp_thread.c (the link's thread), amqp_queue.c (lists between them).
 *
 * A session belongs to one side at a time. The thread connects, which blocks; then it hands the session to the loop
 * (EV_ATTACH) and sleeps until the connection is lost and the session comes back. Over TLS, where the library itself
 * must write and may block, the session stays with the thread. Commands for a session of the thread go through the
 * inbox, its events through the outbox, both in `struct amqp_shared` under its lock. */
#pragma once
#include "common/io/amqp.h"
#include "common/io/amqp_tags.h"
#include "common/io/amqp_wire.h"
#include <pthread.h>

enum amqp_cmd_kind {
    CMD_DECLARE,
    CMD_EXCHANGE,
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
    struct amqp_queue queue; /* DECLARE; DEPTH uses its name, EXCHANGE name and type. Strings live behind the struct. */
    amqp_depth_fn depth;     /* DEPTH */
    struct amqp_message message; /* PUBLISH; strings and body live behind the struct */
    void *ctx;                   /* DEPTH */
};
struct amqp_cmds {
    struct amqp_cmd *head, *tail;
};

enum amqp_event_kind { EV_ATTACH, EV_UP, EV_DOWN, EV_BLOCKED, EV_DELIVERIES, EV_LOST, EV_CONFIRMS, EV_DEPTH };

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
    /* the session's owner */
    struct amqp_consumer *session_next;
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
    bool attached;             /* the loop has taken the session */
    bool returned;             /* and has given it back */
    bool thread_done;
    uv_async_t *async; /* NULL once the loop side has gone: post nothing */
    void (*release)(struct amqp_shared *shared);
    unsigned refs; /* loop side, thread */
};

/* Everything that one connection needs; survives it. */
struct session {
    struct amqp_shared *shared;
    struct wire *wire; /* NULL between connections */
    struct amqp_events events;
    struct amqp_cmds publishes, depths, topology; /* topology: remembered for every connection */
    struct amqp_consumer *consumers;
    struct amqp_consumer *channels[WIRE_CHANNELS]; /* consumer by channel */
    bool closing[WIRE_CHANNELS];                   /* we asked; not to be used before the answer */
    struct confirm_window confirms;
    unsigned declares_pending;
    bool selected, ready, blocked, depth_open, depth_asked;
    bool told_down, was_up;
    bool more_to_read; /* the library holds frames that the socket will not announce again */
    struct mono_us setup_until, next_tick;
    int64_t backoff_us;
    struct amqp_consumer *acks; /* consumers with acknowledgements to send */
};

/* amqp.c: called by the session's owner. What fails ends the connection: amqp_session_drop. */
struct session *amqp_session_new(struct amqp_shared *shared);
void amqp_session_free(struct session *s);
void amqp_session_begin(struct session *s);                            /* on a new wire: channels and topology */
void amqp_session_commands(struct session *s, struct amqp_cmds *cmds); /* takes all */
enum err_code amqp_session_push(struct session *s, struct err *err) MUST_CHECK; /* sends what can be sent */
bool amqp_session_has_more(const struct session *s); /* push has left something that the socket would take */
enum err_code amqp_session_read(struct session *s, struct err *err) MUST_CHECK;
enum err_code amqp_session_tick(struct session *s, struct err *err) MUST_CHECK; /* any time; works every 500 ms */
void amqp_session_drop(struct session *s, bool polite);
void amqp_session_refuse(struct session *s);                      /* answers messages without a connection */
void amqp_session_down(struct session *s, const struct err *err); /* says so, once per loss */
void amqp_session_last_words(struct session *s); /* before a wanted end: lets the last bytes leave, at most 400 ms */
/* Waits for socket, wake_fd or timeout; true when the socket is readable. */
bool amqp_session_wait(struct session *s, int timeout_ms);
#define AMQP_TICK_MS 500

/* amqp_thread.c */
void *amqp_thread_main(void *session);

/* amqp_queue.c, any thread */
void amqp_cmds_push(struct amqp_cmds *list, struct amqp_cmd *cmd);
void amqp_cmds_append(struct amqp_cmds *list, struct amqp_cmds *more); /* empties `more` */
struct amqp_cmd *amqp_cmds_pop(struct amqp_cmds *list);
void amqp_cmd_free(struct amqp_cmd *cmd);
void amqp_events_push(struct amqp_events *list, struct amqp_event *event);
void amqp_events_append(struct amqp_events *list, struct amqp_events *more); /* empties `more` */
struct amqp_event *amqp_events_pop(struct amqp_events *list);
void amqp_event_free(struct amqp_event *event);
void amqp_event_confirm(struct amqp_events *list, void (*fn)(void *, enum amqp_confirm), void *ctx,
                        enum amqp_confirm outcome);
struct amqp_shared *amqp_shared_new(const struct amqp_options *options, uv_async_t *async);
void amqp_shared_post(struct amqp_shared *shared, struct amqp_events *events); /* hands events to the loop */
void amqp_shared_wake(struct amqp_shared *shared);                             /* wakes the thread */
void amqp_shared_unref(struct amqp_shared *shared);
