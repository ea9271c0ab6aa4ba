"""A worker of Celery whose broker and store of results is the server: what became of each task."""

import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone

os.environ["REDIS_PORT"] = sys.argv[1]

from celery import chain, chord, group  # noqa: E402
from celery.result import GroupResult  # noqa: E402
from redis import Redis  # noqa: E402

from celery_tasks import add, app, fail, fail_twice, late, shown, total  # noqa: E402

LONG = 45
redis = Redis(port=int(sys.argv[1]), decode_responses=True)


def until(what, condition):
    """Waits for something that comes, and prints that it came."""
    end = time.monotonic() + LONG
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited in vain until {what}")
        time.sleep(0.02)
    print(what)


def ended(result):
    """What was returned or raised, and whether the store says so too."""
    try:
        return result.get(timeout=LONG), result.successful()
    except ValueError as error:
        return repr(error), result.failed()


def work():
    early = [add.delay(at, at) for at in range(5)]
    print("queued", redis.llen("celery"))
    until("the worker answers", lambda: app.control.ping(timeout=0.5))
    print("queued before there was a worker", [ended(result) for result in early])
    due = time.time() + 1
    counted = late.apply_async([due], countdown=1)
    dated = late.apply_async([due], eta=datetime.now(timezone.utc) + timedelta(seconds=1))
    print("group", ended(group(add.s(at, 1) for at in range(10)).apply_async()))
    print("chain", ended(chain(add.s(1, 2), add.s(3), add.s(4)).apply_async()))
    print("chord", ended(chord((add.s(at, at) for at in range(20)), total.s()).apply_async()))
    broken = chord([fail.s(), add.s(1, 1)], total.s()).apply_async()
    until("a chord with a task that fails fails", broken.failed)
    print("failed", ended(fail.delay()))
    print("retried", ended(fail_twice.delay("tries")))
    halfway = shown.delay()
    until("a task tells how far it is", lambda: halfway.state == "HALFWAY")
    print("so far", halfway.info)
    redis.rpush("go on", "now")
    print("told", ended(halfway))
    print("countdown", ended(counted), "eta", ended(dated))
    never = add.apply_async([1, 1], expires=datetime.now(timezone.utc) - timedelta(seconds=1))
    until("what comes too late is revoked", lambda: never.state == "REVOKED")


def results():
    """How long results are kept."""
    kept = add.delay(1, 1)
    kept.get(timeout=LONG)
    print("kept for an hour", 3500 < redis.ttl(f"celery-task-meta-{kept.id}") <= 3600)
    kept.forget()
    print("forgotten", redis.exists(f"celery-task-meta-{kept.id}"), kept.state)
    app.backend.expires = 1
    saved = group(add.s(at, 2) for at in range(3)).apply_async()
    saved.save()
    print("saved", saved.get(timeout=LONG), len(GroupResult.restore(saved.id, app=app)))
    until("a saved group ends", lambda: GroupResult.restore(saved.id, app=app) is None)


def main():
    redis.flushall()
    app.control.purge()
    worker = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--concurrency", "2", "--loglevel", "CRITICAL"]
    environment = {**os.environ, "C_FORCE_ROOT": "1"}
    here = os.path.dirname(os.path.abspath(__file__))
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(worker, cwd=here, env=environment, **quiet)
    try:
        work()
        results()
        until("nothing is left undone", lambda: redis.exists("celery", "unacked", "unacked_index") == 0)
        app.control.shutdown()
        print("the worker ends with", running.wait(timeout=LONG))
    finally:
        running.terminate()
        running.wait()
    print("done")


main()
