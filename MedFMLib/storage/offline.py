"""Nothing is fetched while a model is loaded: the switch for it, told from the one that a person sets. Knows two variables.

huggingface_hub reads HF_HUB_OFFLINE once, when it is imported, so what loads models sets it first. A person's own
HF_HUB_OFFLINE forbids downloads, too; ours must not, so it is marked.
"""

from __future__ import annotations

import os

SWITCH, MARK = "HF_HUB_OFFLINE", "MEDFM_LOADS_OFFLINE"


def while_loading() -> None:
    """From now on nothing in this process asks the hub."""
    if not os.environ.get(SWITCH):
        os.environ[SWITCH] = os.environ[MARK] = "1"


def environment() -> dict[str, str]:
    """Variables for a process that downloads: as the person set them."""
    found = dict(os.environ)
    if found.pop(MARK, ""):
        found.pop(SWITCH, None)
    return found
