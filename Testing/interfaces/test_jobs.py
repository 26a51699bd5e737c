"""Jobs: events, results, cancel."""

import threading
import time

import pytest
from support.fake_runner import FakeRunner
from support.phantoms import ct_phantom

from MedFMLib.core.request import Provenance, Request, Response
from MedFMLib.errors import Cancelled, InputError, MedFMError
from MedFMLib.interfaces.jobs import Done, Failed, Fraction, LocalRunner, Note, PartialText, Stage, Stopped


@pytest.fixture
def request_():
    return Request("ask", ct_phantom(), question="What?")


def answer(request, progress):
    progress.stage("Thinking")
    progress.fraction(0.5)
    progress.partial("yes")
    progress.note("beware")
    return Response((), Provenance(request.task, "fake"))


def test_a_job_tells_its_stages_in_order_and_ends_once(request_):
    runner = LocalRunner(answer)
    events = list(runner.submit(request_).stream(timeout=5))
    assert events == [Stage("Thinking"), Fraction(0.5), PartialText("yes"), Note("beware"), Done()]


def test_the_result_waits_for_the_end(request_):
    def slow(request, progress):
        time.sleep(0.1)
        return Response((), Provenance("ask", "fake"))

    job = LocalRunner(slow).submit(request_)
    with pytest.raises(TimeoutError):
        job.result(timeout=0.01)
    assert job.result(timeout=5).provenance.model == "fake"
    assert job.ended


def test_submitting_does_not_wait_for_the_work(request_):
    gate = threading.Event()
    runner = LocalRunner(lambda r, p: gate.wait(5) and answer(r, p))
    started = time.monotonic()
    job = runner.submit(request_)
    assert time.monotonic() - started < 0.1
    assert not job.ended
    gate.set()
    job.result(5)


def test_a_cancelled_job_stops_at_its_next_word_and_has_no_result(request_):
    started = threading.Event()

    def endless(request, progress):
        while True:
            started.set()
            time.sleep(0.005)
            progress.fraction(0.1)

    job = LocalRunner(endless).submit(request_)
    assert started.wait(5)
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(5)
    assert job.events()[-1] == Stopped()


def test_a_cancel_that_comes_before_the_end_wins(request_):
    gate = threading.Event()

    def deaf(request, progress):
        gate.wait(5)
        return Response((), Provenance("ask", "fake"))

    job = LocalRunner(deaf).submit(request_)
    job.cancel()
    gate.set()
    with pytest.raises(Cancelled):
        job.result(5)


def test_errors_become_one_sentence_and_defects_do_not_show_a_traceback(request_):
    def bad_input(request, progress):
        raise InputError("The image is empty; load another.")

    def defect(request, progress):
        raise ZeroDivisionError("division by zero\nsecret second line")

    job = LocalRunner(bad_input).submit(request_)
    assert list(job.stream(5))[-1] == Failed("The image is empty; load another.")
    with pytest.raises(InputError):
        job.result()
    job = LocalRunner(defect).submit(request_)
    message = list(job.stream(5))[-1].message
    assert "ZeroDivisionError: division by zero" in message
    assert "secret" not in message
    with pytest.raises(MedFMError):
        job.result()


def test_running_out_of_memory_says_what_to_do(request_):
    def hungry(request, progress):
        raise MemoryError

    assert "lower precision" in list(LocalRunner(hungry).submit(request_).stream(5))[-1].message


def test_jobs_run_in_the_order_they_were_submitted(request_):
    order = []
    runner = LocalRunner(lambda r, p: order.append(r.question) or answer(r, p))
    jobs = [runner.submit(Request("ask", request_.image, question=str(n))) for n in range(5)]
    for job in jobs:
        job.result(5)
    assert order == list("01234")


def test_closing_cancels_what_runs_and_refuses_more(request_):
    started = threading.Event()

    def endless(request, progress):
        while True:
            started.set()
            time.sleep(0.005)
            progress.stage("on and on")

    runner = LocalRunner(endless)
    job = runner.submit(request_)
    started.wait(5)
    runner.close()
    with pytest.raises(Cancelled):
        job.result(5)
    with pytest.raises(MedFMError, match="closed"):
        runner.submit(request_)


def test_the_fake_runner_plays_its_script_and_can_be_held(request_):
    runner = FakeRunner(Response((), Provenance("ask", "fake")), [Stage("a"), PartialText("b")], hold=True)
    job = runner.submit(request_)
    time.sleep(0.05)
    assert not job.ended
    runner.release()
    assert list(job.stream(5)) == [Stage("a"), PartialText("b"), Done()]
    assert runner.requests == [request_]
    held = FakeRunner(None, hold=True).submit(request_)
    held.cancel()
    assert list(held.stream(5)) == [Stopped()]
    assert list(FakeRunner(InputError("No.")).submit(request_).stream(5)) == [Failed("No.")]
