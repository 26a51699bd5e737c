"""Return the folders of the user's settings, data and cache on each operating system. Creates nothing.

Settings are small and permanent; data are large and permanent; the cache can be recreated. XDG_CONFIG_HOME,
XDG_DATA_HOME and XDG_CACHE_HOME override the location on every system, for tests and for hospitals.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def settings() -> Path:
    """Return the folder of the user's settings for MedFM."""
    return _folder("XDG_CONFIG_HOME", ("APPDATA", "Roaming"), ("Library", "Application Support"), ".config")


def data() -> Path:
    """Return the folder of downloaded or imported models and adapters."""
    return _folder("XDG_DATA_HOME", ("LOCALAPPDATA", "Local"), ("Library", "Application Support"), ".local/share")


def cache() -> Path:
    """Return the folder of recreatable files: quantized copies of models, measured choices."""
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
