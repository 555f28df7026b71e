/* tests/lib/no_sigpipe.c - linked with every program of the tests: who writes to a connection that has just
   ended gets EPIPE, as in the daemons, and not a signal that ends the program, and the test with it. */
#include <signal.h>

__attribute__((constructor)) static void no_sigpipe(void)
{
    signal(SIGPIPE, SIG_IGN);
}
