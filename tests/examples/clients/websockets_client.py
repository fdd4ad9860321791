"""An echo through https://pypi.org/project/websockets: `websockets_client.py HOST:PORT`."""

import asyncio
import sys

import websockets
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

LIMIT = 16 << 20

# A busy machine is slow.
PATIENT = {"open_timeout": 60, "close_timeout": 60, "ping_timeout": None, "max_size": None}


async def echoes(url):
    """Every kind of message, sent as one frame and in fragments, comes back as it was."""
    async with connect(url, **PATIENT) as socket:
        for message in ["", "hello", "grüße 😀", "x" * 125, "x" * 126, "ü" * 40_000, "x" * LIMIT]:
            await socket.send(message)
            assert await socket.recv() == message
        for message in [b"", b"\x00\xff", bytes(65_535), bytes(65_536), bytes(LIMIT)]:
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(["a", "", "grü", "ße"])
        assert await socket.recv() == "agrüße"
        await socket.send([bytes(1000)] * 100)
        assert await socket.recv() == bytes(100_000)
        waiter = await socket.ping(b"are you there?")
        await waiter
        await socket.pong(b"nobody has asked")
        await socket.send("still here")
        assert await socket.recv() == "still here"
        await socket.close(4321, "done")
        assert (socket.close_code, socket.protocol.close_rcvd.code) == (4321, 4321)


async def many(url):
    """200 clients at once, 50 messages of each in flight."""

    async def one(number):
        async with connect(url, compression=None, **PATIENT) as socket:
            messages = [f"{number}: {index}" for index in range(50)]
            for message in messages:
                await socket.send(message)
            assert [await socket.recv() for _ in messages] == messages

    await asyncio.gather(*(one(number) for number in range(200)))


async def too_long(url):
    """A message over the limit is refused by its code."""
    socket = await connect(url, **PATIENT)
    await socket.send(bytes(LIMIT + 1))
    try:
        await socket.recv()
    except ConnectionClosedError as error:
        assert error.rcvd.code == 1009, error
    else:
        raise AssertionError("it came back")
    await socket.wait_closed()


async def main(url):
    await echoes(url)
    await many(url)
    await too_long(url)
    print("websockets", websockets.__version__)


asyncio.run(main(f"ws://{sys.argv[1]}/"))
