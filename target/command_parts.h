/* target/command_parts.h - what the files of command.h have between them: command.c, command_data.c,
 * command_budget.c. Nobody else includes it. On the connection's loop.
 */
#ifndef ISTHMUS_COMMAND_PARTS_H
#define ISTHMUS_COMMAND_PARTS_H

#include <stdbool.h>
#include <stdint.h>

struct command;
struct conn;

/* command.c */
/* Data-Out for it may be on its way: to be dropped without a word. */
void command_remember(struct command *);
/* Enough memory for all of it: ask for what has not come by itself. */
void command_admit(struct command *);

/* command_budget.c */
bool command_has_room(struct conn *, uint32_t bytes);
/* What it has still to be given. */
uint32_t command_wants(const struct command *);
/* Held until the command is freed. */
void command_charge(struct command *, uint32_t bytes);
/* command_admit() follows when there is room. */
void command_wait_for_room(struct command *);

/* command_data.c */
/* Room for n bytes in data (a place to receive into even if n is 0), keeping what is there. */
void command_grow(struct command *, uint32_t n);
/* Runs the command when its data is there, else asks for it. */
void command_collect(struct command *);

#endif
