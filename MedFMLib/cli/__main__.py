"""`python -m MedFMLib.cli`: the `medfm` command."""

from .app import main

if __name__ == "__main__":
    main()
