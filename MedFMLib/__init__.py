"""MedFM: ask a small private medical vision-language model about the open volume.

    import MedFMLib as medfm
    result = medfm.segment("ct.nii.gz", ["liver", "spleen"])
    print(medfm.ask("ct.nii.gz", "Which organs are visible?").answers[0].text)

Not a medical device; for research and education. Importing this package loads neither torch nor Slicer modules; the
functions of `MedFMLib.api` are imported when first used.
"""

from __future__ import annotations

__version__ = "0.1.0"

NOTICE = "Research and education only. MedFM is not a medical device and must not be used for clinical decisions."

_API = (
    "add_healthy",
    "ask",
    "batch_scene",
    "compare",
    "explain",
    "export_model",
    "clear_cache",
    "get_model",
    "import_model",
    "cache_bytes",
    "remove_model",
    "report",
    "run_task",
    "segment",
)
__all__ = [
    "NOTICE",
    "__version__",
    "add_healthy",
    "ask",
    "batch_scene",
    "cache_bytes",
    "clear_cache",
    "compare",
    "explain",
    "export_model",
    "get_model",
    "import_model",
    "remove_model",
    "report",
    "run_task", "segment",
]  # fmt: skip


def __getattr__(name: str):
    if name in _API:
        import importlib

        return getattr(importlib.import_module(".api", __name__), name)
    raise AttributeError(f"module 'MedFMLib' has no attribute '{name}'")
