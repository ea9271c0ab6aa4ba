"""A queue of RQ with two workers, of which one works off a burst twice: what became of each job."""

import sys

from redis import Redis
from rq import Queue, Retry, SimpleWorker
from rq.job import Dependency

import jobs

connection = Redis(port=int(sys.argv[1]))
connection.flushall()
queue, low = Queue("default", connection=connection), Queue("low", connection=connection)
sums = [queue.enqueue(jobs.add, at, at + 1) for at in range(10)]
fails = queue.enqueue(jobs.fail)
again = low.enqueue(jobs.fail_once, "tries", int(sys.argv[1]), retry=Retry(max=2))
last = queue.enqueue(jobs.add, 1, 1, depends_on=Dependency(jobs=sums))
print("waiting", len(queue), len(low), last.get_status(refresh=True).value)
for turn in range(2):
    SimpleWorker([queue, low], connection=connection).work(burst=True, logging_level="CRITICAL")
print("sums", [job.return_value(refresh=True) for job in sums])
print("failed", fails.get_status(refresh=True).value, "ValueError" in str(fails.latest_result().exc_string))
print("retried", again.get_status(refresh=True).value, again.return_value(refresh=True))
print("dependent", last.get_status(refresh=True).value, last.return_value(refresh=True))
print("registries", len(queue.finished_job_registry), len(queue.failed_job_registry), len(queue), len(low))
print("done")
