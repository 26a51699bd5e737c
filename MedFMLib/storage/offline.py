"""Keep model loading offline, and distinguish this from the user's own offline setting.

Depends on two environment variables.

huggingface_hub reads HF_HUB_OFFLINE once, when it is imported, so it must be set before models are loaded. The user's
own
HF_HUB_OFFLINE also forbids downloads; the one set here must not, so it is marked by a second variable.
"""

from __future__ import annotations

import os

SWITCH, MARK = "HF_HUB_OFFLINE", "MEDFM_LOADS_OFFLINE"


def while_loading() -> None:
    """Forbid requests to the hub in this process from now on."""
    if not os.environ.get(SWITCH):
        os.environ[SWITCH] = os.environ[MARK] = "1"


def environment() -> dict[str, str]:
    """Return the environment variables for a download process, as the user set them."""
    found = dict(os.environ)
    if found.pop(MARK, ""):
        found.pop(SWITCH, None)
    return found
