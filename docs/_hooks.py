"""MkDocs hook: make links from a page to a file outside of docs/ work on the site, too.

On disk and on GitHub such a link is relative, e.g. `../Resources/deployment/vllm.yaml`. On the site it leads to the file
in the repository. A file that does not exist stops the build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path

log = logging.getLogger("mkdocs.hooks.medfm")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\.?/[^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page, config, **_) -> str:
    """Return the page's Markdown with links that leave docs/ turned into addresses in the repository."""
    root, folder = Path(config["docs_dir"]).parent, posixpath.dirname(page.file.src_uri)

    def replaced(match: re.Match) -> str:
        text, target, anchor = match.groups()
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path == "docs" or path.startswith("docs/"):
            return match.group()
        if path.startswith("..") or not (root / path).exists():
            log.warning("%s links to '%s', which does not exist.", page.file.src_uri, target)
        return f"[{text}]({config['repo_url'].rstrip('/')}/blob/main/{path}{anchor or ''})"

    return LINK.sub(replaced, markdown)
