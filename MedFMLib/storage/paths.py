"""Where MedFM keeps what belongs to a person on this machine. Knows operating systems; creates nothing.

Settings are small and are kept; data are large and are kept; what lies in the cache can be made again. XDG_CONFIG_HOME,
XDG_DATA_HOME and XDG_CACHE_HOME override everywhere, so that tests and hospitals decide where that is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def settings() -> Path:
    """Folder of the person's settings for MedFM."""
    return _folder("XDG_CONFIG_HOME", ("APPDATA", "Roaming"), ("Library", "Application Support"), ".config")


def data() -> Path:
    """Folder of what a person got or imported: models and adapters."""
    return _folder("XDG_DATA_HOME", ("LOCALAPPDATA", "Local"), ("Library", "Application Support"), ".local/share")


def cache() -> Path:
    """Folder of what can be made again: quantized copies of models, measured choices."""
    return _folder("XDG_CACHE_HOME", ("LOCALAPPDATA", "Local"), ("Library", "Caches"), ".cache")


def _folder(variable: str, windows: tuple[str, str], mac: tuple[str, ...], other: str) -> Path:
    home = Path.home()
    if os.environ.get(variable):
        root = Path(os.environ[variable])
    elif sys.platform == "win32":
        root = Path(os.environ.get(windows[0]) or home / "AppData" / windows[1])
    elif sys.platform == "darwin":
        root = home.joinpath(*mac)
    else:
        root = home / other
    return root / "MedFM"
