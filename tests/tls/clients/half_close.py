"""An echo over TLS with Python's ssl and no socket below it, so that each end can be told alone.

half_close.py HOST:PORT CA VERSION SIZE END WHEN

END is close_notify, both (and FIN behind it) or fin. WHEN is reading, at the same time as sending, or late, a while after
everything is sent. Prints `whole, close_notify` if that is how it went.
"""

import random
import select
import socket
import ssl
import sys
import time

PATIENCE = 60


class Client:
    def __init__(self, address, ca, version):
        host, port = address.rsplit(":", 1)
        context = ssl.create_default_context(cafile=ca)
        context.minimum_version = context.maximum_version = version
        self.socket = socket.create_connection((host, int(port)), PATIENCE)
        self.socket.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.unsent = b""
        self.received = bytearray()
        self.end = None

    def move(self, wait_for_input):
        """Sends what is to be sent, and takes what has come; waits if neither can be done."""
        self.unsent += self.outgoing.read()
        readers = [self.socket] if wait_for_input else []
        writers = [self.socket] if self.unsent else []
        readable, writable, _ = select.select(readers, writers, [], PATIENCE)
        assert readable or writable, "nothing moves"
        if writable:
            self.unsent = self.unsent[self.socket.send(self.unsent[: 1 << 16]) :]
        if readable:
            data = self.socket.recv(1 << 16)
            if data:
                self.incoming.write(data)
            else:
                self.incoming.write_eof()

    def shake_hands(self):
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.move(True)
        self.flush()

    def flush(self):
        while self.unsent or self.outgoing.pending:
            self.move(False)

    def read(self):
        """Takes what is there. Notes how the stream has ended."""
        while self.end is None:
            try:
                data = self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLEOFError:
                self.end = "no close_notify"
                return
            self.received += data
            if not data:
                self.end = "close_notify"

    def close_notify(self):
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # It is for the server to answer.


def main():
    address, ca, version, size, end, when = sys.argv[1:]
    client = Client(address, ca, {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version])
    client.shake_hands()
    data = random.Random(1).randbytes(int(size))
    for start in range(0, len(data), 1 << 14):
        client.tls.write(data[start : start + (1 << 14)])
        if when == "late":
            client.flush()
        while when == "reading" and (client.unsent or client.outgoing.pending):
            client.move(True)
            client.read()
    if end != "fin":
        client.close_notify()
        client.flush()
    if end != "close_notify":
        client.socket.shutdown(socket.SHUT_WR)
    if when == "late":
        time.sleep(0.3)
    client.read()
    while client.end is None:
        client.move(True)
        client.read()
    whole = "whole" if client.received == data else f"{len(client.received)} of {len(data)} bytes"
    print(f"{whole}, {client.end}")


main()
