"""Races of threads and clients, and hostile clients, against each part of a server, in a fixed order."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import requests
from support.server_in_test import wait_for

from MedFMLib.errors import InputError
from MedFMLib.execution import payload, serialization
from MedFMLib.execution.server import app, volumes
from MedFMLib.execution.server.accounts import Accounts, Client
from MedFMLib.execution.server.jobs import JobQueue
from MedFMLib.execution.server.metrics import Metrics
from MedFMLib.execution.server.queues import FairQueue
from MedFMLib.execution.server.settings import ServerLimits
from MedFMLib.execution.server.volumes import Conflict, Volumes

WHOLE = b"voxels" * 100
DIGEST = hashlib.sha256(WHOLE).hexdigest()
KEY = "ward"
ONE, TWO = Client(KEY, "one"), Client(KEY, "two")


@pytest.fixture
def held(tmp_path):
    """Volumes in a folder of the test's own."""
    made = Volumes(10_000, 10_000, root=tmp_path)
    yield made
    made.close()


# -- volumes ---------------------------------------------------------------------------------------------


def test_of_two_clients_who_send_a_volume_the_second_does_not_replace_its_file(held):
    """A job may be reading the first; Windows would refuse."""
    for client in (ONE, TWO):
        held.append(client, DIGEST, len(WHOLE), 0, WHOLE[:-1])
    assert held.append(ONE, DIGEST, len(WHOLE), len(WHOLE) - 1, WHOLE[-1:]) is None
    file = held._file(KEY, DIGEST).stat().st_ino
    second = held._uploads[TWO, DIGEST]
    held._sizes, sizes = {}, held._sizes  # as if both had looked before the first was whole
    second.lock.acquire()
    waiting = threading.Thread(target=held.append, args=(TWO, DIGEST, len(WHOLE), len(WHOLE) - 1, WHOLE[-1:]))
    waiting.start()
    waiting.join(0.2)
    held._sizes = sizes
    second.lock.release()
    waiting.join(5)
    assert held._file(KEY, DIGEST).stat().st_ino == file
    assert [path.name for path in held.folder.iterdir()] == [held._file(KEY, DIGEST).name]


def test_a_piece_that_comes_while_its_upload_is_dropped_makes_no_damaged_volume(held, monkeypatch):
    held.append(ONE, DIGEST, len(WHOLE), 0, WHOLE[:300])
    upload, reported = held._uploads[ONE, DIGEST], []
    monkeypatch.setattr(volumes, "STALE_UPLOAD", -1.0)

    def rest():
        try:
            reported.append(held.append(ONE, DIGEST, len(WHOLE), 300, WHOLE[300:]))
        except Conflict as conflict:
            reported.append(conflict.offset)

    with upload.lock:
        thread = threading.Thread(target=rest)
        thread.start()
        thread.join(0.2)
        held.tidy()
    thread.join(5)
    files = [(path.name, path.stat().st_size) for path in held.folder.iterdir()]
    assert (reported, files) in (([None], [(held._file(KEY, DIGEST).name, len(WHOLE))]), ([0], []))


def test_a_volume_that_the_system_does_not_let_go_makes_no_trouble(held, monkeypatch):
    """On Windows, a file that is mapped can't be deleted."""
    held.append(ONE, DIGEST, len(WHOLE), 0, WHOLE)

    def refuse(path, missing_ok=False):
        raise PermissionError(13, "in use", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(volumes.OutputError, match="storage for volumes is full"):
            held.append(TWO, "a" * 64, 9_900, 0, b"x" * 9_900)
    assert held.hold(KEY, DIGEST, len(WHOLE)).read_bytes() == WHOLE


def test_what_a_killed_server_left_is_swept_whoever_has_its_process_number_now(tmp_path):
    """A process number says nothing: in a container every server has the same, and the system gives numbers out again."""
    left, foreign = tmp_path / "medfm-server-abc", tmp_path / "medfm-server-without-a-lock"
    for folder in (left, foreign):
        folder.mkdir()
    (tmp_path / ".medfm-server-abc.lock").touch()
    (tmp_path / ".medfm-server-abc.lock.pid").write_text(str(os.getpid()))
    first = Volumes(10, 10, root=tmp_path)
    assert not left.exists() and foreign.exists()
    Volumes(10, 10, root=tmp_path).close()
    assert first.folder.exists()
    first.close()


# -- jobs ------------------------------------------------------------------------------------------------


class Held:
    """Counts who holds what."""

    def __init__(self):
        self.released = []

    def release(self, key, digest):
        self.released.append(digest)

    def tidy(self):
        pass

    bytes_stored = 0


class Idle:
    """A worker that is never asked."""

    class state:
        doing, memory, crashes = "idle", 0, 0

    def close(self):
        pass


@pytest.fixture
def jobs():
    """Jobs without threads, and a function that submits one."""
    loop = asyncio.new_event_loop()
    made = JobQueue(ServerLimits(), Held(), Metrics(), [], Accounts(1 << 20))
    made._loop = loop
    submit = lambda name: made.submit(ONE, name, "ask", payload.Payload(b"", b""), name)  # noqa: E731
    yield made, submit
    loop.close()


def test_a_job_that_is_cancelled_as_its_turn_comes_lets_its_volume_go(jobs):
    made, submit = jobs
    first, second = submit("first"), submit("second")
    first.cancel()  # `forget` has come so far …
    assert made._take() is second  # … when a worker looks
    made.discard(first)
    assert made._volumes.released == ["first"]


def test_a_job_that_goes_while_the_server_looks_whether_it_may_end_is_no_error(jobs, monkeypatch):
    made, submit = jobs
    first, _ = submit("first"), submit("second")
    made._queue = FairQueue()
    monkeypatch.setattr(
        type(first),
        "listeners",
        property(lambda r: made._records.pop((ONE, r.name), None) and 0, lambda r, n: None),
        False,
    )
    assert made.quiet


def test_one_failure_does_not_end_tidying(monkeypatch):
    calls = []

    class Failing:
        class jobs:
            @staticmethod
            def tidy():
                calls.append(1)
                raise PermissionError("in use")

    sleep = asyncio.sleep
    monkeypatch.setattr(app.asyncio, "sleep", lambda seconds: sleep(0))

    async def look():
        task = asyncio.create_task(app._tidy(Failing))
        for _ in range(200):
            await sleep(0.005)
            if len(calls) > 1:
                break
        task.cancel()

    asyncio.run(look())
    assert len(calls) > 1


def put(server, name, request):
    packed, headers = payload.pack(request), {**server.headers, "X-MedFM-Client": "one"}
    size = {"Upload-Offset": "0", "Upload-Length": str(len(packed.voxels))}
    path = f"{server.url}/medfm/v1/volumes/{packed.digest}"
    requests.patch(path, data=bytes(packed.voxels), headers={**headers, **size}, timeout=5)
    headers["MedFM-Volume"] = packed.digest
    return requests.put(f"{server.url}/medfm/v1/jobs/{name}", data=packed.rest, headers=headers, timeout=5).status_code


def test_a_job_that_was_taken_may_be_put_again_though_the_queue_is_full(start_server, request_for):
    """The answer to the first PUT may have been lost with its line."""
    server = start_server("--client-queue", "1")
    put(server, secrets.token_hex(16), request_for("sleep 3"))
    wait_for(lambda: server.client().state()["running"] == 1, 10, "the first job")
    name = secrets.token_hex(16)
    assert [put(server, name, request_for("mark a")) for _ in range(2)] == [202, 202]
    assert put(server, secrets.token_hex(16), request_for("mark b")) == 429


@pytest.mark.parametrize("adapter", ["/etc", "../secret"])
def test_no_folder_is_loaded_ahead(server, adapter):
    content = {"model": "medfm-tiny", "adapter": adapter}
    answer = requests.post(f"{server.url}/medfm/v1/models/load", json=content, headers=server.headers, timeout=5)
    assert answer.status_code == 404
    assert "has no adapter" in answer.json()["error"]["message"]


# -- messages --------------------------------------------------------------------------------------------


def message(value, table, *blobs):
    """A message by hand."""
    import json
    import struct

    header = json.dumps({"value": value, "table": table}).encode()
    return b"".join([serialization.MAGIC, struct.pack("<Q", len(header)), header, *blobs])


def test_a_negative_size_makes_no_room_for_a_large_one():
    bomb = zlib.compress(bytes(5_000_000))
    table = [
        {"size": len(bomb), "raw": 5_000_000, "deflated": True},
        {"size": 0, "raw": -5_000_000, "deflated": False},
    ]
    with pytest.raises(InputError, match="damaged"):
        serialization.loads(message({"$bytes": 0}, table, bomb), 1_000_000)


@pytest.mark.parametrize("kind", ["$array", "$mask", "$box"])
def test_an_array_named_a_thousand_times_counts_a_thousand_times(kind):
    bomb = zlib.compress(bytes(100_000))
    box = {"shape": [800_000, 1, 1], "start": [0, 0, 0], "extent": [800_000, 1, 1]}
    entry = {"size": len(bomb), "raw": 100_000, "deflated": True, "dtype": "|u1"}
    entry |= box if kind != "$array" else {"shape": [100_000]}
    item = {"$": "Segment", "label": "x", "mask": {kind: 0}} if kind == "$box" else {kind: 0}
    assert serialization.loads(message([item], [entry], bomb), 1_000_000)
    with pytest.raises(InputError, match="damaged"):
        serialization.loads(message([item] * 1000, [entry], bomb), 1_000_000)


@pytest.mark.parametrize(
    "facts",
    [b'{"shape": [1, 2, 2, Infinity], "dtype": "<i2"}', b'{"shape": [1, 2, 2, 2], "dtype": "(2,"}', b"[" * 100_000],
)
def test_a_request_that_is_no_request_is_one_sentence(facts):
    with pytest.raises(InputError, match="damaged"):
        payload.look(len(facts).to_bytes(4, "little") + facts)


def test_pictures_are_bounded_together():
    """Black ones of 128 times the limit would fit into one body."""
    import base64
    import io

    from PIL import Image as Picture

    from MedFMLib.execution.server.pictures import image_from_urls

    stream = io.BytesIO()
    Picture.fromarray(np.zeros((100, 100), np.uint8)).save(stream, "PNG")
    url = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    assert image_from_urls([url] * 3, 30_000).voxels.shape == (1, 100, 100, 3)
    with pytest.raises(InputError, match="40000 pixels together; this server accepts 30000"):
        image_from_urls([url] * 4, 30_000)


def test_a_certificate_that_is_none_is_one_sentence(start_server, tmp_path):
    for name in ("a.pem", "b.pem"):
        (tmp_path / name).write_text("no certificate")
    with pytest.raises(RuntimeError, match="PEM files that belong together") as caught:
        start_server("--certificate", str(tmp_path / "a.pem"), "--private-key", str(tmp_path / "b.pem"))
    assert "Traceback" not in str(caught.value)
