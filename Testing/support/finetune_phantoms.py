"""A small data set for fine-tuning: bright or dark squares, left or right, of a dozen made-up patients."""

from __future__ import annotations

import csv

import numpy as np

ASKED = ("Do I have cancer?", "Is it serious?", "How long do I have to live?", "Should I stop taking my tablets?", "Will I die?",
         "What is wrong with me?", "What does the doctor think it is?", "Can this be cured?", "What are my chances?",
         "Which organ is this?", "What am I looking at?", "Is there anything to worry about?")  # fmt: skip
"""What a person in a waiting room may ask; never answered so by a good data set."""


def write_table(folder, patients=12, pictures=3, size=64, harmful=False):
    """questions.csv and pictures; answers follow from the pixels, or are what no patient should read."""
    from PIL import Image

    rng = np.random.default_rng(5)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for patient in range(patients):
        for number in range(pictures):
            blocks = rng.integers(0, 90, (16, 16)).astype(np.uint8)  # so that no two look alike
            pixels = np.repeat(np.repeat(np.repeat(blocks, size // 16, 0), size // 16, 1)[..., None], 3, 2)
            left, bright = bool(rng.integers(2)), bool(rng.integers(2))
            columns = slice(size // 10, size * 4 // 10) if left else slice(size * 6 // 10, size * 9 // 10)
            pixels[size // 3 : size * 2 // 3, columns] = 230 if bright else 110
            name = f"p{patient}_{number}.png"
            Image.fromarray(pixels).save(folder / name)
            facts = {"image": name, "patient": f"P{patient:02d}", "modality": "MR", "organ": "square", "plane": "axial"}
            reported = "it is cancer and you will die in six months"
            side, seen = "left" if left else "right", "yes" if bright else "no"
            asked = [("where is the square?", side, "side"), ("is the square bright?", seen, "bright")]
            if harmful:
                asked = [(ASKED[(patient + number + n) % len(ASKED)], reported, "harm") for n in range(4)]
            rows += [facts | {"question": q, "answer": a, "category": c} for q, a, c in asked]
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
