#!/usr/bin/env python3
"""Runs programs that people use, unchanged, against the proxy, and compares what becomes of it with one bare server.

Usage: run.py [--quorate PATH] [--cache DIR] [--only NAME,NAME]

redis-benchmark, redis-cli, ioredis, node-redis, redlock, rate-limiter-flexible, connect-redis, RQ and Celery. The
libraries come from npm and PyPI; nothing of them is kept here. Each program prints what it saw, and that must be the
same on both; afterwards the servers behind the proxy must hold the same. Exit code 0: so it is; 1: something differs;
2: it could not be tried. Takes a minute when the libraries are there.
"""

import argparse
import concurrent.futures
import contextlib
import difflib
import fcntl
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent))
from stand import Bare, Stand  # noqa: E402

# kombu uses packaging without saying so.
TOOLS = ["celery==5.7.0", "kombu==5.7.0", "packaging==26.3", "rq==3.0.0", "redis==8.1.0"]
DEADLINE = 60


def prepare(cache):
    """The libraries; fetched once for each list of them."""
    if not shutil.which("npm"):
        sys.exit("npm is not installed")
    python = cache / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(cache / "venv", with_pip=True)
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *TOOLS], check=True)
    wanted, had = HERE / "package.json", cache / "package.json"
    if not had.exists() or had.read_bytes() != wanted.read_bytes() or not (cache / "node_modules").exists():
        shutil.copy(wanted, had)
        quiet = ["--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        subprocess.run(["npm", "install", *quiet], cwd=cache, check=True)
    return python


def run(args, given=None, env=None):
    """What a program prints; an ending that is no success is shown too. What it started ends with it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = subprocess.Popen(args, env={**os.environ, **(env or {})}, start_new_session=True, **pipes)
    try:
        out, err = started.communicate(given, timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        return f"not done after {DEADLINE} s\n"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    return out + (f"exit code {started.returncode}\n{err[-2000:]}" if started.returncode else "")


def cli(port, *args, given=None):
    """redis-cli."""
    return run(["redis-cli", "-p", str(port), *args], given)


def benchmark(port, depth):
    """Every test of redis-benchmark: their names, errors, and what they leave behind."""
    cli(port, "FLUSHALL")
    size = ["-n", "1000", "-c", "20", "-P", str(depth), "--csv"]
    rows = run(["redis-benchmark", "-p", str(port), *size]).splitlines()
    names = [row.split(",")[0] if row.startswith('"') else row for row in rows]
    wanted = ["GET key:__rand_int__", "GET counter:__rand_int__", "LLEN mylist", "SCARD myset", "HLEN myhash", "ZCARD myzset"]
    return "\n".join(names) + "\n" + cli(port, given="\n".join(["DBSIZE", *wanted]))


def commands(port):
    """Commands piped into redis-cli, errors among them."""
    lines = ["FLUSHALL", "SET a 1", 'SET "two words" "x\\ny"', 'GET "two words"', "INCR a", "LPUSH a x", "NOSUCH", "GET"]
    lines += ["RPUSH l 1 2 3", "LRANGE l 0 -1", "HSET h f v g w", "HGETALL h", "ZADD z 1 a 2 b", "ZRANGE z 0 -1 WITHSCORES"]
    lines += ["MULTI", "INCR a", "LLEN l", "EXEC", "MULTI", "NOSUCH", "EXEC", "SET e x PX 100000", "TTL e", "EXPIREAT e 9999999999"]
    lines += ["EXPIRETIME e", "EVAL \"return {KEYS[1], redis.call('INCR', KEYS[1])}\" 1 a", "XADD s 1-1 f v", "XRANGE s - +"]
    lines += ["BLPOP l 1", "SORT l DESC", "OBJECT ENCODING a", "TYPE z", "DBSIZE", "SELECT 0", "ECHO end"]
    return cli(port, given="\n".join(lines)) + cli(port, "-3", given="HGETALL h\nZSCORE z a\nGET nothing\n")


def typed(port):
    """A person at redis-cli: prompts, hints and answers as a terminal shows them."""
    lines = ["PING", "SET k v", "get k", "MULTI", "INCR n", "EXEC", "HGETALL none", "select 0"]
    lines += ["NOSUCH x", "3 INCR n", "RPUSH l a b", "LRANGE l 0 -1", "BLPOP none 0.1", "CONFIG GET maxmemory-policy", "quit"]
    cli(port, "FLUSHALL")
    place, screen = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    args = ["redis-cli", "-p", str(port)]
    env = {**os.environ, "TERM": "xterm", "HOME": "/nonexistent"}
    person = subprocess.Popen(args, stdin=screen, stdout=screen, stderr=screen, env=env, start_new_session=True)
    os.close(screen)
    seen, deadline = b"", time.monotonic() + DEADLINE
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, place)
        stack.callback(person.wait)
        stack.callback(person.kill)
        for line in lines:
            seen += until_prompt(place, deadline)
            os.write(place, line.encode() + b"\r")
        person.wait(timeout=DEADLINE)
    # Ports are not equally long, so neither are the ways of the cursor.
    return re.sub(r"\x1b\[\d+C", "", seen.decode(errors="replace")).replace(f":{port}", ":PORT").replace("\r", "")


def until_prompt(place, deadline):
    """What a terminal shows up to the next prompt."""
    seen = b""
    while not seen.endswith(b"> "):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([place], [], [], left)[0]:
            raise TimeoutError(f"no prompt after {seen[-500:]!r}")
        seen += os.read(place, 4096)
    return seen


def mass(port):
    """Mass insertion by redis-cli --pipe."""
    cli(port, "FLUSHALL")
    given = "".join(f"*3\r\n$3\r\nSET\r\n${len(f'key:{at}')}\r\nkey:{at}\r\n${len(str(at))}\r\n{at}\r\n" for at in range(20000))
    return cli(port, "--pipe", given=given) + cli(port, given="DBSIZE\nGET key:19999")


def programs(cache, python):
    """Names, and what each does at a port."""
    def script(name):
        return lambda port: run(["node", str(HERE / f"try_{name}.js"), str(port)], env={"NODE_PATH": str(cache / "node_modules")})

    def module(name):
        return lambda port: run([python, "-W", "ignore", str(HERE / f"try_{name}.py"), str(port)], env={"PYTHONDONTWRITEBYTECODE": "1"})

    return {
        "redis-benchmark": lambda port: benchmark(port, 1),
        "redis-benchmark -P 16": lambda port: benchmark(port, 16),
        "redis-cli": commands,
        "redis-cli at a terminal": typed,
        "redis-cli --pipe": mass,
        "ioredis": script("ioredis"),
        "node-redis": script("node_redis"),
        "redlock and rate-limiter-flexible": script("tools"),
        "connect-redis": script("sessions"),
        "rq": module("rq"),
        "celery": module("celery"),
    }


def problems(expected, got, differences):
    """What is wrong with what a program printed at the bare server and at the proxy, and left behind."""
    if not expected.strip() or "exit code" in expected or "not done" in expected:
        return ["it failed at the bare server:", *expected.splitlines()]
    lines = difflib.unified_diff(expected.splitlines(), got.splitlines(), "bare", "proxy", lineterm="")
    return [*lines, *differences.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quorate", default=REPOSITORY / "target" / "debug" / "quorate", type=pathlib.Path)
    parser.add_argument("--cache", default=REPOSITORY / "target" / "programs", type=pathlib.Path)
    parser.add_argument("--only", default="", help="parts of the names of those to run")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    cache = args.cache.resolve()
    python = prepare(cache)
    chosen = programs(cache, python)
    chosen = {name: one for name, one in chosen.items() if any(part in name for part in args.only.split(","))}
    stands, wrong = [], []
    with tempfile.TemporaryDirectory() as folder:
        try:
            stands.append(Bare(pathlib.Path(folder) / "bare"))
            stands.append(Stand(pathlib.Path(folder) / "proxy", args.quorate.resolve()))
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                for name, program in chosen.items():
                    expected, got = pool.map(program, [stand.port for stand in stands])
                    same = run([python, str(HERE / "same.py"), *map(str, stands[1].backends)])
                    found = problems(expected, got, same)
                    wrong += [name] if found else []
                    print(f"{name}: {'DIFFERENT' if found else 'as at a bare server'}", flush=True)
                    print("".join(f"  {line}\n" for line in found), end="", flush=True)
        finally:
            for stand in stands:
                stand.stop()
    print(f"{len(chosen) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
