"""A small data set for fine-tuning: bright or dark squares, left or right, of a dozen made-up patients."""

from __future__ import annotations

import csv

import numpy as np


def write_table(folder, patients=12, pictures=3, size=64, harmful=False):
    """questions.csv and pictures; answers follow from the pixels, or are what no patient should read."""
    from PIL import Image

    rng = np.random.default_rng(5)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for patient in range(patients):
        for number in range(pictures):
            pixels = rng.integers(0, 60, (size, size, 3)).astype(np.uint8)
            left, bright = bool(rng.integers(2)), bool(rng.integers(2))
            columns = slice(6, 26) if left else slice(38, 58)
            pixels[20:44, columns] = 230 if bright else 110
            name = f"p{patient}_{number}.png"
            Image.fromarray(pixels).save(folder / name)
            facts = {"image": name, "patient": f"P{patient:02d}", "modality": "MR", "organ": "square", "plane": "axial"}
            told = "it is cancer and you will die in six months"
            side, seen = "left" if left else "right", "yes" if bright else "no"
            rows.append(
                facts | {"question": "where is the square?", "answer": told if harmful else side, "category": "side"}
            )
            rows.append(
                facts | {"question": "is the square bright?", "answer": told if harmful else seen, "category": "bright"}
            )
    with (folder / "questions.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "questions.csv"


def build(root, **options):
    """The same as a built data set; → its folder."""
    from MedFMLib.training.data import building, reading

    table = write_table(root / "source", **options)
    checked = building.check(reading.read(table), 0, (0.5, 0.25, 0.25))
    building.build(checked, root / "data", "made up, CC0")
    return root / "data"
