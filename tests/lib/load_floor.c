/* load_floor.c - what TCP over loopback takes for a request and an answer, with nothing behind it.
 */
#include "load_floor.h"

#include "load_session.h"
#include "load_usage.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void pin(int core)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        load_die("core %d: %s", core, strerror(errno));
}

static void no_delay(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static _Noreturn void echo(int fd, int core)
{
    static uint8_t bytes[4096 + 48];
    struct epoll_event e = {.events = EPOLLIN};
    int epoll = epoll_create1(0);

    pin(core);
    no_delay(fd);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
    while (epoll_wait(epoll, &e, 1, -1) == 1 && recv(fd, bytes, 48, 0) == 48)
        send(fd, bytes, sizeof bytes, MSG_NOSIGNAL);
    _exit(0);
}

void load_floor(const int cores[2], uint64_t time_ns, bool poll, void (*done)(uint64_t took_ns))
{
    static uint8_t bytes[4096 + 48];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    uint64_t end_ns;
    pid_t child;

    if (bind(listener, (struct sockaddr *)&a, len) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&a, &len) || connect(fd, (struct sockaddr *)&a, len))
        load_die("loopback: %s", strerror(errno));
    child = fork();
    if (child == 0) {
        close(fd);
        echo(accept(listener, NULL, NULL), cores[1]);
    }
    pin(cores[0]);
    no_delay(fd);
    for (end_ns = usage_now_ns() + time_ns; usage_now_ns() < end_ns;) {
        uint64_t start_ns = usage_now_ns();
        ssize_t got = 0;

        if (send(fd, bytes, 48, MSG_NOSIGNAL) != 48)
            load_die("loopback: %s", strerror(errno));
        while (got < (ssize_t)sizeof bytes) {
            ssize_t n = recv(fd, bytes, sizeof bytes, poll ? MSG_DONTWAIT : 0);

            if (n == 0 || (n < 0 && errno != EAGAIN))
                load_die("loopback: closed");
            got += n > 0 ? n : 0;
        }
        done(usage_now_ns() - start_ns);
    }
    close(fd);
    waitpid(child, NULL, 0);
}
