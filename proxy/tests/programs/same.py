"""Do these servers come to hold the same? Prints the keys that stay different, and fails; usage: same.py PORT…"""

import sys
import time

from redis import Redis

VALUES = {
    "string": lambda server, key: server.get(key),
    "list": lambda server, key: server.lrange(key, 0, -1),
    "set": lambda server, key: server.smembers(key),
    "hash": lambda server, key: server.hgetall(key),
    "zset": lambda server, key: server.zrange(key, 0, -1, withscores=True),
    "stream": lambda server, key: (server.xrange(key), server.xinfo_groups(key)),
}


def held(server):
    """All keys but the proxy's: their values and deadlines."""
    keys = [key for key in server.scan_iter(count=1000) if not key.startswith(b"__quorate:")]
    kinds = {key: server.type(key).decode() for key in keys}
    known = {key: kind for key, kind in kinds.items() if kind != "none"}
    return {key: (VALUES[kind](server, key), server.pexpiretime(key)) for key, kind in known.items()}


servers = [Redis(port=int(port), protocol=2) for port in sys.argv[1:]]
end = time.monotonic() + 20
while True:
    first, *others = [held(server) for server in servers]
    different = {key for other in others for key in {*first, *other} if first.get(key) != other.get(key)}
    if not different or time.monotonic() > end:
        break
for key in sorted(different)[:10]:
    print(key, [str(one.get(key))[:200] for one in [first, *others]])
sys.exit(1 if different else 0)
