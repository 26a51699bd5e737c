"""Run cases on Ray: one actor per runner, on this machine or a cluster.

The driver reads, writes and updates the manifest.

Volumes are sent to the actors through Ray's object store, so nodes need MedFM and the weights, but no shared disk.
Usage statistics
and the dashboard are off; a Ray instance that is started here listens on this machine only.
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
"""Bytes of the object store of a Ray instance started here: a few volumes in flight."""


@contextmanager
def ray_engine(address: str = "", gpus: float = 0.0, workers: int = 1, compute: str = "") -> Iterator[Callable]:
    """Connect to Ray, or start it here, and yield a factory of runners; afterwards disconnect, or stop it.

    Meanwhile printed output goes to stderr, since Ray reports dead workers on stdout, which is for results.

    Args:
        address: of a cluster, "auto" for the one of this machine; "" starts one here.
        gpus: GPUs per worker; 0.5 lets two share one.
        workers: number of workers.
        compute: MODULE:FACTORY in place of the engine, for tests.

    Raises:
        ModelError: if Ray is missing.
        InputError: if it can't be reached, or has fewer GPUs.
    """
    with redirect_stdout(sys.stderr), _connected(address, gpus, workers, compute) as make:
        yield make


@contextmanager
def _connected(address: str = "", gpus: float = 0.0, workers: int = 1, compute: str = "") -> Iterator[Callable]:
    """Implement `ray_engine`."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own = not address
    if own and "ray" not in sys.modules:  # Ray reads these variables when it is imported
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_urlsafe(32)
    try:
        import ray
    except ImportError as error:
        raise ModelError(f"--engine ray needs the package ray ({error}); `pip install 'medfm[ray]'`.") from error
    quiet = {"log_to_driver": False, "logging_level": "error", "ignore_reinit_error": True}
    try:
        if own:
            _listen_here_only(ray)
            # one CPU per worker, independent of the machine
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
                f"{workers} workers × {gpus:g} GPUs are required, but Ray has {have:g}; change --workers or --gpus-per-worker."
            )
        actor = ray.remote(max_restarts=-1, num_cpus=1, num_gpus=gpus)(Worker)
        yield lambda: RayRunner(ray, actor, compute)
    finally:
        ray.shutdown()


def _listen_here_only(ray) -> None:
    """Open Ray's ports to this machine only.

    Ray replaces a given 127.0.0.1 by an external address, except on systems without cluster support (Windows,
    macOS); this sets that switch (ray 2.60, `_private/services.get_node_ip_address`). A test checks the ports.
    """
    try:
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = False
    except ImportError:
        pass  # another version of Ray; the token still protects it


class Worker:
    """Content of an actor: an engine that keeps its model loaded. A restarted actor loads it again with its next job."""

    def __init__(self, compute: str = ""):
        module, _, name = (compute or "MedFMLib.engine:Engine").partition(":")
        self._compute = getattr(importlib.import_module(module), name)()

    def run(self, rest: bytes, voxels: np.ndarray) -> tuple[str, bytes]:
        """Return ("done", response) or ("failed", error as JSON), serialized.

        Args:
            rest: of a `Payload`.
            voxels: their bytes, uint8; shared with the object store, not copied.
        """
        job = Job(unpack(Payload(rest, memoryview(voxels))))
        run_job(job, getattr(self._compute, "run", self._compute))
        try:
            return "done", serialization.dumps(job.result(), compress=False)
        except MedFMError as error:
            return "failed", json.dumps(error_as_json(error)).encode()


class RayRunner(LocalRunner):
    """A runner whose single thread waits for its actor; progress within a job is not reported."""

    def __init__(self, ray, actor, compute: str):
        self._ray, self._actor = ray, actor.remote(compute)
        super().__init__(self._run)

    def close(self) -> None:
        """Cancel all jobs and kill the actor."""
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
