"""Calls of the staff go to the local network only, say nothing about the patient, and fail without a trace of anything else."""

from __future__ import annotations

import json
import logging
import socket
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from MedFMLib.errors import InputError
from MedFMLib.patient.calling import call_staff, check_address
from MedFMLib.patient.settings import PatientSettings

NOON = datetime(2026, 11, 30, 12, 0, 5, tzinfo=UTC)


@pytest.fixture
def server():
    """A server that keeps what it gets; its `status` is what it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers)))
            self.send_response(made.status)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    got = []
    made = HTTPServer(("127.0.0.1", 0), Handler)
    made.status, made.got = 204, got
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def url_of(server) -> str:
    return f"http://127.0.0.1:{server.server_port}/calls"


def test_a_call_has_its_place_and_time_and_nothing_else(server):
    settings = PatientSettings(place="Waiting room 2", call_url=url_of(server))
    assert call_staff(settings, NOON)
    ((path, body, _),) = server.got
    assert path == "/calls"
    assert json.loads(body) == {"event": "help", "place": "Waiting room 2", "time": "2026-11-30T12:00:05+00:00"}


@pytest.mark.parametrize("status", [302, 307, 403, 500])
def test_whatever_is_no_success_counts_as_not_taken_and_is_not_followed(server, status):
    server.status = status
    assert not call_staff(PatientSettings(call_url=url_of(server)), NOON)
    assert len(server.got) == 1


def test_a_proxy_is_not_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert call_staff(PatientSettings(call_url=url_of(server)), NOON)


def test_without_an_address_or_a_server_nobody_took_it(caplog):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert not call_staff(PatientSettings(), NOON)
    with caplog.at_level(logging.WARNING):
        assert not call_staff(PatientSettings(place="Miller's room", call_url=f"http://127.0.0.1:{port}/secret"), NOON)
    assert caplog.text and "Miller" not in caplog.text and "secret" not in caplog.text


@pytest.mark.parametrize("url", ["", "  ", "http://127.0.0.1:8080/calls", "https://192.168.1.20/x", "http://10.2.3.4",
                                 "http://172.16.0.9:1/", "http://[::1]:80/", "http://localhost:1"])  # fmt: skip
def test_addresses_of_this_computer_and_private_networks(url):
    assert check_address(url) == url.strip()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:80", "http://", "http://8.8.8.8/", "http://172.32.0.1", "file:///etc",
                                 "http://[2001:4860:4860::8888]/", "http://0.0.0.0/", "http://127.0.0.1:99999/"])  # fmt: skip
@pytest.mark.parametrize("look_up", [True, False])
def test_other_addresses_are_refused_with_a_sentence(url, look_up):
    with pytest.raises(InputError, match=r"address|local network"):
        check_address(url, look_up=look_up)
    assert not call_staff(PatientSettings(call_url=url), NOON)


@pytest.mark.parametrize("found", [["93.184.216.34"], ["192.168.1.5", "8.8.4.4"], []])
def test_a_name_counts_by_all_of_its_addresses(monkeypatch, found):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (a, 80)) for a in found])
    assert check_address("http://ward.example/", look_up=False)
    with pytest.raises(InputError, match="local network"):
        check_address("http://ward.example/")
