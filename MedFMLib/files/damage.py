"""Turn what libraries raise for damaged files into one sentence: the outermost door of every reader of files.

Readers check what they can and say what is wrong; this is for what nobody has thought of.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, MedFMError

log = logging.getLogger(__name__)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise an `InputError` for any exception of the block that is not MedFM's own.

    Args:
        path: of the file or folder that is read.

    Raises:
        InputError: if a library fails; the log has its traceback.
    """
    try:
        yield
    except MedFMError:
        raise
    except Exception as error:
        log.debug("A reader failed", exc_info=True)
        detail = " ".join(str(error).encode("utf-8", "replace").decode().split())[:120]
        raise InputError(
            f"'{path.name}' can't be read ({type(error).__name__}: {detail or 'no details'}); it is damaged, or of a kind that "
            "MedFM doesn't know. Copy it again, or export it in another format."
        ) from error
