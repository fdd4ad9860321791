"""A story through https://pypi.org/project/pymemcache: `pymemcache_client.py HOST:PORT`.

Prints each answer, so that those of two servers can be compared.
"""

import sys
import time

import pymemcache
from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

host, port = sys.argv[1].rsplit(":", 1)
client = Client((host, int(port)), timeout=50, default_noreply=False)
now = int(time.time())


def tell(method, *arguments, **options):
    try:
        answer = getattr(client, method)(*arguments, **options)
    except MemcacheError as error:
        answer = f"{type(error).__name__}: {error}"
    shown = repr(answer)
    print(method, repr(arguments)[:80], options, "->", shown if len(shown) < 200 else f"{len(shown)} characters")
    return answer


tell("set", "a", b"1")
tell("get", "a")
tell("get", "nothing", default="nothing")
tell("set", "flags", "x", flags=4294967295)
tell("get", "flags")
tell("set_many", {f"key{index}": f"value {index}" for index in range(200)})
assert len(tell("get_many", [f"key{index}" for index in range(220)])) == 200
tell("delete_many", [f"key{index}" for index in range(100)])
assert len(tell("get_many", [f"key{index}" for index in range(220)])) == 100
for value in [b"", b"\r\n", b"END\r\n", bytes(range(256)), b"\xff" * 1_000_000]:
    tell("set", "bytes", value)
    assert tell("get", "bytes") == value
tell("set", "bytes", b"x" * (1 << 20) + b"x")
tell("get", "bytes")
tell("add", "a", b"2")
tell("add", "b", b"2")
tell("replace", "c", b"3")
tell("replace", "b", b"3")
tell("append", "b", b"4")
tell("prepend", "b", b"2")
tell("append", "c", b"4")
tell("prepend", "c", b"2")
tell("get", "b")

_, version = client.gets("b")
tell("cas", "b", b"new", b"99999999")
assert tell("cas", "b", b"new", version) is True
assert tell("cas", "b", b"newer", version) is False
tell("cas", "c", b"new", version)
_, newer = client.gets("b")
assert newer != version
assert client.gets_many(["a", "b", "c"]).keys() == {"a", "b"}

tell("set", "count", b"10")
tell("incr", "count", 5)
tell("decr", "count", 1)
tell("decr", "count", 100)
tell("get", "count")
tell("incr", "count", 18446744073709551615)
tell("incr", "count", 2)
tell("incr", "nothing", 1)
tell("incr", "b", 1)
tell("set", "long", b"x", expire=1000)
tell("touch", "long", 2000)
tell("touch", "nothing", 2000)
tell("get", "long")
tell("touch", "long", -1)
tell("get", "long")
tell("set", "past", b"x", expire=-1)
tell("get", "past")
client.set("date", b"x", expire=now - 100)
print(client.get("date"))
client.set("date", b"x", expire=now + 100_000)
print(client.get("date"))

for index in range(1000):
    client.set("quiet", str(index), noreply=True)
tell("get", "quiet")
client.delete("quiet", noreply=True)
client.incr("count", 5, noreply=True)
client.touch("count", 0, noreply=True)
tell("get", "quiet")
tell("get", "count")
tell("delete", "a")
tell("delete", "a")
tell("get", "k" * 250)
assert client.version()
tell("flush_all", 1000)
tell("get", "b")
tell("flush_all")
tell("get", "b")
tell("set", "b", b"after")
tell("get", "b")
tell("quit")
print("pymemcache", pymemcache.__version__)
