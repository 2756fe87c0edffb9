/* worker_protocol.h: messages between the engine, templates and steps, as bytes on a stream socket.
 *
 * A message is a head, two 32-bit numbers (bytes that follow the head, type), and fields without gaps: numbers of 8 bytes, and strings, a
 * 32-bit length, the bytes and a NUL; the length NO_STRING stands for NULL. Both ends are the same program, so numbers are in its own
 * byte order. The decoder trusts nothing all the same: the process at the other end runs foreign code and may have gone mad.
 * Must not know processes nor descriptors.
 */
#ifndef ENGINE_WORKER_PROTOCOL_H
#define ENGINE_WORKER_PROTOCOL_H

#include "worker.h"

#define MESSAGE_HEAD 8
#define MESSAGE_MOST (16u << 20) /* bytes after the head that the engine takes from a step or template */

/* In brackets: the fields; s a string, n a number of 64 bits, f a binary64. */
enum message_type {
    /* A step to the engine. */
    MESSAGE_LOG = 1,     /* [n level, s text] */
    MESSAGE_PROGRESS,    /* [f done, f total, s text or NULL] */
    MESSAGE_METRIC,      /* [s name, f value] */
    MESSAGE_DISCOVERED,  /* [s path] */
    MESSAGE_FINGERPRINT, /* [s text] */
    MESSAGE_WATCH,       /* [s path] */
    MESSAGE_ADDED,       /* [s role, s name] */
    MESSAGE_LINEAGE,     /* [s role, n index]; waits for MESSAGE_ANSWER */
    MESSAGE_RESULT,      /* [n status, s message or NULL]: the last one */
    /* The engine to a step. */
    MESSAGE_REQUEST,     /* worker_request_write */
    MESSAGE_ANSWER,      /* [s json] */
    /* The engine to a template. */
    MESSAGE_LOAD,        /* [s plugin path, s current folder, n kind (enum template_kind)] */
    /* A template to the engine. */
    MESSAGE_LOADED,      /* [s error or NULL] */
    MESSAGE_DESCRIPTOR,  /* [s json] */
    MESSAGE_STARTED,     /* [n run, n 0 or errno of fork] */
    MESSAGE_ENDED        /* [n run, n wait status, f seconds, f user seconds, f system seconds, n peak bytes, n turn, n kills,
                          * n 0 or what it said without a message: its status plus 1] */
};

/* -- writing: message_begin, fields, message_end with what message_begin returned */

size_t message_begin(struct buf *b, enum message_type type);
void message_add_number(struct buf *b, uint64_t n);
void message_add_real(struct buf *b, double d);
void message_add_string(struct buf *b, const char *s); /* NULL is fine */
void message_end(struct buf *b, size_t begun);

/* -- reading */

struct message {
    uint32_t type;
    const unsigned char *at, *end; /* the fields that were not taken yet */
    const char *wrong;             /* what was wrong with a field, or NULL */
};

/* The message that `bytes` begin with; *used is how long it is, 0 if it isn't whole yet. Fails if it would be longer than `most`. It points
 * into `bytes`. */
int message_read(const void *bytes, size_t n, uint32_t most, struct message *m, size_t *used, struct err *e);

/* The next field. After one that isn't there or is none, `wrong` is set and all that follow are 0 or "". */
uint64_t message_number(struct message *m);
double message_real(struct message *m);
const char *message_string(struct message *m);          /* never NULL */
const char *message_string_or_null(struct message *m);

/* Whether all fields were there and nothing is left. */
int message_end_reached(const struct message *m, struct err *e);

/* A step's message as an event, without run and tag. Text that people read is made valid UTF-8 in `scratch`, where the event's text may
 * then lie. *result: it was MESSAGE_RESULT, of which *status and ev->text remain. */
int worker_event_read(struct message *m, struct worker_event *ev, bool *result, int *status, struct buf *scratch, struct err *e);

/* What a step is asked to do, without what is the engine's alone (plugin, log, timeout, tag). */
void worker_request_write(const struct worker_request *r, struct buf *out);
int worker_request_read(struct message *m, struct arena *a, struct worker_request *r, struct err *e);

/* Appends `n` bytes as valid UTF-8 without NUL: what is none becomes U+FFFD. */
void text_add_valid(struct buf *out, const char *bytes, size_t n);
bool text_is_valid(const char *s);

#endif
