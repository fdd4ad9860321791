/* A bare splice loop: the bytes of a readable socket are moved into a pipe and from there back into the socket, without
 * a copy. Edge-triggered. A connection holds a pipe only while bytes are in it, and while there are it is not read. No
 * deadlines, no limits, no counters. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PIPE_BYTES = 1 << 20,
    PAGE_BYTES = 4096,
    SPARE_PIPES = 16,
    REPLY_BYTES = 2 << 20,
    BATCH = 1024,
    RETRY_MS = 100
};

struct pipe {
    int in, out;
    size_t slots; /* how many pieces it takes, each of at least one byte */
    size_t held;  /* the bytes in it */
    struct pipe *next;
};

struct client {
    int fd;
    int readable, ended; /* as far as epoll has told */
    struct pipe *pipe;   /* where its echo waits for the socket */
    size_t replied;      /* bytes of the reply that are sent */
    int replying;
    int starved; /* in the queue of those that want a pipe */
    struct client *next;
};

enum next { WAIT, CLOSE };

static int poller, listener, reply_mode, spare_count;
static struct pipe *spare;
static struct client *starved, **starved_end = &starved;
static char reply[REPLY_BYTES];

static void check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

/* As large as this user may have one: the kernel limits the sum of a user's pipes. */
static size_t enlarge(int fd) {
    for (int size = PIPE_BYTES; size > 16 * PAGE_BYTES; size /= 2) {
        int got = fcntl(fd, F_SETPIPE_SZ, size);
        if (got > 0)
            return got;
    }
    return fcntl(fd, F_GETPIPE_SZ);
}

/* An empty pipe, or NULL if there are no more descriptors. */
static struct pipe *take_pipe(void) {
    struct pipe *pipe = spare;
    if (pipe) {
        spare = pipe->next;
        spare_count--;
        return pipe;
    }
    int ends[2];
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0)
        return NULL;
    pipe = calloc(1, sizeof *pipe);
    pipe->out = ends[0];
    pipe->in = ends[1];
    pipe->slots = enlarge(pipe->in) / PAGE_BYTES;
    return pipe;
}

static void give_back(struct pipe *pipe) {
    if (pipe->held == 0 && spare_count < SPARE_PIPES) {
        pipe->next = spare;
        spare = pipe;
        spare_count++;
        return;
    }
    close(pipe->in);
    close(pipe->out);
    free(pipe);
}

static void drop(struct client *client) {
    if (client->pipe)
        give_back(client->pipe);
    close(client->fd);
    free(client);
}

/* Moves what the socket takes. Returns -1 on an error, 0 if something is left in the pipe. */
static int flush(struct client *client) {
    struct pipe *pipe = client->pipe;
    while (pipe->held > 0) {
        ssize_t n = splice(pipe->out, NULL, client->fd, NULL, pipe->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        pipe->held -= n;
    }
    client->pipe = NULL;
    give_back(pipe);
    return 1;
}

static void starve(struct client *client) {
    client->starved = 1;
    client->next = NULL;
    *starved_end = client;
    starved_end = &client->next;
}

static enum next echo(struct client *client) {
    for (;;) {
        if (client->pipe) {
            int flushed = flush(client);
            if (flushed <= 0)
                return flushed < 0 ? CLOSE : WAIT;
        }
        if (!client->readable)
            return WAIT;
        struct pipe *pipe = take_pipe();
        if (!pipe) {
            starve(client);
            return WAIT;
        }
        ssize_t n = splice(client->fd, NULL, pipe->in, NULL, PIPE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n <= 0) {
            int error = errno;
            give_back(pipe);
            client->readable = 0;
            if (n == 0)
                shutdown(client->fd, SHUT_WR);
            return n < 0 && error == EAGAIN ? WAIT : CLOSE;
        }
        pipe->held = n;
        client->pipe = pipe;
        /* So few bytes cannot have filled the pipe: the socket is empty, unless the end is behind them. */
        client->readable = (size_t)n >= pipe->slots || client->ended;
    }
}

/* Waits for the first bytes, sends the reply, and ends. */
static enum next answer(struct client *client) {
    char request[PAGE_BYTES];
    if (!client->replying) {
        ssize_t n = recv(client->fd, request, sizeof request, 0);
        if (n < 0)
            return errno == EAGAIN ? WAIT : CLOSE;
        client->replying = n > 0;
    }
    while (client->replying && client->replied < sizeof reply) {
        ssize_t n = send(client->fd, reply + client->replied, sizeof reply - client->replied, 0);
        if (n < 0)
            return errno == EAGAIN ? WAIT : CLOSE;
        client->replied += n;
    }
    shutdown(client->fd, SHUT_WR);
    return CLOSE;
}

static void serve(struct client *client) {
    if ((reply_mode ? answer(client) : echo(client)) == CLOSE)
        drop(client);
}

static void notice(struct client *client, uint32_t events) {
    client->readable |= (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    client->ended |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    if (!client->starved)
        serve(client);
}

/* Those that wanted a pipe when there was none, as long as there is one now. */
static void serve_starved(void) {
    struct pipe *pipe;
    while (starved && (pipe = take_pipe())) {
        give_back(pipe);
        struct client *client = starved;
        starved = client->next;
        if (!starved)
            starved_end = &starved;
        client->starved = 0;
        serve(client);
    }
}

/* Returns -1 when there is no more room. */
static int accept_all(void) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return errno == EAGAIN || errno == ECONNABORTED ? 0 : -1;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct client *client = calloc(1, sizeof *client);
        client->fd = fd;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = client};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
            drop(client);
    }
}

/* Whether clients that wait to be accepted are events. */
static void watch_listener(int on) {
    struct epoll_event event = {.events = on ? EPOLLIN : 0, .data.ptr = NULL};
    check(epoll_ctl(poller, EPOLL_CTL_MOD, listener, &event), "epoll_ctl");
}

static void listen_and_announce(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    check(listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    check(bind(listener, (struct sockaddr *)&address, length), "bind");
    check(listen(listener, 4096), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
}

/* With a pipe from the beginning, clients are served however many there are. */
static void set_up(void) {
    signal(SIGPIPE, SIG_IGN);
    memset(reply, 'r', sizeof reply);
    check(poller = epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    struct pipe *pipe = take_pipe();
    check(pipe ? 0 : -1, "pipe");
    give_back(pipe);
    listen_and_announce();
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    check(epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");
}

int main(int argc, char **argv) {
    reply_mode = argc > 1 && !strcmp(argv[1], "--reply");
    set_up();
    struct epoll_event events[BATCH];
    int full = 0;
    for (;;) {
        int count = epoll_wait(poller, events, BATCH, full || starved ? RETRY_MS : -1), waiting = full;
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                notice(events[i].data.ptr, events[i].events);
            else
                waiting = 1;
        }
        serve_starved();
        if (waiting) {
            int failed = accept_all() < 0;
            if (failed != full)
                watch_listener(!failed);
            full = failed;
        }
    }
}
