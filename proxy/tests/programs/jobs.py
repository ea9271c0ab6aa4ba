"""What the workers of try_rq.py are asked to do."""

from redis import Redis


def add(one, other):
    return one + other


def fail():
    raise ValueError("on purpose")


def fail_once(key, port):
    if Redis(port=port).incr(key) == 1:
        raise ValueError("only once")
    return "second time"
