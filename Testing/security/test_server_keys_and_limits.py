"""What one key can do to another and to the server: volumes, jobs, memory, space, time."""

from __future__ import annotations

import base64
import io
import json
import secrets
import socket
import struct
import subprocess
import threading
import time

import numpy as np
import pytest
import requests
from PIL import Image as Picture
from support.server_attacks import (
    CHAT,
    EVENTS,
    OTHER,
    Peak,
    chat,
    has,
    memory,
    of,
    picture_url,
    post,
    put,
    request_for,
    send,
    state,
    volume,
)
from support.server_in_test import TOKEN, wait_for

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.execution import payload

# -- volumes -----------------------------------------------------------------------------------------------


def test_a_volume_of_another_key_is_not_here(two_keys, attack):
    """Neither asking for it, nor running a job on it, tells that it is there."""
    server = two_keys()
    packed = payload.pack(request_for("mark a"))
    assert send(server, of(TOKEN), packed.digest, bytes(packed.voxels)).status_code == 200
    asked, unknown = has(server, of(OTHER), packed.digest), has(server, of(OTHER), "f" * 64)
    assert (
        (asked.status_code, dict(asked.headers)) == (unknown.status_code, dict(unknown.headers)) == (202, asked.headers)
    )
    assert put(server, of(OTHER), "mark a", upload=False)[0].status_code == 412
    piece = send(server, of(OTHER), packed.digest, bytes(packed.voxels)[:10], len(packed.voxels))
    assert (piece.status_code, piece.headers["upload-offset"]) == (202, "10")  # it has to send all of it
    assert put(server, of(TOKEN, "another-program"), "mark a", upload=False)[0].status_code == 202
    attack("its job ran on the other's volume", "412: it must send the voxels itself")


def test_announced_bytes_reserve_nothing(two_keys, attack):
    server = two_keys("--cache", "1000000", "--volume", "1000000")
    digest, content = volume(0, 400_000)
    assert send(server, of(TOKEN), digest, content).status_code == 200
    for number in range(40):
        assert send(server, of(OTHER, f"n{number}"), volume(number, 1)[0], b"x", 1_000_000).status_code == 202
    assert has(server, of(TOKEN), digest).status_code == 200
    attack("40 bytes evicted all volumes", "nothing evicted")


def test_a_key_evicts_its_own_volumes_not_anothers(two_keys, attack):
    server = two_keys("--cache", "1000000", "--volume", "1000000")
    kept = volume(0, 400_000)
    assert send(server, of(TOKEN), *kept).status_code == 200
    many = [volume(number, 300_000) for number in range(1, 8)]
    answers = [send(server, of(OTHER, f"n{n}"), *one).status_code for n, one in enumerate(many)]
    assert set(answers) == {200}
    assert has(server, of(TOKEN), kept[0]).status_code == 200
    assert [has(server, of(OTHER), digest).status_code for digest, _ in many] == [202] * 5 + [200] * 2
    folder = next(server.temp.glob("medfm-server-*"))
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 1_000_000
    attack("the other's volume was deleted", "its own oldest was deleted")


def test_keys_that_crowd_a_small_cache_keep_its_size(tmp_path):
    """Eight threads of four keys send, use and let go volumes: never more than the cache, and each file is known."""
    import random

    from MedFMLib.errors import OutputError
    from MedFMLib.execution.server.accounts import Client
    from MedFMLib.execution.server.volumes import Conflict, Volumes

    held, failures, most = Volumes(40_000, 100_000, 4, tmp_path), [], [0]
    contents = [volume(seed, 3_000 * seed) for seed in range(1, 12)]

    def work(number):
        rng, client = random.Random(number), Client(f"key-{number % 4}", f"name-{number}")
        for _ in range(150):
            digest, content = rng.choice(contents)
            try:
                offset = held.offset(client, digest)
                while offset is not None:
                    offset = held.append(client, digest, len(content), offset, content[offset : offset + 7_000])
                path = held.hold(client.key, digest, len(content))
                assert path.read_bytes() == content
                held.release(client.key, digest)
            except (KeyError, Conflict):
                pass  # dropped for another one meanwhile
            except OutputError:
                pass  # all that could be deleted was in use
            except Exception as error:
                failures.append(error)
            held.tidy()
            most[0] = max(most[0], held.bytes_stored)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures
    assert 50_000 < most[0] <= 100_000
    files = {path.name: path.stat().st_size for path in held.folder.iterdir()}
    assert sum(files.values()) == held.bytes_stored
    assert not held._used
    held.close()


def test_a_small_key_loses_nothing_to_large_ones(tmp_path):
    """Four keys, three of which fill everything again and again: the fourth keeps what is within its share."""
    from MedFMLib.execution.server.accounts import Client
    from MedFMLib.execution.server.volumes import Volumes

    held, small = Volumes(40_000, 100_000, 4, tmp_path), Client("small", "a")
    mine = [volume(seed, 12_000) for seed in (1, 2)]
    for digest, content in mine:
        assert held.append(small, digest, len(content), 0, content) is None
    for seed in range(3, 30):
        digest, content = volume(seed, 30_000)
        assert held.append(Client(f"large-{seed % 3}", "a"), digest, len(content), 0, content) is None
    assert [held.offset(small, digest) for digest, _ in mine] == [None, None]
    held.close()


def test_unfinished_uploads_are_bounded(two_keys, attack):
    server = two_keys()
    for number in range(200):
        assert send(server, of(OTHER, f"n{number}"), volume(number, 1)[0], b"x", 1000).status_code == 202
    folder = next(server.temp.glob("medfm-server-*"))
    assert len(list(folder.iterdir())) <= 128
    attack("200 files and entries", f"{len(list(folder.iterdir()))}; the oldest are dropped")


# -- jobs --------------------------------------------------------------------------------------------------


def test_a_job_of_another_key_can_be_neither_read_nor_cancelled(two_keys, attack):
    server = two_keys()
    answer, name = put(server, of(TOKEN), "sleep 1")
    assert answer.status_code == 202
    for headers in (of(OTHER), of(OTHER, "ward/a-client"), of(TOKEN, "another-program")):
        url = server.url + EVENTS.format(name)
        assert requests.get(url, headers=headers, timeout=5).status_code == 404
        assert requests.delete(url.removesuffix("/events"), headers=headers, timeout=5).status_code == 404
    with requests.get(server.url + EVENTS.format(name), headers=of(TOKEN), stream=True, timeout=10) as stream:
        assert b"1 sum" in stream.content
    attack("-", "404, as for a job that never was")


def test_names_give_no_further_places(two_keys, attack):
    server = two_keys("--client-queue", "4")
    put(server, of(TOKEN), "sleep 30")
    wait_for(lambda: state(server)["running"] == 1, 10, "the first job")
    put(server, of(TOKEN), "mark a")
    answers = [put(server, of(TOKEN, f"name-{n}"), "mark a", upload=False)[0].status_code for n in range(40)]
    assert answers.count(202) == 3 and answers.count(429) == 37
    assert put(server, of(OTHER), "mark a")[0].status_code == 202
    attack("40 of 40 queued", "4 of 41 queued; another key still gets in")


def test_names_give_no_further_turns(two_keys, attack):
    """Twenty jobs under twenty names, then one of another key: it is the second to run."""
    server, order = two_keys(), []
    put(server, of(TOKEN), "sleep 0.6")
    names = [put(server, of(TOKEN, f"name-{n}"), "sleep 0.2")[1] for n in range(12)]
    last = put(server, of(OTHER), "sleep 0.2")[1]

    def listen(headers, name):
        with requests.get(server.url + EVENTS.format(name), headers=headers, stream=True, timeout=30) as stream:
            assert b"sum" in stream.content
            order.append(name)

    threads = [threading.Thread(target=listen, args=(of(TOKEN, f"name-{n}"), name)) for n, name in enumerate(names)]
    threads.append(threading.Thread(target=listen, args=(of(OTHER), last)))
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert order.index(last) <= 2, order
    attack("waited for 9 of 12", f"waited for {order.index(last)} of 12")


def test_a_client_waits_while_its_key_holds_too_much(two_keys, attack):
    """MedFM's own client is refused with 429 while other programs of its key hold the memory, and goes on by itself."""
    server, lines = two_keys("--key-memory", "70000000"), []
    head = f"PATCH /medfm/v1/volumes/{'0' * 64} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Upload-Offset: 0\r\nUpload-Length: 30000000\r\nContent-Length: 30000000\r\n\r\n"
    for _ in range(2):
        lines.append(socket.create_connection(("127.0.0.1", server.port)))
        lines[-1].sendall(head.encode() + b"x")
    time.sleep(0.3)
    threading.Timer(2, lambda: [line.close() for line in lines]).start()
    voxels = np.random.default_rng(0).integers(-1000, 1000, (1, 128, 128, 400), dtype=np.int16)
    runner = server.runner()
    job = runner.submit(Request("ask", Image(voxels, Geometry(voxels.shape[1:], np.eye(4)), "CT"), question="mark a"))
    assert job.result(30).answers[0].text.startswith("a sum")
    runner.close()
    attack("-", "waits, then sends")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_chat(start_server, stream, attack):
    server = start_server("--lease", "1")
    url = picture_url(np.zeros((8, 8), np.uint8))
    body = json.dumps(chat("sleep 600", url, stream=stream)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as line:
        line.sendall(head.encode() + body)
        wait_for(lambda: state(server)["running"] == 1, 10, "the job to run")
    wait_for(lambda: state(server)["running"] == 0, 10, "the job to be given up")
    attack("-", "the job ends")


# -- memory ------------------------------------------------------------------------------------------------


def test_large_pictures_under_many_names_keep_little_memory(two_keys, attack):
    """Black pictures of 16 million pixels, which take 20 kB to send: 48 MB each, if the server decodes them."""
    server = two_keys("--key-memory", "200000000")
    put(server, of(OTHER), "sleep 60")
    wait_for(lambda: state(server)["running"] == 1, 10, "a job that keeps the worker")
    before, url = memory(server), picture_url(np.zeros((4000, 4000, 3), np.uint8))
    answers = []

    def one(number):
        try:
            answers.append(post(server, chat("mark a", url), of(TOKEN, f"name-{number}"), timeout=6).status_code)
        except requests.RequestException:
            answers.append(0)  # still waiting for the worker

    with Peak(server) as peak:
        threads = [threading.Thread(target=one, args=(n,)) for n in range(40)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert answers.count(0) <= 4, answers
    assert answers.count(429) >= 30, answers
    wait_for(lambda: state(server)["waiting"] == 0, 10, "their jobs to be given up")
    time.sleep(1)
    after = memory(server)
    assert peak.most - before < 700
    assert after - before < 60
    attack(
        "12 pictures: +4,190 MB, +401 MB after", f"+{peak.most - before:.0f} MB at most, +{after - before:.0f} MB after"
    )


def test_a_picture_that_has_no_place_is_not_decoded(two_keys, attack):
    server = two_keys("--client-queue", "1")
    put(server, of(TOKEN), "sleep 60")
    wait_for(lambda: state(server)["running"] == 1, 10, "the first job")
    put(server, of(TOKEN), "mark a")
    url, before = picture_url(np.zeros((7000, 7000, 3), np.uint8)), memory(server)
    with Peak(server) as peak:
        started = time.monotonic()
        assert [post(server, chat("mark a", url)).status_code for _ in range(5)] == [429] * 5
    assert peak.most - before < 30
    attack("decoded, then 429", f"429 after {(time.monotonic() - started) / 5:.2f} s, +{peak.most - before:.0f} MB")


def test_bodies_that_wait_are_counted_before_they_come(two_keys, attack):
    server = two_keys("--key-memory", "100000000")
    head = f"PATCH /medfm/v1/volumes/{'0' * 64} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Upload-Offset: 0\r\nUpload-Length: 30000000\r\nContent-Length: 30000000\r\n\r\n"
    before, lines = memory(server), [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    with Peak(server) as peak:
        for line in lines:
            line.sendall(head.encode())
            line.settimeout(0.5)
            try:
                line.sendall(b"x" * 29_000_000)
            except OSError:
                pass  # refused
        time.sleep(0.5)
    assert state(server, OTHER)["running"] == 0
    [line.close() for line in lines]
    assert peak.most - before < 150
    attack("+292 MB", f"+{peak.most - before:.0f} MB")


def test_results_of_a_key_are_bounded():
    """Each job has a result of 1 MB, the key may hold 3 MB: the oldest are dropped."""
    import asyncio

    from MedFMLib.execution.server import jobs as module
    from MedFMLib.execution.server.accounts import Accounts, Client
    from MedFMLib.execution.server.metrics import Metrics
    from MedFMLib.execution.server.settings import ServerLimits

    class Worker:
        def run_payload(self, packed, record):
            return bytes(1_000_000)

    class NoVolumes:
        def release(self, key, digest):
            pass

    accounts, loop = Accounts(3_000_000), asyncio.new_event_loop()
    queue = module.JobQueue(ServerLimits(), NoVolumes(), Metrics(), [], accounts)
    queue._loop = loop
    for number in range(10):
        queue.submit(Client("ward", f"name-{number}"), f"{number:032x}", "ask", payload.Payload(b"", b""))
    worker = threading.Thread(target=queue._work, args=(Worker(),), daemon=True)
    worker.start()
    wait_for(lambda: queue.counts == (0, 0) and len(queue._records) == 3, 5, "the old results to be dropped")
    assert accounts.held("ward") == 3_000_000
    assert {client.name for client, _ in queue._records} == {"name-7", "name-8", "name-9"}
    queue.close()
    loop.close()


def test_names_leave_nothing_behind():
    from MedFMLib.execution.server.accounts import Client
    from MedFMLib.execution.server.queues import FairQueue

    class Record:
        def __init__(self, number):
            self.client = Client("ward", f"name-{number}")

    queue, records = FairQueue(), [Record(number) for number in range(1000)]
    for record in records:
        queue.push(record)
    assert len(queue) == queue.of_key("ward") == 1000
    assert queue.ahead(records[500]) == 500
    assert all(map(queue.remove, records[::2])) and all(queue.pop() in records[1::2] for _ in range(500))
    assert not queue._keys


# -- time --------------------------------------------------------------------------------------------------


def test_many_messages_take_linear_time(attack):
    from MedFMLib.errors import InputError
    from MedFMLib.execution.server.chats import read_chat
    from MedFMLib.execution.server.settings import ServerLimits

    def seconds(count):
        messages = [{"role": "user", "content": "x" * 20_000}] * (count - 1)
        content = {"model": "medfm-tiny", "messages": [*messages, chat("a", "data:image/png;base64,")["messages"][0]]}
        started = time.perf_counter()
        assert len(read_chat(content, ServerLimits()).turns[0]) > 20_000 * (count - 2)
        return time.perf_counter() - started

    seconds(10)
    assert seconds(1000) < 0.5
    with pytest.raises(InputError, match="1001 messages; this server reads 1000"):
        seconds(1001)
    attack("1,000 messages: 10 GB copied", f"{1000 * seconds(1000):.0f} ms")


def test_a_stop_text_is_short(start_server, attack):
    server = start_server()
    answer = post(server, chat("mark a", picture_url(np.zeros((8, 8), np.uint8)), stop=["x" * 30_000]))
    assert answer.status_code == 400 and "at most 200 letters" in answer.text
    attack("compared with each word", "refused")


def test_a_tiff_with_a_million_pages_is_no_work(start_server, attack):
    """Pillow looks for each page in a list of all earlier ones."""
    pixels = picture_url(np.zeros((8, 8), np.uint8), "TIFF")
    raw = bytearray(base64.b64decode(pixels.partition(",")[2]))
    (first,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, first)
    start = len(raw) + len(raw) % 2
    raw += bytes(start - len(raw))
    struct.pack_into("<I", raw, first + 2 + 12 * count, start)
    pages = 400_000
    entries = struct.pack("<HHHII", 1, 256, 3, 1, 8)
    raw += b"".join(entries + struct.pack("<I", start + 18 * (n + 1)) for n in range(pages))
    url = "data:image/tiff;base64," + base64.b64encode(bytes(raw)).decode()
    server, started = start_server(), time.monotonic()
    answer = post(server, chat("mark a", url), timeout=60)
    assert answer.status_code == 400
    seconds = time.monotonic() - started
    assert seconds < 3
    attack("looked for each in a list", f"refused after {seconds:.1f} s")


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF"])
def test_moving_pictures_are_refused(start_server, kind):
    stream, frames = io.BytesIO(), [Picture.new("RGB", (8, 8), (80 * n, 0, 0)) for n in range(3)]
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    url = f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
    answer = post(start_server(), chat("mark a", url))
    assert answer.status_code == 400 and "several frames" in answer.text


# -- other machines ----------------------------------------------------------------------------------------


def test_other_machines_learn_no_folders(two_keys, certificate, attack):
    server = two_keys("--host", "0.0.0.0", "--certificate", certificate[0], "--private-key", certificate[1])
    server.url = server.url.replace("http", "https")
    packed, name = payload.pack(request_for(f"fail {server.temp}/secret/scan.nii.gz")), secrets.token_hex(16)
    more = {"Upload-Offset": "0", "Upload-Length": str(len(packed.voxels)), "MedFM-Volume": packed.digest}
    with requests.Session() as session:
        session.trust_env, session.verify, session.headers = False, certificate[0], {**of(TOKEN), **more}
        session.patch(f"{server.url}/medfm/v1/volumes/{packed.digest}", data=bytes(packed.voxels), timeout=10)
        session.put(f"{server.url}/medfm/v1/jobs/{name}", data=packed.rest, timeout=10)
        text = session.get(server.url + EVENTS.format(name), timeout=10).content.decode("utf-8", "replace")
    assert "scan.nii.gz does not exist" in json.loads(text[text.rindex('{"error"') :])["message"]
    assert "secret" not in text
    attack("the whole path", "the file's name alone")


def test_tls_is_not_negotiated_again(two_keys, certificate, attack):
    server = two_keys("--host", "0.0.0.0", "--certificate", certificate[0], "--private-key", certificate[1])
    command = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{server.port}"]
    found = subprocess.run(command, input=b"R\n", capture_output=True, timeout=10, check=False)
    assert b"no renegotiation" in found.stderr
    attack("refused by OpenSSL 3", "refused")
