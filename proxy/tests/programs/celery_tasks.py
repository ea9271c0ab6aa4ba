"""What the worker of try_celery.py is asked to do; the server is the one that REDIS_PORT tells."""

import os

from celery import Celery
from redis import Redis

PORT = int(os.environ["REDIS_PORT"])
URL = f"redis://127.0.0.1:{PORT}/0"
app = Celery("celery_tasks", broker=URL, backend=URL)
app.conf.update(result_expires=3600, result_extended=True, broker_connection_retry_on_startup=True, task_acks_late=True)


@app.task
def add(one, other):
    return one + other


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def fail():
    raise ValueError("on purpose")


@app.task(bind=True, max_retries=3, default_retry_delay=0.1)
def fail_twice(self, key):
    tries = Redis(port=PORT).incr(key)
    if tries < 3:
        raise self.retry()
    return [tries, self.request.retries]


@app.task(bind=True)
def shown(self):
    self.update_state(state="HALFWAY", meta={"done": 50})
    Redis(port=PORT).blpop("go on", timeout=30)
    return "gone on"


@app.task
def late(due):
    now = float(Redis(port=PORT).time()[0])
    return "not before its time" if now + 1 >= due else f"{due - now} s too early"
