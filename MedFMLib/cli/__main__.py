"""Run the `medfm` command with `python -m MedFMLib.cli`."""

from .app import main

if __name__ == "__main__":
    main()
