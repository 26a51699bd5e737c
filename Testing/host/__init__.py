"""A test-only stand-in for the 3D Slicer application, on PySide6 and slicer-core.

    host = install()
    host.load_module("MedFM/MedFM.py")
    host.select_module("MedFM")

It runs a scripted module's unmodified Python and .ui files next to four real MRML views, with PythonQt's
manners, and turns into errors what the application only prints. See README.md for what it can't show.
"""

from __future__ import annotations

import os

from . import system

_host = None


def install(testing: bool = True, window: bool = False):
    """The one `Host` of this process, made at the first call.

    Args:
        testing: strict, and no dialog may open; False when a person uses the window.
        window: show it on the display instead of rendering off-screen.

    Raises:
        MissingSystemLibrary: naming the packages to install.
    """
    global _host
    if _host is None:
        system.check(window)
        if not window:
            os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        from .session import Host

        _host = Host(testing)
    return _host
