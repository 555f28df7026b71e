/* common/check.h - our own mistakes end the process, in every build type.
 *
 * CHECK is for what only a bug of ours can break: arguments, states, invariants. Never for what a
 * peer, a disk or an operator sent: that is refused, logged and answered.
 */
#ifndef ISTHMUS_CHECK_H
#define ISTHMUS_CHECK_H

/* Log what failed and where, then abort(). Any thread. */
_Noreturn void check_failed(const char *expression, const char *file, int line, const char *function);

#define CHECK(x)                                                                                             \
    do {                                                                                                     \
        if (__builtin_expect(!(x), 0))                                                                       \
            check_failed(#x, __FILE__, __LINE__, __func__);                                                  \
    } while (0)

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
