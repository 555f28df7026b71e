/* target/keys.h - the text keys of RFC 7143 section 13: one table, parser and negotiation.
 *
 * Pure: no connection, no I/O. Login and text requests feed it pairs; it fills a struct params and writes
 * the answers.
 */
#ifndef ISTHMUS_KEYS_H
#define ISTHMUS_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEYS_NAME_MAX = 63, KEYS_VALUE_MAX = 8191, KEYS_LENGTH_MAX = 0xffffff };

/* How a value is agreed on. */
enum key_kind {
    KEY_TEXT,   /* declared; the login looks at it itself */
    KEY_NUMBER, /* declared by each side for itself */
    KEY_MINIMUM,
    KEY_MAXIMUM,
    KEY_AND,
    KEY_OR,
    KEY_DIGEST,   /* a list; the first we know */
    KEY_OBSOLETE, /* answered as if we did not want it: markers of RFC 3720 */
};

enum { IN_SECURITY = 1, IN_OPERATIONAL = 2, IN_FULL_FEATURE = 4 };
enum { BY_INITIATOR = 1, BY_TARGET = 2 };

/* name, kind, low, high, default, what we offer at most (kind MAXIMUM: at least), who may send it, when.
 * Offers of bursts are lowered by configuration. Booleans are 0 and 1; digests 0 None, 1 CRC32C. */
#define KEYS(X)                                                                                              \
    X(InitiatorName, KEY_TEXT, 0, 0, 0, 0, BY_INITIATOR, IN_SECURITY | IN_OPERATIONAL)                       \
    X(InitiatorAlias, KEY_TEXT, 0, 0, 0, 0, BY_INITIATOR, IN_SECURITY | IN_OPERATIONAL | IN_FULL_FEATURE)    \
    X(TargetName, KEY_TEXT, 0, 0, 0, 0, BY_INITIATOR | BY_TARGET, IN_SECURITY | IN_OPERATIONAL)              \
    X(TargetAlias, KEY_TEXT, 0, 0, 0, 0, BY_TARGET, IN_SECURITY | IN_OPERATIONAL | IN_FULL_FEATURE)          \
    X(TargetAddress, KEY_TEXT, 0, 0, 0, 0, BY_TARGET, IN_SECURITY | IN_OPERATIONAL | IN_FULL_FEATURE)        \
    X(TargetPortalGroupTag, KEY_TEXT, 0, 0, 0, 0, BY_TARGET, IN_SECURITY | IN_OPERATIONAL)                   \
    X(SessionType, KEY_TEXT, 0, 0, 0, 0, BY_INITIATOR, IN_SECURITY | IN_OPERATIONAL)                         \
    X(SendTargets, KEY_TEXT, 0, 0, 0, 0, BY_INITIATOR, IN_FULL_FEATURE)                                      \
    X(AuthMethod, KEY_TEXT, 0, 0, 0, 0, BY_INITIATOR | BY_TARGET, IN_SECURITY)                               \
    X(CHAP_A, KEY_TEXT, 0, 0, 0, 0, BY_INITIATOR | BY_TARGET, IN_SECURITY)                                   \
    X(CHAP_I, KEY_TEXT, 0, 0, 0, 0, BY_INITIATOR | BY_TARGET, IN_SECURITY)                                   \
    X(CHAP_C, KEY_TEXT, 0, 0, 0, 0, BY_INITIATOR | BY_TARGET, IN_SECURITY)                                   \
    X(CHAP_N, KEY_TEXT, 0, 0, 0, 0, BY_INITIATOR | BY_TARGET, IN_SECURITY)                                   \
    X(CHAP_R, KEY_TEXT, 0, 0, 0, 0, BY_INITIATOR | BY_TARGET, IN_SECURITY)                                   \
    X(HeaderDigest, KEY_DIGEST, 0, 1, 0, 1, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)                        \
    X(DataDigest, KEY_DIGEST, 0, 1, 0, 1, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)                          \
    X(MaxConnections, KEY_MINIMUM, 1, 65535, 1, 1, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)                 \
    X(InitialR2T, KEY_OR, 0, 1, 1, 0, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)                              \
    X(ImmediateData, KEY_AND, 0, 1, 1, 1, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)                          \
    X(MaxRecvDataSegmentLength, KEY_NUMBER, 512, KEYS_LENGTH_MAX, 8192, 262144, BY_INITIATOR | BY_TARGET,    \
      IN_OPERATIONAL | IN_SECURITY | IN_FULL_FEATURE)                                                        \
    X(MaxBurstLength, KEY_MINIMUM, 512, KEYS_LENGTH_MAX, 262144, KEYS_LENGTH_MAX, BY_INITIATOR | BY_TARGET,  \
      IN_OPERATIONAL)                                                                                        \
    X(FirstBurstLength, KEY_MINIMUM, 512, KEYS_LENGTH_MAX, 65536, KEYS_LENGTH_MAX, BY_INITIATOR | BY_TARGET, \
      IN_OPERATIONAL)                                                                                        \
    X(DefaultTime2Wait, KEY_MAXIMUM, 0, 3600, 2, 0, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)                \
    X(DefaultTime2Retain, KEY_MINIMUM, 0, 3600, 20, 0, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)             \
    X(MaxOutstandingR2T, KEY_MINIMUM, 1, 65535, 1, 8, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)              \
    X(DataPDUInOrder, KEY_OR, 0, 1, 1, 1, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)                          \
    X(DataSequenceInOrder, KEY_OR, 0, 1, 1, 1, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)                     \
    X(ErrorRecoveryLevel, KEY_MINIMUM, 0, 2, 0, 0, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)                 \
    X(IFMarker, KEY_OBSOLETE, 0, 1, 0, 0, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)                          \
    X(OFMarker, KEY_OBSOLETE, 0, 1, 0, 0, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)                          \
    X(TaskReporting, KEY_TEXT, 0, 0, 0, 0, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)                         \
    X(iSCSIProtocolLevel, KEY_MINIMUM, 0, 31, 1, 1, BY_INITIATOR | BY_TARGET, IN_OPERATIONAL)

#define KEY_ID(name, ...) KEY_##name,
enum key_id { KEYS(KEY_ID) KEY_COUNT };
#undef KEY_ID

/* What has been agreed on; MaxRecvDataSegmentLength is the initiator's. */
struct params {
    uint32_t value[KEY_COUNT];
    uint64_t seen;             /* keys that the initiator has sent, by 1 << key_id */
    uint32_t offer[KEY_COUNT]; /* ours */
};

/* Defaults; the two bursts are what we agree to at most. */
void params_init(struct params *, uint32_t first_burst, uint32_t max_burst);

/* Answers: pairs "key=value\0" in a buffer of fixed capacity; too much sets `full`. */
struct text {
    char *bytes;
    size_t len, cap;
    bool full;
};
void text_add(struct text *, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Takes the next pair off [*p, end), both NUL-terminated in place (the byte at end must be writable). false
 * at the end; bad is set when what is there is not a pair, or its name is longer than a name may be. */
bool keys_next(char **p, char *end, const char **name, const char **value, bool *bad);

/* The key of this name, or KEY_COUNT. */
enum key_id keys_find(const char *name);
enum key_kind keys_kind(enum key_id);
const char *keys_name(enum key_id);

/* Agrees on one key of a kind other than KEY_TEXT and writes the answer, "Reject" included. false: the
 * negotiation itself is broken (sent twice, not now, a declaration out of range). */
bool keys_negotiate(struct params *, enum key_id, const char *value, unsigned when, struct text *answer);

/* Decimal or 0x number within [low, high]; false otherwise. */
bool keys_number(const char *, uint32_t low, uint32_t high, uint32_t *);
/* A comma-separated list: whether it holds this word. */
bool keys_list_has(const char *list, const char *word);

#endif
