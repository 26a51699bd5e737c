"""Read many damaged files in one process, with limits, and print what happened as JSON.

    python fuzz_files.py FOLDER COUNT SEED

Each file is a good one with bytes changed, cut, repeated, or numbers and names replaced. A reader may refuse it with an error
of MedFM; anything else is a failure.
"""

from __future__ import annotations

import gc
import io
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from security import bad_files  # noqa: E402

from MedFMLib.core.findings import Report, ReportSection, Segment, Segmentation  # noqa: E402
from MedFMLib.core.geometry import Geometry  # noqa: E402
from MedFMLib.core.request import Provenance, Response  # noqa: E402
from MedFMLib.errors import MedFMError  # noqa: E402
from MedFMLib.execution import serialization  # noqa: E402
from MedFMLib.files import read_image  # noqa: E402
from MedFMLib.files.pseudonyms import KeyFile  # noqa: E402
from MedFMLib.files.segmentations import read_segmentation  # noqa: E402
from MedFMLib.files.writing import write_segmentation  # noqa: E402
from MedFMLib.hardware import memory_of  # noqa: E402
from MedFMLib.model_store.bundle import read_manifest  # noqa: E402
from MedFMLib.reports.revising import read_editable_report  # noqa: E402
from MedFMLib.scene.scene_files import scene_file  # noqa: E402

EXTREMES = (0, 1, -1, 127, 255, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1)
NAMES = (
    b"../x",
    b"/etc/passwd",
    b"\0\0\0\0",
    b"%s%s%n",
    b"a" * 300,
    b"\xff\xfe",
    b"\x1b[2J",
    b"-1",
    b"1e999",
    b"nan",
    b"99999999999",
)
GEOMETRY = Geometry((10, 9, 8), np.diag([1.0, 1, 2, 1]))


def seeds(folder: Path) -> dict[str, tuple[bytes, object]]:
    """File name → (content, function that reads it)."""
    voxels = np.random.default_rng(0).integers(0, 200, (8, 9, 10)).astype(np.int16)
    picture = sitk.GetImageFromArray(voxels)
    made = {}
    for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.png", "a.tif", "a.jpg"):
        image = picture if name[2:] in ("nii", "nii.gz", "nrrd", "mha") else sitk.Cast(picture[:, :, 4], sitk.sitkUInt8)
        sitk.WriteImage(image, str(folder / name))
        made[name] = read_image
    for name, syntax in (
        ("plain.dcm", bad_files.ExplicitVRLittleEndian),
        ("deflated.dcm", bad_files.DeflatedExplicitVRLittleEndian),
    ):
        bad_files.dicom(folder / name, syntax)
        made[name] = read_image
    segment = Segmentation((Segment("liver", np.ascontiguousarray(voxels.transpose(2, 1, 0) > 100)),), GEOMETRY)
    write_segmentation(folder / "a.seg.nrrd", segment, Provenance("segment", "m"))
    made["a.seg.nrrd"] = lambda path: read_segmentation(path, GEOMETRY, tell=lambda note: None)
    report = Report("R", (ReportSection("Findings", ("Liver: 5 mL.",)), ReportSection("Limitations", ("None.",))))
    (folder / "a.medfm-report").write_bytes(serialization.dumps(Response((segment, report), Provenance("report", "m"))))
    made["a.medfm-report"] = read_editable_report
    scene = b'<MRML version="Slicer5"><VolumeArchetypeStorage id="v" fileName="Data/a.nrrd" ></VolumeArchetypeStorage></MRML>'
    _zip(folder / "a.mrb", {"s/s.mrml": scene, "s/Data/a.nrrd": (folder / "a.nrrd").read_bytes()})
    made["a.mrb"] = _open_scene
    (folder / "a.mrml").write_bytes(scene.replace(b"Data/a.nrrd", b"a.nrrd"))
    made["a.mrml"] = _open_scene
    _zip(folder / "a.zip", {"medfm-export.json": b"{}", "config.json": b"{}", "model.safetensors": b"\0" * 64})
    made["a.zip"] = lambda path: read_manifest(path, "model")
    KeyFile(folder / "a.key.csv").numbers([("/data/a", ""), ("/data/b", '{"files": ["1"]}')])
    made["a.key.csv"] = lambda path: KeyFile(path).read()
    return {name: ((folder / name).read_bytes(), read) for name, read in made.items()}


def _zip(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def _open_scene(path: Path) -> None:
    with scene_file(path):
        pass


def damaged(content: bytes, pick: random.Random) -> bytes:
    """The content with one to four changes, most of them in its first kilobyte."""
    raw = bytearray(content)
    for _ in range(pick.randint(1, 4)):
        at = pick.randrange(min(len(raw), 1024) if pick.random() < 0.8 else len(raw)) if raw else 0
        match pick.randrange(7):
            case 0:
                raw[at : at + 1] = bytes([pick.randrange(256)])
            case 1:
                raw[at : at + 4] = struct.pack(
                    pick.choice("<>") + "i", max(-(2**31), min(pick.choice(EXTREMES), 2**31 - 1))
                )
            case 2:
                raw[at : at + 2] = struct.pack("<h", pick.choice((0, 1, -1, 32767, -32768)))
            case 3:
                raw[at : at + pick.randrange(1, 9)] = pick.choice(NAMES)
            case 4:
                del raw[pick.randrange(len(raw)) if raw else 0 :]
            case 5:
                raw[at:at] = raw[at : at + pick.randrange(1, 200)] * pick.choice((1, 2, 50))
            case 6:
                raw[at : at + 4] = struct.pack("<f", pick.choice((0.0, -1.0, 1e30, float("nan"), float("inf"))))
    return bytes(raw)


def main() -> None:
    """Read COUNT files and print the outcome."""
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    tempfile.tempdir = str(folder / "tmp")
    (folder / "tmp").mkdir()
    start = folder / "seeds"
    start.mkdir()
    good = seeds(start)
    for name, (_, read) in good.items():
        try:
            read(start / name)
        except MedFMError:
            if name != "a.zip":  # its manifest is empty
                raise
    pick, outcome, slowest, failures = random.Random(seed), Counter(), (0.0, ""), []
    room = folder / "files"
    before = 0
    for number in range(count):
        if number == count // 4:  # libraries have their tables and pools by now
            before = settled()
        name = pick.choice(sorted(good))
        content, read = good[name]
        room.mkdir()
        path = room / name
        path.write_bytes(damaged(content, pick))
        began = time.monotonic()
        try:
            read(path)
            outcome["read"] += 1
        except MedFMError as error:
            outcome["refused"] += 1
            if not str(error).strip() or "Traceback" in str(error):
                failures.append(f"{name} #{number}: {error!r}")
        except Exception:
            failures.append(f"{name} #{number}: {traceback.format_exc()[-600:]}")
        took = time.monotonic() - began
        slowest = max(slowest, (took, name))
        shutil.rmtree(room)
    left = [str(path.relative_to(folder)) for path in (folder / "tmp").rglob("*")]
    status = Path("/proc/self/status").read_text()  # `ru_maxrss` counts what the parent had, too
    peak = int(status.partition("VmHWM:")[2].split()[0]) >> 10
    print(json.dumps({"outcome": outcome, "failures": failures[:20], "before": before, "after": settled(), "peak MB": peak,
                      "slowest": slowest, "left": left}))  # fmt: skip


def settled() -> int:
    """Resident memory in bytes after what is unused was given back."""
    gc.collect()
    try:
        import ctypes

        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass
    return memory_of(os.getpid())


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    stdout, sys.stdout = sys.stdout, io.StringIO()
    try:
        main()
    finally:
        stdout.write(sys.stdout.getvalue())
        stdout.flush()
