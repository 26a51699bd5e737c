"""Fifty clients at once: every answer reaches the client that asked, and no client waits much longer than the others."""

from __future__ import annotations

import statistics
import time

import numpy as np
from support.server_in_test import in_threads

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.interfaces.jobs import NoProgress

CLIENTS, REQUESTS = 50, 20


def test_fifty_clients_of_twenty_requests_get_their_own_answers_fairly(server, capsys):
    def client(number):
        one, waited, texts = server.client(), [], []
        voxels = np.full((1, 8, 8, 8), number, np.int16)
        voxels[0, 0, 0, 0] = 1000  # no two clients' volumes are the same
        image = Image(voxels, Geometry((8, 8, 8), np.eye(4)), "CT")
        for case in range(REQUESTS):
            started = time.monotonic()
            response = one.run(Request("ask", image, question=f"mark client-{number}-case-{case}"), NoProgress())
            waited.append(time.monotonic() - started)
            texts.append(response.answers[0].text)
        total = int(voxels.astype(np.int64).sum())
        wrong = sum(text != f"client-{number}-case-{case} sum {total} int16" for case, text in enumerate(texts))
        return statistics.mean(waited), len(texts), wrong

    started = time.monotonic()
    found = in_threads([lambda number=number: client(number) for number in range(CLIENTS)], 300)
    seconds = time.monotonic() - started
    waits = [wait for wait, _, _ in found]
    lost = CLIENTS * REQUESTS - sum(answered for _, answered, _ in found)
    mixed = sum(wrong for _, _, wrong in found)
    slowest, median = max(waits), statistics.median(waits)
    with capsys.disabled():
        print(
            f"\n[{CLIENTS} clients × {REQUESTS} requests] {lost} lost, {mixed} mixed up, "
            f"{CLIENTS * REQUESTS / seconds:.0f} jobs/s; "
            f"a client's mean wait: median {median:.2f} s, slowest {slowest:.2f} s = {slowest / median:.2f} × the median"
        )
    assert (lost, mixed) == (0, 0)
    assert slowest <= 3 * median


def test_a_client_with_many_jobs_delays_another_by_one(server, request_for):
    """Twenty jobs of one, then one of another: the other's is the second or third to run."""
    crowd = [server.client() for _ in range(1)]
    order = []

    def many(number):
        crowd[0].run(request_for("sleep 0.2"), NoProgress())
        order.append(number)

    def one():
        time.sleep(0.5)
        server.client().run(request_for("sleep 0.2"), NoProgress())
        order.append("other")

    in_threads([*(lambda n=n: many(n) for n in range(20)), one])
    assert order.index("other") <= 5, order
