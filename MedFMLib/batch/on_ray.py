"""Cases on Ray: one actor a runner, on this machine or a cluster. The driver reads, writes and keeps the manifest.

Volumes go to the actors through Ray's object store, so nodes need MedFM and the weights, but no common disk. Usage statistics
and the dashboard are off; a Ray that is started here listens on this machine alone.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout

import numpy as np

from ..core.request import Request, Response
from ..errors import Cancelled, InputError, MedFMError, ModelError
from ..execution import serialization
from ..execution.messages import error_as_json, error_from_json
from ..execution.payload import Payload, pack, unpack
from ..interfaces.jobs import Job, LocalRunner, Progress, run_job

LOOPBACK = "127.0.0.1"
OBJECT_STORE = 512 << 20
"""Bytes of the object store of a Ray started here: a few volumes in flight."""


@contextmanager
def ray_engine(address: str = "", gpus: float = 0.0, workers: int = 1, compute: str = "") -> Iterator[Callable]:
    """Connect to Ray, or start one here; gives a function that makes runners. It is left, or ended, afterwards.

    Meanwhile what is printed goes to stderr, since Ray tells of dead workers on stdout, which is for results.

    Args:
        address: of a cluster, "auto" for the one this machine belongs to; "" starts one here.
        gpus: that each worker gets; 0.5 lets two share one.
        workers: how many there will be.
        compute: MODULE:FACTORY in place of the engine, for tests.

    Raises:
        ModelError: Ray is missing. InputError: it can't be reached, or has fewer GPUs.
    """
    with redirect_stdout(sys.stderr), _connected(address, gpus, workers, compute) as make:
        yield make


@contextmanager
def _connected(address: str = "", gpus: float = 0.0, workers: int = 1, compute: str = "") -> Iterator[Callable]:
    """See `ray_engine`."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own = not address
    if own and "ray" not in sys.modules:  # it reads them when it is imported
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_urlsafe(32)
    try:
        import ray
    except ImportError as error:
        raise ModelError(f"--engine ray needs the package ray ({error}); `pip install 'medfm[ray]'`.") from error
    quiet = {"log_to_driver": False, "logging_level": "error", "ignore_reinit_error": True}
    try:
        if own:
            _listen_here_only(ray)
            # one CPU a worker, whatever the machine has
            ray.init(
                address="local", include_dashboard=False, _node_ip_address=LOOPBACK, num_cpus=max(workers, os.cpu_count() or 1),
                object_store_memory=OBJECT_STORE, **quiet,
            )  # fmt: skip
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise InputError(
            f"Ray at '{address or 'this machine'}' can't be used ({_first_line(error)}); check --ray-address, and that "
            "RAY_AUTH_MODE and the token here are those of the cluster."
        ) from error
    try:
        have = ray.cluster_resources().get("GPU", 0)
        if gpus * workers > have:
            raise InputError(
                f"{workers} workers × {gpus:g} GPUs were asked for, but Ray has {have:g}; change --workers or --gpus-per-worker."
            )
        actor = ray.remote(max_restarts=-1, num_cpus=1, num_gpus=gpus)(Worker)
        yield lambda: RayRunner(ray, actor, compute)
    finally:
        ray.shutdown()


def _listen_here_only(ray) -> None:
    """Let Ray's ports be open to this machine alone.

    Ray replaces a given 127.0.0.1 by an address that others reach, except where it takes clusters for impossible (Windows,
    macOS); this is that switch (ray 2.60, `_private/services.get_node_ip_address`). A test looks at the ports.
    """
    try:
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = False
    except ImportError:
        pass  # another version; the token still holds


class Worker:
    """What runs in an actor: an engine that keeps its model. A restarted actor loads it again with its next job."""

    def __init__(self, compute: str = ""):
        module, _, name = (compute or "MedFMLib.engine:Engine").partition(":")
        self._compute = getattr(importlib.import_module(module), name)()

    def run(self, rest: bytes, voxels: np.ndarray) -> tuple[str, bytes]:
        """("done", response) or ("failed", error as JSON), in their wire form.

        Args:
            rest: of a parcel. voxels: their bytes, uint8; shared with the object store, not copied.
        """
        job = Job(unpack(Payload(rest, memoryview(voxels))))
        run_job(job, getattr(self._compute, "run", self._compute))
        try:
            return "done", serialization.dumps(job.result(), compress=False)
        except MedFMError as error:
            return "failed", json.dumps(error_as_json(error)).encode()


class RayRunner(LocalRunner):
    """A runner whose one thread only waits for its actor; progress within a job is not told."""

    def __init__(self, ray, actor, compute: str):
        self._ray, self._actor = ray, actor.remote(compute)
        super().__init__(self._run)

    def close(self) -> None:
        """Cancel all jobs and end the actor, whatever it does."""
        super().close()
        self._ray.kill(self._actor)

    def _run(self, request: Request, progress: Progress) -> Response:
        payload = pack(request)
        voxels = self._ray.put(np.frombuffer(payload.voxels, np.uint8))
        waiting = [self._actor.run.remote(payload.rest, voxels)]
        while waiting:
            if progress.cancelled():
                raise Cancelled()
            ready, waiting = self._ray.wait(waiting, timeout=0.1)
        try:
            state, data = self._ray.get(ready[0])
        except self._ray.exceptions.RayActorError as error:
            raise MedFMError(f"The worker on Ray ended unexpectedly ({_first_line(error)}).") from error
        except self._ray.exceptions.RayError as error:
            raise MedFMError(f"Ray failed ({type(error).__name__}: {_first_line(error)}).") from error
        if state == "failed":
            raise error_from_json(json.loads(data))
        return serialization.loads(data)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
