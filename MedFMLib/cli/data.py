"""Provide `medfm data check|build`: a site's cases as a data set for fine-tuning. Parses options and prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from .model_store import out, say
from .options import Json
from .running import Frame, progress
from .tables import print_table

app = typer.Typer(no_args_is_help=True, help="A site's own cases as a data set: counted, split by patient, checked.")

Source = Annotated[Path, typer.Argument(metavar="PATH", help="MedPix 2.0 folder, VQA-RAD or SLAKE JSON, CSV or JSONL, "
                                        "folder of volumes with labelmaps, collected cases, or a built data set.")]  # fmt: skip
Images = Annotated[Path | None, typer.Option(help="Folder of the pictures, if they are not next to the file.")]
Labels = Annotated[list[str] | None, typer.Option("--label", "-l", help="VALUE=NAME of a labelmap; repeat.")]
Slices = Annotated[int, typer.Option(help="Of each volume and plane.", min=1)]
Seed = Annotated[int, typer.Option(help="Of the split.")]
Shares = Annotated[str, typer.Option(help="Of patients in train, validation and test.")]
OwnSplit = Annotated[
    bool, typer.Option("--own-split", help="Let MedFM split the data, although the source has a split.")
]
Kinds = Annotated[list[str] | None, typer.Option("--category", help="Only this kind of question; repeat.")]
Modality = Annotated[str, typer.Option(help="CT, MR, …: of all volumes, where the files don't state it.")]
Resample = Annotated[
    bool, typer.Option(help="Take labels on another grid than their volume, with a loss that is said.")
]
Organ = Annotated[str, typer.Option(help="Of all pictures, where the files don't state it.")]


def _checked(path, images, labels, slices, seed, shares, own_split, categories, modality, organ, resample, frame, quiet,
             describe=""):  # fmt: skip
    from ..training.data import building, described, reading

    try:
        names = {int(value): name.strip() for value, _, name in (text.partition("=") for text in labels or ())}
        parts = tuple(float(part) for part in shares.split(","))
    except ValueError:
        raise InputError(f"Labels are VALUE=NAME and shares three numbers, not {labels} and '{shares}'.") from None
    with progress(quiet) as bar:
        bar.stage("Reading")
        kinds = tuple(categories or ())
        choices = reading.ReaderChoices(images, names, slices, modality, organ, kinds, resample, bar.note,
                                        None if frame < 0 else frame)  # fmt: skip
        found = reading.read(path, choices)
        if describe:
            described.add(found, describe, bar)
        return building.check(found, seed, parts, own_split, bar)


@app.command()
def check(
    path: Source, images: Images = None, labels: Labels = None, slices: Slices = 6, seed: Seed = 0,
    shares: Shares = "0.7,0.15,0.15", own_split: OwnSplit = False, categories: Kinds = None, modality: Modality = "",
    organ: Organ = "", resample: Resample = False, frame: Frame = -1, as_json: Json = False,
) -> None:  # fmt: skip
    """Count the data, list unusable items, and check that no patient would be in two splits."""
    from ..training.data.dataset import CARD, Dataset
    from ..training.data.volumes import is_labelled

    if (Path(path) / CARD).is_file() and not is_labelled(Path(path)):  # nnU-Net's description has the same name
        built = Dataset.load(path)
        built.check()
        _print({**built.card, "checked": True}, as_json)
        return
    checked = _checked(path, images, labels, slices, seed, shares, own_split, categories, modality, organ, resample,
                       frame, as_json)  # fmt: skip
    _print(checked.report(), as_json)


@app.command()
def build(
    path: Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder for the data set.")],
    images: Images = None, labels: Labels = None, slices: Slices = 6, seed: Seed = 0, shares: Shares = "0.7,0.15,0.15",
    own_split: OwnSplit = False, categories: Kinds = None, modality: Modality = "", organ: Organ = "",
    resample: Resample = False, frame: Frame = -1,
    skip: Annotated[list[str] | None, typer.Option(help='Skip items with a problem, such as "missing picture"; or all.')] = None,
    licence: Annotated[str, typer.Option(help="Of pictures and texts; goes into the cards.")] = "",
    describe_with: Annotated[str, typer.Option(help="A model that describes pictures without a description; marked.")] = "",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a data set: one pair per line, pictures named by their hashes, patients split, and a card with all counts."""
    from ..training.data import building

    checked = _checked(path, images, labels, slices, seed, shares, own_split, categories, modality, organ, resample,
                       frame, as_json, describe_with)  # fmt: skip
    building.refuse_problems(checked, skip or ())
    with progress(as_json) as bar:
        card = building.build(checked, output, licence, bar)
    _print(card | {"folder": str(output)}, as_json)


def _print(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return
    numbers = ("pairs", "images", "patients")
    rows = [
        (name, *(str(counts[key]) for key in numbers)) for name, counts in {**report["splits"], "all": report}.items()
    ]
    print_table(out, ("split", *numbers), rows, right=numbers)
    say(
        f"{report['source']}: {report['descriptions']} entries; {report['patients_in_two_splits']} patients in two splits."
    )
    if report["patients_sharing_pictures"]:
        say(f"Patients that share a picture, kept in one split: {report['patients_sharing_pictures'][:3]}")
    for name, count in report["problems"].items():
        say(f"Skipped: {count} × {name}")
    for key in ("categories", "modalities", "planes"):
        say(f"{key}: " + ", ".join(f"{name} {count}" for name, count in report[key].items()))
    if "folder" in report:
        say(f"Wrote {report['folder']}; `medfm finetune {report['folder']} --output RUN` trains with it.")
