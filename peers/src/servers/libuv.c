/* libuv: try to write at once, queue the rest, and do not read while more than a little is queued. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { BUFFER_BYTES = 64 << 10, REPLY_BYTES = 2 << 20 };

struct client {
    uv_tcp_t stream;
    uv_shutdown_t shutdown;
};

struct tail {
    uv_write_t request;
    char bytes[];
};

static int replying;
static char buffer[BUFFER_BYTES], reply[REPLY_BYTES];

static void check(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, uv_strerror(result));
        exit(1);
    }
}

static void closed(uv_handle_t *handle) { free(handle->data); }

static void drop(uv_stream_t *stream) {
    if (!uv_is_closing((uv_handle_t *)stream))
        uv_close((uv_handle_t *)stream, closed);
}

static void was_shut_down(uv_shutdown_t *request, int status) {
    (void)status;
    drop(request->handle);
}

/* libuv sends what is queued before it shuts down. */
static void finish(uv_stream_t *stream) {
    struct client *client = stream->data;
    uv_read_stop(stream);
    if (uv_shutdown(&client->shutdown, stream, was_shut_down) < 0)
        drop(stream);
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    (void)handle, (void)suggested;
    *buf = uv_buf_init(buffer, sizeof buffer);
}

static void received(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void sent(uv_write_t *request, int status) {
    uv_stream_t *stream = request->handle;
    free(request->data);
    if (status < 0)
        drop(stream);
    else if (!replying && !uv_is_closing((uv_handle_t *)stream))
        uv_read_start(stream, give_buffer, received);
}

static void send_all(uv_stream_t *stream, char *bytes, size_t length) {
    uv_buf_t buf = uv_buf_init(bytes, length);
    int n = uv_try_write(stream, &buf, 1);
    if (n == UV_EAGAIN)
        n = 0;
    if (n < 0) {
        drop(stream);
        return;
    }
    if ((size_t)n == length)
        return;
    struct tail *tail = malloc(sizeof *tail + length - n);
    memcpy(tail->bytes, bytes + n, length - n);
    tail->request.data = tail;
    buf = uv_buf_init(tail->bytes, length - n);
    uv_read_stop(stream);
    if (uv_write(&tail->request, stream, &buf, 1, sent) < 0) {
        free(tail);
        drop(stream);
    }
}

static void received(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    if (n == UV_EOF) {
        finish(stream);
    } else if (n < 0) {
        drop(stream);
    } else if (n > 0 && replying) {
        send_all(stream, reply, sizeof reply);
        if (!uv_is_closing((uv_handle_t *)stream))
            finish(stream);
    } else if (n > 0) {
        send_all(stream, buf->base, n);
    }
}

static void connected(uv_stream_t *listener, int status) {
    if (status < 0)
        return;
    struct client *client = calloc(1, sizeof *client);
    uv_tcp_init(listener->loop, &client->stream);
    client->stream.data = client;
    uv_stream_t *stream = (uv_stream_t *)&client->stream;
    if (uv_accept(listener, stream) < 0) {
        drop(stream);
        return;
    }
    uv_tcp_nodelay(&client->stream, 1);
    uv_read_start(stream, give_buffer, received);
}

int main(int argc, char **argv) {
    replying = argc > 1 && !strcmp(argv[1], "--reply");
    memset(reply, 'r', sizeof reply);
    signal(SIGPIPE, SIG_IGN);
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    struct sockaddr_in address;
    int length = sizeof address;
    check(uv_tcp_init(loop, &listener), "uv_tcp_init");
    check(uv_ip4_addr("127.0.0.1", 0, &address), "uv_ip4_addr");
    check(uv_tcp_bind(&listener, (struct sockaddr *)&address, 0), "uv_tcp_bind");
    check(uv_listen((uv_stream_t *)&listener, 4096, connected), "uv_listen");
    check(uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &length), "uv_tcp_getsockname");
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
