/* A bare epoll loop: one buffer for all, one recv and one send per message, level-triggered. While a client does not
 * take its echo it is not read. No deadlines, no limits, no counters. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 64 << 10, REPLY_BYTES = 2 << 20, BATCH = 1024, RETRY_MS = 100 };

struct client {
    int fd;
    int finishing; /* a reply: close once it is sent */
    char *tail;    /* what the socket did not take */
    size_t sent, length;
};

static int poller, listener, replying;
static char buffer[BUFFER_BYTES], reply[REPLY_BYTES];

static void check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static void watch(struct client *client, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &event);
}

static void drop(struct client *client) {
    close(client->fd);
    free(client->tail);
    free(client);
}

static void finish(struct client *client) {
    shutdown(client->fd, SHUT_WR);
    drop(client);
}

/* Sends, and keeps what the socket does not take. Returns -1 once the client is gone. */
static int send_all(struct client *client, const char *bytes, size_t length) {
    ssize_t n = send(client->fd, bytes, length, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN)
            return -1;
        n = 0;
    }
    if ((size_t)n < length) {
        client->length = length - n;
        client->sent = 0;
        client->tail = malloc(client->length);
        memcpy(client->tail, bytes + n, client->length);
        watch(client, EPOLLOUT);
    }
    return 0;
}

static int flush(struct client *client) {
    ssize_t n = send(client->fd, client->tail + client->sent, client->length - client->sent, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN ? 0 : -1;
    client->sent += n;
    if (client->sent == client->length) {
        free(client->tail);
        client->tail = NULL;
        watch(client, EPOLLIN);
    }
    return 0;
}

static void serve(struct client *client) {
    if (client->tail) {
        if (flush(client) < 0)
            drop(client);
        else if (!client->tail && client->finishing)
            finish(client);
        return;
    }
    ssize_t n = recv(client->fd, buffer, sizeof buffer, 0);
    if (n < 0) {
        if (errno != EAGAIN)
            drop(client);
        return;
    }
    if (n == 0) {
        finish(client);
        return;
    }
    client->finishing = replying;
    if (send_all(client, replying ? reply : buffer, replying ? sizeof reply : (size_t)n) < 0)
        drop(client);
    else if (client->finishing && !client->tail)
        finish(client);
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
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
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

int main(int argc, char **argv) {
    replying = argc > 1 && !strcmp(argv[1], "--reply");
    memset(reply, 'r', sizeof reply);
    listen_and_announce();
    check(poller = epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[BATCH];
    check(epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");
    int full = 0;
    for (;;) {
        int count = epoll_wait(poller, events, BATCH, full ? RETRY_MS : -1), waiting = full;
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                serve(events[i].data.ptr);
            else
                waiting = 1;
        }
        if (waiting) {
            int failed = accept_all() < 0;
            if (failed != full)
                watch_listener(!failed);
            full = failed;
        }
    }
}
