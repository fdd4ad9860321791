/* libevent: bufferevents that move what they read to what they send, read up to a limit, and are freed when all
 * of it is sent. libevent 2.1 receives 4 KiB at a time at most, whatever it is told. */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BUFFER_BYTES = 64 << 10, REPLY_BYTES = 2 << 20 };

static int replying;
static char reply[REPLY_BYTES];
static struct event *retry;

/* All is sent. */
static void end(struct bufferevent *client) {
    shutdown(bufferevent_getfd(client), SHUT_WR);
    bufferevent_free(client);
}

static void sent_and_ended(struct bufferevent *client, void *context) {
    (void)context;
    if (evbuffer_get_length(bufferevent_get_output(client)) == 0)
        end(client);
}

static void happened(struct bufferevent *client, short what, void *context);

static void finish(struct bufferevent *client) {
    bufferevent_disable(client, EV_READ);
    if (evbuffer_get_length(bufferevent_get_output(client)) == 0)
        end(client);
    else
        bufferevent_setcb(client, NULL, sent_and_ended, happened, NULL);
}

static void sent(struct bufferevent *client, void *context) {
    (void)context;
    bufferevent_enable(client, EV_READ);
}

static void received(struct bufferevent *client, void *context) {
    (void)context;
    struct evbuffer *output = bufferevent_get_output(client);
    if (replying) {
        evbuffer_add_reference(output, reply, sizeof reply, NULL, NULL);
        finish(client);
        return;
    }
    evbuffer_add_buffer(output, bufferevent_get_input(client));
    if (evbuffer_get_length(output) > BUFFER_BYTES)
        bufferevent_disable(client, EV_READ);
}

static void happened(struct bufferevent *client, short what, void *context) {
    (void)context;
    if (what & BEV_EVENT_ERROR)
        bufferevent_free(client);
    else if (what & BEV_EVENT_EOF)
        finish(client);
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *peer, int length,
                     void *context) {
    (void)peer, (void)length, (void)context;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct bufferevent *client =
        bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(client, received, sent, happened, NULL);
    bufferevent_enable(client, EV_READ | EV_WRITE);
}

static void failed(struct evconnlistener *listener, void *context) {
    (void)context;
    struct timeval delay = {.tv_usec = 100000};
    evconnlistener_disable(listener);
    event_add(retry, &delay);
}

static void try_again(evutil_socket_t fd, short what, void *listener) {
    (void)fd, (void)what;
    evconnlistener_enable(listener);
}

int main(int argc, char **argv) {
    replying = argc > 1 && !strcmp(argv[1], "--reply");
    memset(reply, 'r', sizeof reply);
    signal(SIGPIPE, SIG_IGN);
    struct event_base *base = event_base_new();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct evconnlistener *listener = evconnlistener_new_bind(
        base, accepted, NULL, LEV_OPT_CLOSE_ON_FREE, 4096, (struct sockaddr *)&address, sizeof address);
    if (!listener || getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &length) < 0) {
        perror("listen");
        return 1;
    }
    retry = evtimer_new(base, try_again, listener);
    evconnlistener_set_error_cb(listener, failed);
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return event_base_dispatch(base);
}
