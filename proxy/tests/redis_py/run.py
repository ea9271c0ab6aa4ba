#!/usr/bin/env python3
"""Runs redis-py's own tests through the proxy, in both protocol versions side by side.

Usage: run.py [--quorate PATH] [--cache DIR]

The tests come from the source package on PyPI; nothing of them is kept here. What may fail stands in
exceptions.tsv, with a reason for each. Exit code 0: nothing else failed; 1: something did; 2: it could
not be tried. Takes about two minutes, most of which the tests sleep.
"""

import argparse
import fnmatch
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent))
from stand import Stand  # noqa: E402

VERSION = "8.1.0"
TOOLS = [f"redis=={VERSION}", "pytest==8.4.2", "pytest-asyncio==1.2.0", "pytest-timeout==2.4.0"]
FILES = ["commands", "pipeline", "pubsub", "scripting", "lock", "connection_pool", "encoding", "monitor"]
# What needs another kind of server.
MARKS = "not onlycluster and not redismod and not ssl and not cp_integration and not replica and not multidb_integration"
DEADLINE = 300


def prepare(cache):
    """The tools and the tests; fetched once."""
    python = cache / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(cache / "venv", with_pip=True)
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *TOOLS], check=True)
    if not (cache / f"redis-{VERSION}").exists():
        fetch = ["download", "--no-deps", "--no-binary", ":all:", "--dest", cache, f"redis=={VERSION}"]
        subprocess.run([*pip, *fetch], check=True)
        with tarfile.open(cache / f"redis-{VERSION}.tar.gz") as package:
            package.extractall(cache, filter="data")
    return python


def begin(python, cache, folder, port, protocol, names=None):
    """The tests in a process of their own, away from the package that they came in."""
    suite = folder / "suite"
    source = cache / f"redis-{VERSION}"
    if not suite.exists():
        suite.mkdir()
        (suite / "tests").symlink_to(source / "tests")
    (suite / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    url = f"redis://127.0.0.1:{port}/0"
    args = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "-rfE", "--timeout", "100", "-o", "timeout_method=signal"]
    args += ["--redis-url", url, "--redis-mod-url", url, "--protocol", str(protocol), "-m", MARKS]
    args += names or [f"tests/test_{name}.py" for name in FILES]
    with open(folder / "tests.log", "wb") as log:
        return subprocess.Popen(args, cwd=suite, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def exceptions():
    """Pattern and reason of what may fail."""
    lines = (HERE / "exceptions.tsv").read_text().splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def judge(protocol, log, allowed, used):
    """Prints what failed and may not, and gives it."""
    text = log.read_text(errors="replace")
    summary = re.findall(r"^(?:\d+ (?:failed|passed|skipped|deselected|warnings?|errors?)(?:, )?)+.*$", text, re.M)
    if not summary:
        sys.exit(f"protocol {protocol}: the tests did not end\n{text[-2000:]}")
    failed = {re.sub(r" - .*", "", line.split(" ", 1)[1]) for line in text.splitlines() if line.startswith(("FAILED ", "ERROR "))}
    wrong = []
    for name in sorted(failed):
        reasons = [pattern for pattern, _ in allowed if fnmatch.fnmatchcase(name.split("::", 1)[0][6:] + "::" + name.rsplit("::", 1)[1], pattern)]
        used.update(reasons)
        wrong += [] if reasons else [name]
    print(f"protocol {protocol}: {summary[-1].strip(' =')}; {len(failed) - len(wrong)} of the failures are expected")
    for name in wrong:
        print(f"  not expected: {name}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quorate", default=REPOSITORY / "target" / "debug" / "quorate", type=pathlib.Path)
    parser.add_argument("--cache", default=REPOSITORY / "target" / "redis-py", type=pathlib.Path)
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    cache = args.cache.resolve()
    python = prepare(cache)
    stands, runs, used, wrong = [], [], set(), 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            for protocol in (2, 3):
                place = pathlib.Path(folder) / str(protocol)
                stands.append(Stand(place, args.quorate.resolve()))
                runs.append((protocol, place, begin(python, cache, place, stands[-1].port, protocol)))
            end = time.monotonic() + DEADLINE
            for protocol, place, run in runs:
                try:
                    run.wait(timeout=max(1, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    print(f"protocol {protocol}: not done after {DEADLINE} s")
                unexpected = judge(protocol, place / "tests.log", exceptions(), used)
                if unexpected:
                    # Some count milliseconds, and a loaded machine makes them fail: once more, alone.
                    port = stands[protocol - 2].port
                    begin(python, cache, place, port, protocol, unexpected).wait(timeout=DEADLINE)
                    wrong += len(judge(protocol, place / "tests.log", exceptions(), used))
        finally:
            for _, _, run in runs:
                run.kill()
                run.wait()
            for stand in stands:
                stand.stop()
    for pattern, _ in exceptions():
        if pattern not in used and not wrong:
            print(f"  passes now, and needs no exception: {pattern}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
