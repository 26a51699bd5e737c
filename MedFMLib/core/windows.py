"""Define CT windows in Hounsfield units, the single table for models, pictures and reports.

A window has a level (centre) and a width, as at a workstation; `hu_range` returns its limits. Models receive
the windows of their published recipe, readers the usual presets, so that two rows may show the same organ.
"""

from __future__ import annotations

CT_WINDOWS = {
    "soft tissue": (40.0, 400.0),
    "lung": (-500.0, 1500.0),
    "bone": (400.0, 1800.0),
    "MedGemma everything": (0.0, 2048.0),
    "MedGemma soft tissue": (40.0, 350.0),
    "MedGemma brain": (40.0, 80.0),
    "MedSAM lung": (-160.0, 1500.0),
}
"""Name to (level, width) in HU. Soft tissue and lung are common reading presets; soft tissue and bone are also those of
MedSAM (arXiv:2304.12306, methods), whose lung window lies higher. MedGemma's are those of its CT notebook
(Google-Health/medgemma, high_dimensional_ct_hugging_face.ipynb)."""


def hu_range(name: str) -> tuple[float, float]:
    """Return the lowest and highest HU value that a window of the table shows.

    Raises:
        KeyError: if the table has no window of that name.
    """
    level, width = CT_WINDOWS[name]
    return level - width / 2, level + width / 2
