"""Are the system libraries there that Qt and VTK load? Knows their Debian names; imports neither.

Their own messages name a file such as `libEGL.so.1` and nothing to do about it.
"""

from __future__ import annotations

import ctypes
import sys

DEBIAN_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libOpenGL.so.0": "libopengl0",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
}
"""Shared library → Debian 12 package, for off-screen use."""

WINDOW_PACKAGES = {
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xinerama.so.0": "libxcb-xinerama0",
}
"""The further ones for a window on an X display."""

ALSO_WANTED = ("libgl1-mesa-dri", "fonts-dejavu-core")
"""A software renderer and a font: loaded by name at run time, so they can't be probed here."""


class MissingSystemLibrary(ImportError):
    """A shared library of the system is not installed."""


def missing(window: bool = False, load=ctypes.CDLL) -> dict[str, str]:
    """Library → Debian package of those that can't be loaded; always empty outside of Linux."""
    if not sys.platform.startswith("linux"):
        return {}
    result = {}
    for library, package in (DEBIAN_PACKAGES | (WINDOW_PACKAGES if window else {})).items():
        try:
            load(library)
        except OSError:
            result[library] = package
    return result


def check(window: bool = False, load=ctypes.CDLL) -> None:
    """Refuse to start, in one message, when something is missing.

    Raises:
        MissingSystemLibrary: naming every library and the one command that installs them.
    """
    absent = missing(window, load)
    if absent:
        packages = " ".join([*dict.fromkeys(absent.values()), *ALSO_WANTED])
        raise MissingSystemLibrary(
            f"The panel needs {', '.join(absent)}, which this system lacks. On Debian or Ubuntu: "
            f"sudo apt-get install {packages}"
        )
