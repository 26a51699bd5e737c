"""Count requests and jobs in Prometheus' format. Counts and seconds only: nothing about patients, questions or clients."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)


class Metrics:
    """The counters of one server."""

    def __init__(self):
        self._registry = CollectorRegistry()
        options = {"registry": self._registry, "namespace": "medfm"}
        self.requests = Counter("requests", "HTTP requests", ("route", "status"), **options)
        self.jobs = Counter("jobs", "Jobs that ended", ("task", "outcome"), **options)
        self.seconds = Histogram("job_seconds", "How long jobs ran", buckets=SECONDS, **options)
        self.waited = Histogram("job_waited_seconds", "How long jobs waited", buckets=SECONDS, **options)
        self.queue = Gauge("queue_length", "Waiting jobs", **options)
        self.running = Gauge("jobs_running", "Running jobs", **options)
        self.memory = Gauge("worker_memory_bytes", "Main memory of the worker processes", **options)
        self.crashes = Gauge("worker_crashes", "Unexpected ends of worker processes", **options)
        self.volumes = Gauge("volumes_bytes", "Uploaded voxels stored", **options)

    def text(self) -> bytes:
        """Return all counters in Prometheus' text format."""
        return generate_latest(self._registry)
