"""Runners whose jobs run on a server: `RemoteRunner` on one elsewhere, `ServerRunner` on one of its own."""

from __future__ import annotations

from ...core.request import Request, Response
from ...errors import MedFMError
from ...interfaces.jobs import EngineState, LocalRunner, Progress
from .client import ConnectionLost, ServerClient
from .process import ServerProcess


class RemoteRunner(LocalRunner):
    """A runner whose one thread only waits for a server.

    Args:
        url, token, certificates: see `ServerClient`.

    Raises:
        InputError: the address can't be used.
    """

    def __init__(self, url: str, token: str, certificates: str = ""):
        self._client = ServerClient(url, token, certificates)
        super().__init__(self._client.run)

    def state(self) -> EngineState:
        """See `Runner`."""
        return state_from(self._client.state())

    def start(self) -> None:
        """See `Runner`; asks whether it is there."""
        self._client.state()

    def stop(self) -> None:
        """See `Runner`; a server with other clients unloads only what they don't use."""
        self._client.unload()


class ServerRunner(LocalRunner):
    """A runner with a server process of its own, started with the first job; others may use that server, too.

    When it dies, the job fails in one sentence, a new one is started at once, and the model comes back.

    Args:
        arguments, interpreter: see `ServerProcess`.
    """

    def __init__(self, arguments: tuple[str, ...] = (), interpreter: str = ""):
        self.server = ServerProcess(arguments, interpreter)
        self._last: dict[str, str] = {}
        self._crashes = 0
        super().__init__(self._run)

    def state(self) -> EngineState:
        """See `Runner`."""
        if not self.server.running:
            return EngineState("stopped")
        state = state_from(self.server.client().state())
        note = f"It ended unexpectedly {self._crashes} times." if self._crashes else state.note
        return EngineState(state.doing, state.memory, state.waiting, state.model, note)

    def start(self) -> None:
        """See `Runner`."""
        self.server.client()

    def stop(self) -> None:
        """See `Runner`."""
        self.server.stop()

    def close(self) -> None:
        """Cancel all jobs and end the server."""
        super().close()
        self.server.stop()

    def _run(self, request: Request, progress: Progress) -> Response:
        if not self.server.running:
            progress.stage("Starting the engine")
        try:
            response = self.server.client().run(request, progress)
        except ConnectionLost as error:
            raise self._death() from error
        self._last = {"model": request.model, "adapter": request.adapter, "precision": request.precision}
        return response

    def _death(self) -> MedFMError:
        why = self.server.why()
        self._crashes += 1
        last, self._last = self._last, {}
        if last and not self._closed:
            try:
                self.server.client().load(**last)
            except MedFMError:
                pass  # the next job tries again, and tells
        return MedFMError(f"The engine ended unexpectedly ({why}); the scene is unchanged. Send the job once more.")


def state_from(content: dict) -> EngineState:
    """The server's own words → what people are told."""
    workers = content.get("workers", [])
    doing = [worker.get("doing") for worker in workers]
    crashes = sum(worker.get("crashes", 0) for worker in workers)
    model = next((worker["loaded"]["model"] for worker in workers if worker.get("loaded")), "")
    return EngineState(
        "working" if content.get("running") or "working" in doing else "idle",
        sum(worker.get("memory", 0) for worker in workers),
        content.get("waiting", 0),
        model,
        f"Its worker ended unexpectedly {crashes} times." if crashes else "",
    )
