"""Data sets: what is read, what is reported as skipped, and no patient is in two splits."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image as Picture
from support import finetune_phantoms

from MedFMLib.errors import InputError, OutputError
from MedFMLib.training.data import building, medpix, reading, splitting, vqa
from MedFMLib.training.data.dataset import Dataset
from MedFMLib.training.data.pictures import digest, likeness, read_picture, view_of
from MedFMLib.training.data.samples import SPLITS


def picture(path, seed=0, size=(48, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)).save(path)


@pytest.fixture
def medpix_folder(tmp_path):
    """Three patients of the MedPix layout, one with two images and one whose image is missing."""
    described, cases = [], []
    for number, (patient, images) in enumerate((("MPX1", 2), ("MPX2", 1), ("MPX3", 1), ("MPX4", 1))):
        names = [f"{patient}_synpic{n}" for n in range(images)]
        for n, name in enumerate(names):
            if patient != "MPX4":
                picture(tmp_path / "images" / f"{name}.png", 10 * number + n)
            inner = {
                "Plane": "Transverse",
                "Caption": "A mass." if n else "N/A",
                "Modality": "CT - noncontrast",
                "Age": "73",
            }
            described.append({"Type": "CT", "U_id": patient, "image": name, "Description": inner,
                              "Location": "Abdomen", "Location Category": "Abdomen"})  # fmt: skip
        cases.append({"U_id": patient, "TAC": names, "MRI": [], "Topic": {"Title": "Hernia"},
                      "Case": {"Findings": "N/A", "Case Diagnosis": "Hernia"}})  # fmt: skip
    (tmp_path / "Descriptions.json").write_text(json.dumps(described))
    (tmp_path / "Case_topic.json").write_text(json.dumps(cases))
    return tmp_path


@pytest.fixture
def table(tmp_path):
    """questions.csv of a dozen made-up patients."""
    return finetune_phantoms.write_table(tmp_path / "source")


def rows_of(table):
    with table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write_rows(table, rows):
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def test_medpix_pairs_follow_from_descriptions_and_cases(medpix_folder):
    found = medpix.read(medpix_folder)
    answers = {(p.picture, p.category): p.answer for p in found.pairs}
    assert answers["MPX1_synpic0", "modality"] == "CT"
    assert answers["MPX1_synpic0", "plane"] == "axial", "Transverse is axial"
    assert ("MPX1_synpic0", "caption") not in answers and answers["MPX1_synpic1", "caption"] == "A mass."
    assert answers["MPX2_synpic0", "case diagnosis"] == "Hernia" and ("MPX2_synpic0", "case findings") not in answers
    assert found.counts == {"images": 4, "descriptions": 5, "cases": 4, "patients": 4, "patients_with_images": 3}
    assert found.empty["Description.Caption"] == 4 and found.empty["Case.Findings"] == 4
    assert not [p for p in found.pairs if "73" in p.answer], "age is nothing that a picture shows"


def test_missing_pictures_are_counted_and_skipped_only_on_request(medpix_folder):
    checked = building.check(reading.read(medpix_folder))
    assert checked.report()["problems"] == {"missing picture": 1}
    with pytest.raises(InputError, match=r'1 × missing picture; the first is MPX4_synpic0.*--skip "missing picture"'):
        building.refuse_problems(checked, ())
    building.refuse_problems(checked, ("missing picture",))


def test_published_splits_are_kept(medpix_folder):
    described = json.loads((medpix_folder / "Descriptions.json").read_text())
    folder = medpix_folder / "splitted_dataset"
    folder.mkdir()
    for name, patients in (("train", ("MPX1", "MPX4")), ("dev", ("MPX2",)), ("test", ("MPX3",))):
        lines = [json.dumps(entry) for entry in described if entry["U_id"] in patients]
        (folder / f"descriptions_{name}.jsonl").write_text("\n".join(lines))
    (medpix_folder / "Descriptions.json").unlink()
    checked = building.check(reading.read(medpix_folder))
    assert checked.splits == {"MPX1": "train", "MPX2": "validation", "MPX3": "test"}
    assert checked.report()["options"]["split"] == "the source's"


def test_broken_json_and_unknown_encodings_are_listed(tmp_path):
    picture(tmp_path / "a.png")
    good = json.dumps({"image": "a.png", "question": "q?", "answer": "a", "patient": "1"})
    (tmp_path / "lines.jsonl").write_text(f"{good}\n{{broken\n[1]\n")
    found = reading.read(tmp_path / "lines.jsonl")
    assert [p.kind for p in found.problems] == ["broken JSON", "broken entry"] and "line 2" in found.problems[0].where
    (tmp_path / "latin.jsonl").write_bytes(good.replace('"a"', '"ä"').encode("latin-1"))
    assert [p.kind for p in reading.read(tmp_path / "latin.jsonl").problems] == ["unknown encoding"]
    (tmp_path / "wide.jsonl").write_bytes(good.encode("utf-16"))
    assert len(reading.read(tmp_path / "wide.jsonl").pairs) == 1


def test_vqa_rad_and_slake_are_distinguished(tmp_path):
    picture(tmp_path / "images" / "synpic1.jpg")
    rad = [{"image_name": "synpic1.jpg", "question": "Is it?", "answer": "Yes", "question_type": "PRES", "modality": "MRI"},
           {"image_name": "synpic2.jpg", "question": "Is it?", "answer": "No", "question_type": "PRES"}]  # fmt: skip
    (tmp_path / "rad.json").write_text(json.dumps(rad))
    found = vqa.read(tmp_path / "rad.json")
    assert found.source == "VQA-RAD" and found.pictures[0].modality == "MR"
    assert [(p.kind, p.where) for p in found.problems] == [("missing picture", "synpic2.jpg")]
    picture(tmp_path / "imgs" / "xmlab1" / "source.jpg", size=(50, 100))
    (tmp_path / "imgs" / "xmlab1" / "detection.json").write_text('[{"Liver": [10, 5, 20, 30]}]')
    slake = [{"img_name": "xmlab1/source.jpg", "question": "Where?", "answer": "Left", "q_lang": "en"},
             {"img_name": "xmlab1/source.jpg", "question": "Wo?", "answer": "Links", "q_lang": "de"}]  # fmt: skip
    (tmp_path / "slake.json").write_text(json.dumps(slake))
    found = vqa.read(tmp_path / "slake.json")
    assert found.source == "SLAKE" and [p.kind for p in found.pairs] == ["boxes", "text"]
    assert found.pairs[0].objects[0].box == pytest.approx((0.1, 0.1, 0.7, 0.3)), (
        "the square of a picture is the picture"
    )
    assert found.counts["other languages"] == 1


def test_volumes_give_slices_and_questions_that_labels_answer(tmp_path):
    import SimpleITK as sitk

    for patient in range(3):
        values = np.zeros((20, 24, 28), np.int16)
        labels = np.zeros(values.shape, np.uint8)
        labels[5:15, 6:18, 3:12], labels[8:12, 8:14, 15:22] = 1, 2
        values[labels > 0] = 900
        values += np.random.default_rng(patient).integers(0, 800, values.shape).astype(np.int16)
        for folder, array in (("images", values), ("labels", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / folder / f"case{patient}.nii.gz"))
    with pytest.raises(InputError, match="no usable picture"):  # labels without names are problems
        building.check(reading.read(tmp_path))
    (tmp_path / "labels.json").write_text('{"1": "liver", "2": "spleen"}')
    checked = building.check(reading.read(tmp_path, reading.ReaderChoices(slices=4, modality="MR")))
    report = checked.report()
    assert report["patients"] == 3 and set(report["planes"]) == {"axial", "coronal", "sagittal"}
    assert set(report["kinds"]) == {"text", "boxes", "masks"}
    building.build(checked, tmp_path / "built")
    data = Dataset.load(tmp_path / "built")
    masks = [s for name in SPLITS for s in data.samples[name] if s.kind == "masks" and s.objects]
    shown = data.shown(masks[0])
    for placed in masks[0].objects:  # the box is where the label is, as a model's view shows it
        y, x = data.view(masks[0]).positions()
        rows, columns = np.nonzero(shown.labels == placed.value)
        assert placed.box[0] <= y[rows].min() and y[rows].max() <= placed.box[2]
        assert placed.box[1] <= x[columns].min() and x[columns].max() <= placed.box[3]


def test_a_slice_is_the_picture_that_is_asked_about_in_use(tmp_path):
    from MedFMLib.core.geometry import Geometry
    from MedFMLib.core.image import Image
    from MedFMLib.core.view import make_view
    from MedFMLib.training.data.pictures import slice_loader

    voxels = np.random.default_rng(0).normal(500, 200, (1, 20, 31, 12)).astype(np.float32)
    image = Image(voxels, Geometry((20, 31, 12), np.diag([-2.0, 1.0, 5.0, 1.0])), "MR")
    for plane in ("axial", "coronal", "sagittal"):
        shown = slice_loader(lambda: image, plane, 5)()
        assert (view_of(shown.pixels, shown.spacing).square(96) == make_view(image, plane, 5).square(96)).all()


def test_patients_are_split_whole_and_every_split_has_some(table):
    checked = building.check(reading.read(table))
    assert set(checked.splits.values()) == set(SPLITS) and len(checked.splits) == 12
    again = building.check(reading.read(table))
    assert again.splits == checked.splits
    assert building.check(reading.read(table), seed=1).splits != checked.splits


def test_a_planted_leak_is_caught(table, tmp_path):
    rows = rows_of(table)
    for n, row in enumerate(rows):
        row["split"] = ("train", "validation", "test")[int(row["patient"][1:]) % 3]
        if n == 0:
            row["split"] = "test"  # patient 0 trains otherwise
    first = [row for row in rows if row["image"] != rows[0]["image"]]
    write_rows(table, [rows[0], *first])
    with pytest.raises(InputError, match="The split leaks: patient P00 is in test and train"):
        building.check(reading.read(table))


def test_a_planted_duplicate_is_caught_or_kept_together(table):
    rows = rows_of(table)
    copy = {**rows[0], "image": "copy.jpg", "patient": "P99"}
    with Picture.open(table.parent / rows[0]["image"]) as one:
        one.resize((160, 160)).save(table.parent / "copy.jpg", quality=80)  # another size, another format
    write_rows(table, [*rows, copy])
    checked = building.check(reading.read(table))
    assert checked.shared == [("P00", "P99")] and checked.splits["P00"] == checked.splits["P99"]
    split = {f"P{n:02d}": ("train", "validation", "test")[n % 3] for n in range(12)} | {"P99": "test"}
    write_rows(table, [row | {"split": split[row["patient"]]} for row in [*rows, copy]])
    with pytest.raises(
        InputError, match=r"The split leaks: the same picture, slightly changed,.*P00 \(train\).*P99 \(test\)"
    ):
        building.check(reading.read(table))


def test_the_built_data_set_is_checked_again(tmp_path):
    folder = finetune_phantoms.build(tmp_path)
    data = Dataset.load(folder)
    data.check()
    line = (folder / "train.jsonl").read_text().splitlines()[0]
    with (folder / "test.jsonl").open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(InputError, match="The split leaks: patient"):
        Dataset.load(folder).check()
    folder = finetune_phantoms.build(tmp_path / "again")
    sample = Dataset.load(folder).samples["train"][0]
    picture(folder / "pictures" / f"{sample.picture}.png", 77)
    with pytest.raises(InputError, match="1 pictures changed"):
        Dataset.load(folder).check()


def test_a_copied_picture_of_another_patient_is_a_leak_in_a_built_set(tmp_path):
    folder = finetune_phantoms.build(tmp_path)
    line = json.loads((folder / "train.jsonl").read_text().splitlines()[0])
    with (folder / "test.jsonl").open("a") as stream:
        stream.write(json.dumps(line | {"patient": "somebody else"}) + "\n")
    with pytest.raises(InputError, match="the same picture"):
        Dataset.load(folder).check()


def test_no_patient_is_named_by_a_file(tmp_path):
    folder = finetune_phantoms.build(tmp_path)
    assert not [p for p in folder.rglob("*") if "P0" in p.name]
    card = (folder / "dataset.json").read_text()
    assert '"P00"' not in card


def test_a_folder_with_something_in_it_is_not_written_over(table, tmp_path):
    checked = building.check(reading.read(table))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.txt").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        building.build(checked, tmp_path / "there")
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["a.txt"]


def test_too_few_patients_say_so(table):
    write_rows(table, [row for row in rows_of(table) if row["patient"] in ("P00", "P01")])
    with pytest.raises(InputError, match="pictures of 2 patients"):
        building.check(reading.read(table))


def test_groups_join_over_several_pictures():
    seen = [
        splitting.SplitItem("a", "1"),
        splitting.SplitItem("b", "1"),
        splitting.SplitItem("b", "2"),
        splitting.SplitItem("c", "2"),
        splitting.SplitItem("d", "3"),
    ]
    assert splitting.groups(seen) == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_hashes_see_the_picture_rather_than_the_file(tmp_path):
    picture(tmp_path / "a.png", 3, (64, 64))
    with Picture.open(tmp_path / "a.png") as one:
        one.save(tmp_path / "a.bmp")
        one.convert("RGBA").save(tmp_path / "alpha.png")
    picture(tmp_path / "b.png", 4, (64, 64))
    shown = {name: read_picture(tmp_path / name) for name in ("a.png", "a.bmp", "alpha.png", "b.png")}
    assert digest(shown["a.png"]) == digest(shown["a.bmp"]) == digest(shown["alpha.png"]) != digest(shown["b.png"])
    assert likeness(shown["a.png"]) != likeness(shown["b.png"])


def test_medpix_as_published_equals_an_independent_count(open_data, tmp_path):
    """Counted a second time from the raw text, with other means than the reader's."""
    folder = open_data("medpix2")
    card = building.build(building.check(reading.read(folder)), tmp_path / "built")
    text = (folder / "Descriptions.json").read_text()
    assert card["descriptions"] == text.count('"image":') == 1809
    assert card["found"]["cases"] == (folder / "Case_topic.json").read_text().count('"U_id":') == 593
    files = {p.stem for p in (folder / "images").iterdir()}
    named = set(text.split('"')) & files
    assert card["images"] == len(files) == len(named) == 76
    assert card["patients"] == len({name.split("_")[0] for name in named}) == 64
    assert card["problems"] == {"missing picture": 1809 - 76} and card["patients_in_two_splits"] == 0
    described = [e for e in json.loads(text) if e["image"] in files]
    cases = {c["U_id"]: c for c in json.loads((folder / "Case_topic.json").read_text())}
    wanted = 4 * len(described)  # modality, body part, organ system, technique
    wanted += sum(e["Description"]["Plane"] in ("Axial", "Transverse", "Coronal", "Sagittal") for e in described)
    wanted += sum(e["Description"]["Caption"] != "N/A" for e in described)
    for key, part in (("Findings", "Case"), ("Case Diagnosis", "Case"), ("Title", "Topic")):
        wanted += sum(cases[e["U_id"]][part].get(key, "N/A") not in ("N/A", "", None) for e in described)
    assert card["pairs"] == wanted == sum(split["pairs"] for split in card["splits"].values())
    shutil.rmtree(tmp_path / "built")
