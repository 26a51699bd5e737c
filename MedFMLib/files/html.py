"""Fill templates of self-contained HTML pages: their script is allowed by its hash, nothing is fetched. Knows no report."""

from __future__ import annotations

import base64
import hashlib
import json

from ..errors import ModelError
from ..storage import resources


def template(name: str):
    """Load the template of an HTML page from the resources.

    Raises:
        ModelError: if jinja2 is missing.
    """
    try:
        from jinja2 import Environment
    except ImportError:
        raise ModelError(
            "The report page needs the package jinja2; install it with `pip install medfm[report]`."
        ) from None
    source = resources.path("reports", name).read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)


def script_hash(script: str) -> str:
    """Return the hash of a script in the form of a Content-Security-Policy source."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def as_json(value) -> str:
    """Return JSON that is safe inside a page's script element, whatever names it contains."""
    return json.dumps(value).replace("<", "\\u003c")


def data(content: bytes) -> str:
    """Return bytes in base64, for a data: URL."""
    return base64.b64encode(content).decode()


def hex_color(color) -> str:
    """Return a color (red, green, blue in 0…1) as #rrggbb."""
    return "#" + "".join(f"{round(255 * c):02x}" for c in color)
