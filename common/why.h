/* common/why.h - one plain sentence for the person who has to act.
 *
 * A function that can be refused for a reason an operator must read takes a struct why * and fills it when
 * it fails: what was tried, what was found, what to do. No secrets, no newline, no trailing full stop.
 */
#ifndef ISTHMUS_WHY_H
#define ISTHMUS_WHY_H

struct why {
    char text[400];
};

/* Sets the sentence (truncated to fit) and returns err, so that "return why_set(why, -EINVAL, ...)" reads
 * well. why may be NULL. */
int why_set(struct why *why, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
