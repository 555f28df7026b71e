/* initiator/nbd_conn.h - one connection to an NBD export: connects, negotiates, carries I/O, notices when the
 * server hangs or goes, and comes back.
 *
 *    IDLE ──► RESOLVING ──► CONNECTING ──► UP
 *      ▲          └─────────────┴──────────┘  (lost, refused, no answer in time)
 *      └ waits for the back-off
 *
 * Loop thread.
 */
#ifndef ISTHMUS_NBD_CONN_H
#define ISTHMUS_NBD_CONN_H

#include "datastore.h"

struct nbd_conn;

struct nbd_place {
    char *host, *port; /* TCP */
    char *socket;      /* or Unix */
    char *name;        /* of the export */
    const char *disk;  /* for sentences and logs */
    const char *shown; /* the URL, without secrets */
};

/* What the server said about the export. */
struct nbd_facts {
    uint64_t bytes; /* exactly */
    uint32_t block_bytes, max_io_bytes;
    bool read_only;
    bool shared; /* all connections see the same data, and a flush on one is good for all */
    bool flushes, fua, zeroes;
};

struct nbd_conn_events {
    /* Negotiated, after each connect. */
    void (*up)(void *arg, struct nbd_conn *, const struct nbd_facts *);
    /* It cannot be used; it tries again by itself. was_up: it could, before. refused: a definite answer. What
     * it had issued is the owner's again. */
    void (*down)(void *arg, bool was_up, bool refused, const struct why *, struct datastore_ios *issued);
    /* The server's answer to io, which is the owner's again: 0 or an errno. */
    void (*answer)(void *arg, struct nbd_conn *, struct datastore_io *io, int err);
    void (*room)(void *arg); /* after answers: there may be room for more I/O */
    void *arg;
};

/* place is borrowed for its life. */
struct nbd_conn *nbd_conn_new(struct loop *, const struct nbd_place *, const struct nbd_conn_events *);
/* No events any more; *issued gets what it had issued. */
void nbd_conn_free(struct nbd_conn **, struct datastore_ios *issued);

bool nbd_conn_up(const struct nbd_conn *);
/* I/O issued and not answered. */
unsigned nbd_conn_load(const struct nbd_conn *);
/* Any but MARK, as the server can (nbd_facts). Needs a connection that is up. */
void nbd_conn_issue(struct nbd_conn *, struct datastore_io *);
/* Where the server has no zeroing: writes the next zeros of a ZERO, ds_next_zeros(). */
void nbd_conn_write_zeros(struct nbd_conn *, struct datastore_io *);

#endif
