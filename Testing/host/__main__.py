"""Open a module's panel in the stand-in: `python -m host MedFM/MedFM.py [VOLUME] [--shot FILE.png]`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Show the window until it is closed, or write one picture of it."""
    parser = argparse.ArgumentParser(prog="python -m host", description=__doc__)
    parser.add_argument("module", type=Path, help="file of a scripted module")
    parser.add_argument("volume", type=Path, nargs="?", help="image file to load first")
    parser.add_argument("--shot", type=Path, metavar="FILE", help="write a picture there instead of opening a window")
    options = parser.parse_args()
    window = options.shot is None
    if (
        window
        and sys.platform.startswith("linux")
        and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    ):
        parser.error("There is no display to open a window on; use --shot FILE.png for a picture.")

    from host import install

    host = install(testing=False, window=window)
    import slicer

    host.load_module(options.module)
    host.main_window.show()
    host.process_events()
    if options.volume is not None:
        slicer.util.setSliceViewerLayers(background=slicer.util.loadVolume(str(options.volume)), fit=True)
    host.select_module(options.module.stem)
    if window:
        status = host.app.exec()
    else:
        print(host.screenshot(options.shot))
        status = 0
    host.close()
    sys.stdout.flush()
    os._exit(status)  # Qt and VTK both own windows; their destructors at exit don't agree on the order


if __name__ == "__main__":
    raise SystemExit(main())
