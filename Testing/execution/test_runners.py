"""One contract for four runners: in this process, in a worker process, on a local server, on a server elsewhere."""

from __future__ import annotations

import time

import numpy as np
import pytest

from MedFMLib.core.request import MOST_LETTERS
from MedFMLib.errors import Cancelled, InputError, MedFMError
from MedFMLib.interfaces.jobs import Done, Failed, Fraction, Note, PartialText, Stage, Stopped


def essential(events):
    """Events without what tells of the way, which differs."""
    return [e for e in events if not (isinstance(e, Stage) and e.name != "Looking")]


def test_results_and_events_are_the_same(runner, request_for, image):
    job = runner.submit(request_for("sum of"))
    events = list(job.stream(60))
    assert essential(events) == [Stage("Looking"), Fraction(0.5), PartialText("par"), Note("noted"), Done()]
    answer = job.result(0).answers[0]
    assert answer.text == f"of sum {image.voxels.sum()} int16"
    assert answer.question == "sum of"


def test_masks_and_geometry_come_back_whole(runner, request_for, image):
    segmentation = runner.submit(request_for("segment")).result(60).segmentation
    assert np.array_equal(segmentation["x"].mask, image.scalars > 0)
    assert segmentation.geometry == image.geometry


def test_errors_keep_their_kind_and_sentence(runner, request_for):
    job = runner.submit(request_for("fail 7"))
    with pytest.raises(InputError, match=r"^The slice 7 does not exist; choose another\.$"):
        job.result(60)
    assert list(job.stream(1))[-1] == Failed("The slice 7 does not exist; choose another.")


def test_a_defect_is_one_sentence(runner, request_for):
    with pytest.raises(MedFMError, match="unexpectedly .*ZeroDivisionError: oops"):
        runner.submit(request_for("bug")).result(60)


def test_a_cancel_is_answered_within_200_ms_and_the_next_job_runs(runner, request_for, image):
    job = runner.submit(request_for("sleep 60"))
    next(e for e in job.stream(60) if isinstance(e, Fraction))
    asked = time.monotonic()
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(1)
    assert time.monotonic() - asked < 0.2
    assert list(job.stream(1))[-1] == Stopped()
    assert "sum" in runner.submit(request_for("sum")).result(30).answers[0].text


def test_a_waiting_job_can_be_cancelled(runner, request_for):
    first = runner.submit(request_for("sleep 60"))
    next(e for e in first.stream(60) if isinstance(e, Fraction))
    second = runner.submit(request_for("sum"))
    second.cancel()
    with pytest.raises(Cancelled):
        second.result(0.2)
    first.cancel()
    assert runner.submit(request_for("mark a")).result(30).answers[0].text.startswith("a sum")


def test_jobs_run_in_the_order_they_came(runner, request_for):
    jobs = [runner.submit(request_for("count")) for _ in range(3)]
    counts = [int(job.result(60).answers[0].text.split()[1]) for job in jobs]
    assert counts == sorted(counts)


def test_a_runner_tells_its_state(runner, request_for):
    runner.start()
    job = runner.submit(request_for("sleep 60"))
    next(e for e in job.stream(60) if isinstance(e, Fraction))
    state = runner.state()
    assert state.doing == "working"
    assert state.memory > 1e6
    job.cancel()


def test_stopping_gives_the_engine_back_and_the_next_job_starts_it(runner, request_for):
    runner.submit(request_for("mark a")).result(60)
    runner.stop()
    assert runner.submit(request_for("mark b")).result(60).answers[0].text.startswith("b sum")


def test_a_closed_runner_takes_no_jobs(runner, request_for):
    runner.submit(request_for("mark a")).result(60)
    runner.close()
    with pytest.raises(MedFMError, match="closed"):
        runner.submit(request_for("mark b"))


def test_a_large_question_and_history_arrive(runner, request_for):
    text = "ä" * (MOST_LETTERS - 5)
    job = runner.submit(request_for(f"mark {text}", history=(("a", "b"),) * 50))
    assert job.result(60).answers[0].text.startswith(text)
