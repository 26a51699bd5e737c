"""An error of one case does not affect the others; changes by the user are detected; two batches don't interfere."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import sqlite3
import time

import pytest
import SimpleITK as sitk
from support.batch_in_test import checksums, write_volume
from support.fake_runner import FakeRunner
from support.phantoms import ct_phantom
from support.server_in_test import TOKEN, ServerInTest

from MedFMLib.batch import cases, running
from MedFMLib.batch.plan import CaseOptions, TaskStep
from MedFMLib.core.findings import Answer
from MedFMLib.core.request import Provenance, Response
from MedFMLib.errors import InputError, OutputError

OTHER = "google/medgemma-1.5-4b-it"


@pytest.fixture
def volumes(tmp_path):
    """Makes a folder with volumes of these names."""

    def make(*names):
        for number, name in enumerate(names):
            write_volume(tmp_path / "in" / f"{name}.nrrd", number)
        return tmp_path / "in"

    return make


def by_case(said):
    return {row["case"]: row for row in said["rows"]}


def test_a_bad_case_is_one_row_with_one_sentence_and_the_others_are_done(volumes, batch, tmp_path):
    folder = volumes("good_1", "crash_1", "hang_1", "refuse_1", "bug_1", "flaky_1", "good_2")
    (folder / "broken_1.nrrd").write_bytes(b"NRRD0004\ntype: short\n")
    code, said, error = batch(
        folder, "-t", "segment", "-o", tmp_path / "out", "--time-limit", 8, "--retries", 1, "-w", 2
    )
    assert code == 1 and (said["done"], said["failed"]) == (3, 5), error
    rows = by_case(said)
    expected = {
        "crash_1": ("ended unexpectedly", 2),
        "hang_1": ("longer than 8 s", 1),
        "refuse_1": ("no slices that can be looked at", 1),
        "bug_1": ("ZeroDivisionError", 2),
        "broken_1": ("can't be read", 1),
    }
    for case, (sentence, attempts) in expected.items():
        assert (rows[case]["state"], rows[case]["attempts"]) == ("failed", attempts), case
        assert sentence in rows[case]["error"] and "\n" not in rows[case]["error"] and rows[case]["files"] == []
        assert f"{case}, segment:" not in error  # --json is quiet
    assert (rows["flaky_1"]["state"], rows["flaky_1"]["attempts"]) == ("done", 2)
    assert {name.split("/")[0] for name in checksums(tmp_path / "out")} == {"good_1", "good_2", "flaky_1"}
    # the next run tries again what failed, and only that
    write_volume(folder / "broken_1.nrrd")
    (folder / "hang_1.nrrd").unlink()
    before = checksums(tmp_path / "out")
    code, said, _ = batch(folder, "-t", "segment", "-o", tmp_path / "out", "--time-limit", 8, "--retries", 0)
    rows = by_case(said)
    assert rows["broken_1"]["state"] == "done" and rows["good_1"]["attempts"] == 1
    assert "There is no file" in rows["hang_1"]["error"]
    assert before.items() <= checksums(tmp_path / "out").items()


def test_pages_and_tables_tell_what_was_found(volumes, batch, tmp_path):
    folder = volumes("good", "refuse_1")
    (folder / "<b>x.nrrd").write_bytes((folder / "good.nrrd").read_bytes())
    batch(folder, "-t", "segment", "-t", "ask:How <many>?", "-o", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<b>x" not in page and "How <many>" not in page and "How &lt;many&gt;?" in page
    assert "no slices that can be looked at" in page and "http" not in page.replace("http-equiv", "")
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) >= 5 and all((tmp_path / "out" / link).is_file() for link in links)
    with (tmp_path / "out" / "summary.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    volume = next(row for row in table if row["case"] == "good" and row["name"] == "volume")
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "good.nrrd")))
    assert float(volume["value"]) == (voxels > 50).sum() / 1000 and volume["unit"] == "mL"
    answer = next(row for row in table if row["case"] == "good" and row["answer"])
    assert answer["answer"] == f"'={(voxels > 50).sum()}"  # a spreadsheet takes it for text
    content = json.loads((tmp_path / "out" / "good" / "good.segment.json").read_text())
    assert content["provenance"]["revision"] == "r1" and content["provenance"]["started"] == ""
    with sqlite3.connect(tmp_path / "out" / "batch.sqlite") as base:
        assert base.execute("SELECT DISTINCT model, revision, precision FROM jobs WHERE state = 'done'").fetchall() == [
            ("medfm-tiny", "r1", "fp32")
        ]


def test_another_question_model_or_image_is_refused_unless_again(volumes, batch, tmp_path):
    folder, out = volumes("a", "b"), tmp_path / "out"
    assert batch(folder, "-t", "segment", "-o", out)[0] == 0
    for changed, reason in (
        (["-t", "segment", "-t", "ask:Why?"], "Other tasks are given for 'a'"),
        (["-t", "segment", "--model", OTHER], rf"Another model \({OTHER}, not medfm-tiny\) is given"),
        (["-t", "segment", "--label", "liver"], "Another labels"),
    ):
        code, said, error = batch(folder, *changed, "-o", out)
        assert code == 2 and said is None and re.search(reason, error) and len(error.strip().splitlines()) == 1
    os.utime(folder / "a.nrrd")  # touched, not changed
    assert batch(folder, "-t", "segment", "-o", out)[0] == 0
    write_volume(folder / "c.nrrd", 7)  # one more is welcome
    code, said, _ = batch(folder, "-t", "segment", "-o", out)
    assert (code, said["done"]) == (0, 3)
    write_volume(folder / "a.nrrd", 99)
    code, _, error = batch(folder, "-t", "segment", "-o", out)
    assert code == 2 and "The image of 'a' changed" in error
    before = checksums(out)
    code, said, _ = batch(folder, "-t", "ask:Why?", "-o", out, "--again")
    assert (code, said["done"]) == (0, 3)
    assert before.keys().isdisjoint(checksums(out))


def test_a_lost_result_is_made_again(volumes, batch, tmp_path):
    folder, out = volumes("a", "b"), tmp_path / "out"
    batch(folder, "-t", "segment", "-o", out)
    before = checksums(out)
    (out / "b" / "b.segment.seg.nrrd").unlink()
    code, said, _ = batch("-o", out, "--resume")
    assert code == 0 and checksums(out) == before
    assert [row["attempts"] for row in said["rows"]] == [1, 2]


def test_what_can_t_be_done_is_refused_before_anything_starts(volumes, batch, tmp_path):
    folder = volumes("a")
    for arguments, reason in (
        ([folder], "No task is given"),
        ([folder, "-t", "dance"], "dance"),
        ([folder, "-t", "segment", "--model", "nothing-like-it"], "nothing-like-it"),
        ([folder, "-t", "segment", "--engine", "slurm"], "slurm"),
        ([folder, "-t", "segment", "--workers", "0"], "at least 1 worker"),
        (["--resume"], "no batch in"),
        (["-t", "segment"], "No volumes"),
        ([folder, "-t", "segment", "--server", "https://far.example"], "far.example"),
    ):
        code, said, error = batch(*arguments, "-o", tmp_path / "out", compute="")
        assert code in (2, 3) and said is None and reason in error, (arguments, error)
        assert not (tmp_path / "out" / "index.html").exists()


def test_two_batches_don_t_share_a_folder_and_ctrl_c_is_a_pause(volumes, start_batch, batch, tmp_path, monkeypatch):
    folder, out = volumes(*(f"scan_{n:02d}" for n in range(30))), tmp_path / "out"
    monkeypatch.setenv("MEDFM_TEST_SECONDS", "0.4")
    first = start_batch(folder, "-t", "segment", "-o", out)
    while not list(out.glob("*/*.json")):
        assert first.poll() is None
        time.sleep(0.01)
    code, _, error = batch(folder, "-t", "segment", "-o", out)
    assert code == 2 and f"Another batch is running in '{out}' (process {first.pid})" in error
    first.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, error = first.communicate(timeout=20)
    assert first.returncode == 130 and time.monotonic() - started < 3
    assert re.search(r"Stopped; \d+ of 30 results are finished. The same command continues", error)
    code, said, _ = batch(folder, "-t", "segment", "-o", out)
    assert code == 0 and said["done"] == 30 and max(row["attempts"] for row in said["rows"]) <= 2


def test_a_full_disk_stops_the_batch_and_it_goes_on_later(volumes, tmp_path, monkeypatch):
    found = cases.find(volumes("a", "b", "c"), (TaskStep("ask", "How?"),), CaseOptions(), cases.SeriesChoice())
    response = Response((Answer("How?", "so"),), Provenance("ask", "m"))
    real, calls = running.results.write, []

    def write(folder, case, *rest):
        calls.append(case.id)
        if len(calls) == 2:
            raise OutputError("No space left; free some.")
        return real(folder, case, *rest)

    monkeypatch.setattr(running.results, "write", write)
    with pytest.raises(OutputError, match="No space"):
        running.run(tmp_path / "out", found, lambda: FakeRunner(response))
    assert running.run(tmp_path / "out", found, lambda: FakeRunner(response))["done"] == 3
    assert calls == ["a", "b", "c", "b"]  # what was tried least comes first


def test_a_case_id_never_leads_out_of_the_folder(tmp_path):
    case = cases.BatchCase("../evil", str(tmp_path / "a.nrrd"), (TaskStep("segment"),))
    with pytest.raises(InputError, match="is not a valid name of a case"):
        running.run(tmp_path / "out", [case], lambda: FakeRunner())


def test_cases_run_on_a_server_several_at_a_time(volumes, batch, tmp_path, monkeypatch):
    server = ServerInTest()
    try:
        monkeypatch.setenv("MEDFM_SERVER_KEY", TOKEN)
        folder, out = volumes("a", "b", "c"), tmp_path / "out"
        asked = ("-t", "ask:mark x", "-t", "ask:fail 3", "--server", server.url)
        code, said, error = batch(folder, *asked, "-o", out, "-w", 2, compute="")
        assert code == 1 and (said["done"], said["failed"]) == (3, 3), error
        assert {row["error"] for row in said["rows"]} == {"", "The slice 3 does not exist; choose another."}
    finally:
        server.close()


def test_the_embedded_model_does_several_tasks_on_one_load(batch, tmp_path):
    image = ct_phantom()
    picture = sitk.GetImageFromArray(image.scalars[::2, ::2, ::4].transpose(2, 1, 0).copy())
    picture.SetSpacing((7.2, 7.2, 20.0))
    for name in ("one", "two"):
        (tmp_path / "in").mkdir(exist_ok=True)
        sitk.WriteImage(picture, str(tmp_path / "in" / f"{name}.nrrd"))
    code, said, error = batch(
        tmp_path / "in", "-t", "segment", "-t", "ask:Which modality is this?", "-t", "report", "--label", "mandible",
        "--modality", "CT", "--outside-domain", "-o", tmp_path / "out", compute="",
    )  # fmt: skip
    assert code == 0 and said["done"] == 6, (error, said)
    names = {name.split(".", 1)[1] for name in checksums(tmp_path / "out")}
    assert {"segment.json", "segment.seg.nrrd", "report.html", "report.txt", "report.json"} <= names
    one, two = (json.loads((tmp_path / "out" / n / f"{n}.segment.json").read_text()) for n in ("one", "two"))
    assert one["measurements"] == two["measurements"] and one["provenance"]["precision"]
