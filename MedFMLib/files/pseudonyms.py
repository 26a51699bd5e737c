"""Name results by case numbers instead of file names, which often hold a patient's name; a key file says which is which.

The key file lies beside the folder of the results, not in it, so that results can be handed on without it.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import InputError, OutputError
from ..storage.locks import exclusive
from .names import output_name

COLUMNS = ("case", "source", "content")
NUMBER = re.compile(r"case-(\d{4,9})")
SUFFIX = ".key.csv"
BUSY = "Another process (number {{}}) is writing the key file '{path}'; wait for it, or choose another with --key-file."


def default_key_file(output: Path) -> Path:
    """Return the key file of a folder of results: beside it, with its name."""
    return output.parent / f"{output.name}{SUFFIX}"


class KeyFile:
    """A CSV with case numbers and what they stand for, readable by its owner only.

    Args:
        path: the file; made when the first number is given.
    """

    def __init__(self, path: Path):
        self.path = path

    def numbers(self, sources: Iterable[tuple[str, str]]) -> list[str]:
        """Return the number of each source, "case-0001" and so on; a source keeps its number.

        Args:
            sources: (path, what distinguishes several cases of one path, "" if there is one), of each.

        Raises:
            InputError: if the file is no key file, or another process is writing it.
            OutputError: if it can't be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_name(f".{self.path.name}.lock")
        with exclusive(lock, InputError(BUSY.format(path=self.path))):
            known = self.read()
            ids = {value: case for case, value in known.items()}
            last = max((int(NUMBER.fullmatch(case)[1]) for case in known), default=0)
            found, new = [], False
            for source in sources:
                if source not in ids:
                    last, new = last + 1, True
                    ids[source] = f"case-{last:04d}"
                found.append(ids[source])
            if new:
                self._write({case: source for source, case in ids.items()})
        return found

    def read(self) -> dict[str, tuple[str, str]]:
        """Return case number → (path, what distinguishes it); {} if there is no file.

        Raises:
            InputError: if it is no key file.
        """
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"The key file '{self.path}' can't be read ({error}); choose another with --key-file."
            ) from error
        csv.field_size_limit(1 << 27)
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(
                f"'{self.path}' is no key file (columns {', '.join(COLUMNS)}); choose another with --key-file."
            )
        found = {}
        for row in reader:
            if not NUMBER.fullmatch(row["case"] or "") or row["case"] in found:
                raise InputError(
                    f"Line {reader.line_num} of the key file '{self.path}' has the case '{row['case']}', which is no new number; "
                    "restore the file, or choose another with --key-file."
                )
            found[row["case"]] = (row["source"] or "", row["content"] or "")
        return found

    def _write(self, known: Mapping[str, tuple[str, str]]) -> None:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((case, *known[case]) for case in sorted(known))
        partial = self.path.with_name(f".{self.path.name}.partial")
        try:
            partial.unlink(missing_ok=True)
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(stream.getvalue())
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path)
        except OSError as error:
            raise OutputError(
                f"The key file '{self.path}' can't be written ({error.strerror}); give --key-file."
            ) from error


def without_names(text: str, case: str, paths: Iterable[Path]) -> str:
    """Return a sentence with a case number in place of paths and of the names of their files and folders.

    Args:
        text: e.g. an error or a note.
        case: the number.
        paths: of the case's files and folders.
    """
    paths = list(paths)
    whole = {str(part) for path in paths for part in (path, *path.parents) if len(part.parts) > 2}
    names = {name for path in paths for name in _names(path) if name}
    for name in sorted(whole | {name for name in names if "." in name.strip(".")}, key=len, reverse=True):
        text = text.replace(name, case)
    for name in names:  # a folder can be called as a common word is, so that it is replaced in quotes only
        for opening, closing in ("''", '""', "“”"):
            text = text.replace(f"{opening}{name}{closing}", f"{opening}{case}{closing}")
    return text


def _names(path: Path) -> Iterable[str]:
    """Return the names in a path that may be a patient's: of the file or folder, and of the folders around it."""
    yield path.name
    yield output_name(path)
    yield from (parent.name for parent in path.parents)
