"""Define runners whose jobs run on a server: `RemoteRunner` on one elsewhere, `ServerRunner` on a local process."""

from __future__ import annotations

from ...core.request import Request, Response
from ...errors import MedFMError
from ...interfaces.jobs import EngineState, LocalRunner, Progress
from .client import ConnectionLost, ServerClient
from .process import ServerProcess


class RemoteRunner(LocalRunner):
    """A runner whose only thread waits for a server.

    Args:
        url: see `ServerClient`.
        token: see `ServerClient`.
        certificates: see `ServerClient`.

    Raises:
        InputError: if the address can't be used.
    """

    def __init__(self, url: str, token: str, certificates: str = ""):
        self._client = ServerClient(url, token, certificates)
        super().__init__(self._client.run)

    def state(self) -> EngineState:
        """Implement `Runner.state`."""
        return state_from(self._client.state())

    def start(self) -> None:
        """Implement `Runner.start`: check that the server answers."""
        self._client.state()

    def stop(self) -> None:
        """Implement `Runner.stop`; a server with other clients unloads only models that they don't use."""
        self._client.unload()


class ServerRunner(LocalRunner):
    """A runner with its own server process, started with the first job; other programs may use that server, too.

    If the process crashes, the job fails with one sentence, and a new process starts at once and loads the same model.

    Args:
        arguments: see `ServerProcess`.
        interpreter: see `ServerProcess`.
    """

    def __init__(self, arguments: tuple[str, ...] = (), interpreter: str = ""):
        self.server = ServerProcess(arguments, interpreter)
        self._last: dict[str, str] = {}
        self._crashes = 0
        super().__init__(self._run)

    def state(self) -> EngineState:
        """Implement `Runner.state`."""
        if not self.server.running:
            return EngineState("stopped")
        state = state_from(self.server.client().state())
        note = f"It ended unexpectedly {self._crashes} times." if self._crashes else state.note
        return EngineState(state.doing, state.memory, state.waiting, state.model, note)

    def start(self) -> None:
        """Implement `Runner.start`."""
        self.server.client()

    def stop(self) -> None:
        """Implement `Runner.stop`."""
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
                pass  # the next job tries again, and reports the error
        return MedFMError(f"The engine ended unexpectedly ({why}); the scene is unchanged. Send the job once more.")


def state_from(content: dict) -> EngineState:
    """Return the state of an engine from the JSON of the server's `/medfm/v1/state`."""
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
