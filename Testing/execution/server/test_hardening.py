"""Admission of requests: tokens, addresses, sizes, slow sockets, malformed requests; and what is visible from outside."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import time

import psutil
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.server_in_test import TOKEN, ServerInTest, wait_for

from MedFMLib.errors import InputError
from MedFMLib.execution import payload
from MedFMLib.execution.remote import RemoteRunner
from MedFMLib.execution.remote.client import ConnectionLost, ServerClient
from MedFMLib.execution.server.keys import ApiKeys
from MedFMLib.execution.server.settings import ServerLimits, ServerSettings

STATE = "/medfm/v1/state"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One server for all that must not harm it."""
    server = ServerInTest(
        "--header-seconds", "1", "--body-seconds", "1", "--body", "1000000", temp=tmp_path_factory.mktemp("temp")
    )
    yield server
    server.close()


def talk(port, data, seconds=5.0, hang_up=False):
    """Send bytes, read what comes until the other side closes or `seconds` are over; `hang_up` says that no more will come."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as line:
        try:
            line.sendall(data)
            if hang_up:
                line.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: line.recv(65536), b""))
        except OSError:
            return b""


# -- tokens ----------------------------------------------------------------------------------------------

PIECE = {"Upload-Offset": "0", "Upload-Length": "900000"}

HEAD = f"PATCH /medfm/v1/volumes/{'0' * 64} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
HEAD += f"Authorization: Bearer {TOKEN}\r\n"
NEAR = ["", " ", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), TOKEN[:-1] + "ö", "\x00" + TOKEN[1:], f"{TOKEN} {TOKEN}"]


@pytest.mark.parametrize("token", NEAR)
def test_a_near_miss_is_a_miss(shared, token):
    for path in (STATE, "/v1/models", "/metrics", "/medfm/v1/models", "/nothing"):
        raw = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer ".encode()
            + token.encode()
            + b"\r\n\r\n"
        )
        assert talk(shared.port, raw).split(b" ", 2)[1] in (b"401", b"400")


@pytest.mark.parametrize("scheme", ["Basic", "bearerx", "Token"])
def test_another_scheme_is_a_miss(shared, scheme):
    assert (
        requests.get(shared.url + STATE, headers={"Authorization": f"{scheme} {TOKEN}"}, timeout=5).status_code == 401
    )


def test_without_a_token_only_health_answers(shared):
    assert requests.get(shared.url + "/health", timeout=5).json() == {"status": "ok"}
    assert requests.get(shared.url + STATE, timeout=5).status_code == 401


def test_every_key_is_compared_whatever_is_given(monkeypatch):
    """No early end, so that time tells nothing: as many comparisons for a hit as for a miss."""
    from MedFMLib.execution.server import keys as module

    calls, compare = [], module.hmac.compare_digest
    monkeypatch.setattr(module.hmac, "compare_digest", lambda a, b: calls.append(1) or compare(a, b))
    keys = ApiKeys({f"token-number-{n}-0123456789": f"name{n}" for n in range(5)})
    assert keys.name_of("token-number-0-0123456789") == "name0"
    assert keys.name_of("none") is None
    assert len(calls) == 10


# -- keys in a file ----------------------------------------------------------------------------------------


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    path.write_text("# who may\nward-3 first-key-0123456789abcdef\n\nresearch second-key-0123456789abcd\n")
    return path


def test_keys_of_a_file_have_names(key_file):
    keys = ApiKeys.from_file(key_file)
    assert keys.name_of("second-key-0123456789abcd") == "research"
    assert keys.name_of("second-key-0123456789abcx") is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("ward short", "Line 1 .* at least 20"), ("", "is empty"), ("onlyakey0123456789012345", "Line 1"),
     ("a same-key-0123456789abcdef\nb same-key-0123456789abcdef", "Line 2")],
)  # fmt: skip
def test_a_bad_file_of_keys_is_refused(key_file, text, sentence):
    key_file.write_text(text)
    with pytest.raises(InputError, match=sentence):
        ApiKeys.from_file(key_file)


def test_a_file_of_keys_that_all_may_read_is_refused(key_file):
    key_file.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        ApiKeys.from_file(key_file)


# -- addresses ---------------------------------------------------------------------------------------------


def test_only_loopback_listens(shared):
    connections = psutil.Process(shared.process.pid).net_connections(kind="inet")
    listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    for child in psutil.Process(shared.process.pid).children(recursive=True):
        assert not child.net_connections(kind="inet")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7"])
def test_listening_for_others_without_tls_is_refused_in_one_sentence(host):
    with pytest.raises(RuntimeError) as caught:
        ServerInTest("--host", host)
    (line,) = [line for line in str(caught.value).splitlines() if line]
    assert "it needs TLS and keys" in line


def test_listening_for_others_with_tls_but_without_keys_is_refused(tmp_path):
    files = certificate(tmp_path)
    with pytest.raises(InputError, match="needs TLS and keys"):
        ServerSettings("0.0.0.0", certificate=files[0], private_key=files[1])


def certificate(folder):
    """(certificate, key) of a throw-away authority that is the server itself."""
    paths = folder / "server.pem", folder / "server.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(command, check=True, capture_output=True)
    return paths


def test_with_tls_and_keys_others_may_come(start_server, key_file, tmp_path, request_for):
    cert, key = certificate(tmp_path)
    server = start_server(
        "--host", "0.0.0.0", "--certificate", str(cert), "--private-key", str(key), "--keys", str(key_file)
    )
    url = f"https://127.0.0.1:{server.port}"
    runner = RemoteRunner(url, "first-key-0123456789abcdef", str(cert))
    assert runner.submit(request_for("mark a")).result(30).answers[0].text.startswith("a sum")
    runner.close()
    with pytest.raises(ConnectionLost, match="certificate that is not trusted"):
        ServerClient(url, "first-key-0123456789abcdef").state()
    assert b"200" not in talk(server.port, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [("http://server.hospital:8765", "unencrypted; use https"), ("ftp://x", "not the address of a server"),
     ("", "not the address of a server"), ("https://user:pw@server", "give the key separately")],
)  # fmt: skip
def test_a_client_refuses_addresses_that_leak(url, sentence):
    with pytest.raises(InputError, match=sentence):
        ServerClient(url, TOKEN)


def test_web_pages_get_nothing(shared):
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        answer = requests.get(shared.url + STATE, headers={**shared.headers, **headers}, timeout=5)
        assert answer.status_code == 403
        assert not any(name.lower().startswith("access-control") for name in answer.headers)
    preflight = requests.options(
        shared.url + STATE,
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"},
        timeout=5,
    )
    assert preflight.status_code == 403


# -- sizes and slowness --------------------------------------------------------------------------------------


def test_ten_gigabytes_are_refused_before_they_come(shared):
    started = time.monotonic()
    answer = talk(shared.port, HEAD.encode() + b"Content-Length: 10737418240\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"announced body has 10737418240 bytes" in answer
    assert time.monotonic() - started < 1


def test_a_body_without_an_end_is_cut_off(shared):
    def endless():
        while True:
            yield b"x" * 65536

    try:
        answer = requests.patch(
            f"{shared.url}/medfm/v1/volumes/{'0' * 64}", data=endless(), headers={**shared.headers, **PIECE}, timeout=10
        )
        assert answer.status_code == 413
    except requests.ConnectionError:
        pass  # closed while we were still sending
    assert ServerClient(shared.url, TOKEN).state()["running"] == 0


def test_a_volume_larger_than_allowed_is_refused(start_server, request_for):
    server = start_server("--volume", "1000")
    with pytest.raises(InputError, match="this server accepts 1000"):
        server.ask(request_for("mark a"))


def test_sockets_that_drip_are_closed_and_others_served(shared):
    head = HEAD + "".join(f"{name}: {value}\r\n" for name, value in PIECE.items())
    slow_heads = [socket.create_connection(("127.0.0.1", shared.port)) for _ in range(30)]
    slow_bodies = [socket.create_connection(("127.0.0.1", shared.port)) for _ in range(30)]
    for line in slow_bodies:
        line.sendall(head.encode() + b"Content-Length: 1000\r\n\r\nx")
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        for line in slow_heads:
            try:
                line.send(b"G")
            except OSError:
                pass
        assert requests.get(shared.url + "/health", timeout=1).status_code == 200
        time.sleep(0.2)
    for line in slow_heads:
        line.settimeout(2)
        assert _ended(line)
    for line in slow_bodies:
        line.settimeout(2)
        assert line.recv(100).startswith(b"HTTP/1.1 408")
    for line in (*slow_heads, *slow_bodies):
        line.close()


def _ended(line):
    """Did the other side close? Both an end and a reset count."""
    try:
        return line.recv(1) == b""
    except OSError:
        return True


def test_a_full_queue_is_reported_and_waited_for(start_server, request_for):
    server = start_server("--client-queue", "1")
    runners = [server.runner() for _ in range(2)]
    first = runners[0].submit(request_for("sleep 1.5"))
    wait_for(lambda: server.client().state()["running"] == 1, 10, "the first job")
    headers = {**server.headers, "X-MedFM-Client": "crowd"}
    answers = [_put(server, request_for("mark a"), headers) for _ in range(3)]
    assert [a.status_code for a in answers] == [202, 429, 429]
    assert answers[1].headers["retry-after"] == "2"
    assert "the limit for one key" in answers[1].json()["error"]["message"]
    assert runners[1].submit(request_for("mark b")).result(30)  # waits for a place: names of clients give none
    assert first.result(30)
    [runner.close() for runner in runners]


def _put(server, request, headers):
    packed = payload.pack(request)
    size = {"Upload-Offset": "0", "Upload-Length": str(len(packed.voxels))}
    requests.patch(
        f"{server.url}/medfm/v1/volumes/{packed.digest}",
        data=bytes(packed.voxels),
        headers={**headers, **size},
        timeout=5,
    )
    name = f"{random.getrandbits(128):032x}"
    return requests.put(
        f"{server.url}/medfm/v1/jobs/{name}",
        data=packed.rest,
        headers={**headers, "MedFM-Volume": packed.digest},
        timeout=5,
    )


@pytest.mark.parametrize("limit", ["body", "tokens", "queue", "lease"])
def test_limits_are_positive(limit):
    with pytest.raises(InputError, match=f"'{limit}' must be above 0"):
        ServerLimits(**{limit: 0})


# -- what a stranger asks for ------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["/etc", "../../secret", ".", "~", "C:\\x", "file:///x"])
def test_no_path_of_a_request_is_followed(shared, request_for, model):
    for options in ({"model": model}, {"adapter": model}):
        with pytest.raises(InputError if "adapter" in options else Exception, match="This server has no") as caught:
            shared.ask(request_for("mark a", **options))
        assert "Traceback" not in str(caught.value)


def test_too_long_an_answer_is_refused(shared, request_for):
    with pytest.raises(InputError, match="limit for an answer is 4096 tokens here, not 5000"):
        shared.ask(request_for("mark a", max_tokens=5000))


def test_a_message_that_inflates_to_gigabytes_is_refused(shared, request_for):
    """A request whose mask claims a thousand times what it may."""
    packed = payload.pack(request_for("mark a"))
    bomb = packed.rest.replace(b'"raw": ', b'"raw": 99999999999', 1)
    answer = requests.put(
        f"{shared.url}/medfm/v1/jobs/{'0' * 32}", data=bomb, headers={**shared.headers, "MedFM-Volume": "0"}, timeout=5
    )
    assert answer.status_code == 400


PATHS = st.sampled_from(
    ["/medfm/v1/state", "/medfm/v1/models", "/medfm/v1/models/load", "/medfm/v1/unload", f"/medfm/v1/volumes/{'a' * 64}",
     "/medfm/v1/volumes/..%2f..%2fetc", f"/medfm/v1/jobs/{'b' * 32}", f"/medfm/v1/jobs/{'b' * 32}/events?after=x",
     "/v1/models", "/v1/models/..", "/v1/chat/completions", "/metrics", "/", "/%00", "/health"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["model", "messages", "role", "content", "type", "text", "image_url", "url", "stop", "stream", "n", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
NAMES = [
    "Upload-Offset",
    "Upload-Length",
    "MedFM-Volume",
    "Content-Encoding",
    "Content-Type",
    "X-MedFM-Client",
    "Accept",
]
HEADERS = st.dictionaries(
    st.sampled_from(NAMES), st.text("0123456789abcdef-./ ", max_size=70).map(str.strip), max_size=4
)


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"]), PATHS, HEADERS,
       st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_six_hundred_malformed_requests_are_answered_with_sentences(shared, method, path, headers, body):
    answer = requests.request(method, shared.url + path, data=body, headers={**headers, **shared.headers}, timeout=10)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and method != "HEAD" and answer.content:
        assert len(answer.json()["error"]["message"]) > 10


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.binary(max_size=300) | st.text("GETPOS /HTP1.\r\n:abcdefContent-Length0123456789", max_size=200).map(str.encode)
)
def test_three_hundred_bursts_of_bytes_do_no_harm(shared, data):
    answer = talk(shared.port, data + b"\r\n\r\n", 2.0, hang_up=True)
    assert b"Traceback" not in answer
    assert not answer.startswith(b"HTTP/1.1 5")


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_three_hundred_damaged_jobs_are_refused(shared, damaged, data):
    packed, headers = damaged
    place = data.draw(st.integers(0, len(packed.rest) - 1))
    if data.draw(st.booleans()):
        rest = packed.rest[:place]
    else:
        rest = (
            packed.rest[:place]
            + bytes([packed.rest[place] ^ (1 << data.draw(st.integers(0, 7)))])
            + packed.rest[place + 1 :]
        )
    name = f"{random.getrandbits(128):032x}"
    answer = requests.put(f"{shared.url}/medfm/v1/jobs/{name}", data=rest, headers=headers, timeout=10)
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    requests.delete(f"{shared.url}/medfm/v1/jobs/{name}", headers=headers, timeout=10)


@pytest.fixture
def damaged(shared, request_for):
    """A packed request whose volume is on the server, and headers to submit it."""
    packed = payload.pack(request_for("mark a"))
    headers = {**shared.headers, "X-MedFM-Client": "fuzz"}
    size = {"Upload-Offset": "0", "Upload-Length": str(len(packed.voxels))}
    url = f"{shared.url}/medfm/v1/volumes/{packed.digest}"
    requests.patch(url, data=bytes(packed.voxels), headers={**headers, **size}, timeout=5)
    return packed, {**headers, "MedFM-Volume": packed.digest}


def test_after_all_that_the_server_answers(shared, request_for):
    """Last in this file: nothing hangs, nothing crashed, the log has no traceback."""
    assert shared.ask(request_for("mark a")).startswith("a sum")
    state = ServerClient(shared.url, TOKEN).state()
    assert (state["waiting"], state["running"]) == (0, 0)
    assert state["workers"][0]["crashes"] == 0
    assert not [line for line in shared.log if "Traceback" in line]
    files = psutil.Process(shared.process.pid).num_fds()
    assert files < 100, files
    metrics = requests.get(shared.url + "/metrics", headers=shared.headers, timeout=5).text
    assert 'medfm_jobs_total{outcome="done",task="ask"}' in metrics
