"""Compare a patient's measurements with those of healthy references and their spread. Depends on numbers only.

One reference has no spread, and two have hardly any: z and percentiles require at least three, and the number of
references is
always stated. Synthetic cases have no meaningful sizes, and the sizes of an average belong to no one (the MNI152
templates are
larger than most brains): neither is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.findings import Difference, Measurement
from ..core.measurements import names_of
from ..core.request import Reference

COMPARED = ("volume", "longest diameter", "mean intensity")
LEAST = 3
"""Smallest number of references for which a spread is given."""


def differences(
    measurements: Sequence[Measurement], references: Sequence[Reference], modality: str
) -> list[Difference]:
    """Return one difference for each structure and size that a reference also has, in the order of the measurements.

    Intensities are compared in CT only, where they have a unit. Structures that an image cuts off are excluded,
    and those whose outline failed a rule of anatomy.

    Args:
        measurements: of the patient.
        references: the healthy cases.
        modality: of the image, e.g. "CT".
    """
    real = [reference.measurements for reference in references if not (reference.generated or reference.average)]
    names = names_of(m.key for m in measurements)
    theirs = [{(m.segment, m.name): m for m in _sizes(some, modality)} for some in real]
    found = []
    for measured in _sizes(measurements, modality):
        name, same = measured.name, (measured.segment, measured.name)
        values = np.array([some[same].value for some in theirs if same in some], float)
        if not len(values):
            continue
        value, n = float(measured.value), len(values)
        sd = float(values.std(ddof=1)) if n > 1 else None
        mean = float(values.mean())
        z = (value - mean) / sd if n >= LEAST and sd else None
        segment = names[measured.key]
        found.append(Difference(segment, name, measured.unit, value, n, mean, sd, int((values < value).sum()), z))
    return found


def sentence(difference: Difference) -> str:
    """Return a difference as a sentence, without a spread if the references are too few."""
    d, unit = difference, {"[hnsf'U]": "HU"}.get(difference.unit, difference.unit)
    share = f" ({100 * (d.value - d.mean) / d.mean:+.0f} %)" if d.mean > 0 and d.name != "mean intensity" else ""
    first = f"{d.segment} {d.name}: {_plain(d.value)} {unit}; "
    if d.n == 1:
        return f"{first}the one reference has {_plain(d.mean)} {unit}{share}."
    if d.z is None:
        return f"{first}{d.n} references have {_plain(d.mean)} {unit} on average{share}, too few for a spread."
    return (
        f"{first}{d.n} references have {_plain(d.mean)} ± {_plain(d.sd)} {unit}{share}; {d.below} of {d.n} are smaller, "
        f"z = {d.z:+.1f}."
    )


def _sizes(measurements: Sequence[Measurement], modality: str) -> list[Measurement]:
    cut = {m.key for m in measurements if m.name == "cut off"}
    names = COMPARED if modality == "CT" else COMPARED[:-1]
    return [m for m in measurements if m.name in names and m.key not in cut and m.is_reliable]


def _plain(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
