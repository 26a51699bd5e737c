"""Combine the answers that a model gave about several slices to one: the common one, or the majority's with the exceptions."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.geometry import PICTURE
from ..core.view import View
from ..fact_check import REMOVED, is_reduced, supported_part
from ..reliability.meaning import same


def combine(answers: Sequence[tuple[View, str]]) -> str:
    """Return one reply from one answer per slice.

    Answers of the same meaning are given once. If they differ, the majority's is given, with the slices whose answer is
    another; without a majority, each with its slices, in one sentence. Of answers from which something was removed, only
    complete sentences count; if nothing is left of any, the reply is `REMOVED`.

    Args:
        answers: (view, checked answer) of each slice, at least one.
    """
    kept = [(view, supported_part(text) if is_reduced(text) else text.strip()) for view, text in answers]
    groups = _grouped([(view, text) for view, text in kept if text])
    if not groups:
        return REMOVED if any(is_reduced(text) for _, text in answers) else ""
    if len(groups) == 1:
        return groups[0][0]
    if answers[0][0].plane == PICTURE:  # pictures of one examination show different things
        return "; ".join(f"{text} ({_named(views)})" for text, views in sorted(groups, key=lambda g: g[1][0].number))
    (first, most), *others = groups
    said = [f"on {_named(views)} the model says “{_bare(text)}”" for text, views in others]
    if len(most) > len(others[0][1]):
        return f"{_bare(first)}; {_joined(said)} instead."
    said.insert(0, f"on {_named(most)} the model says “{_bare(first)}”")
    return f"The answers differ: {_joined(said)}."


def _grouped(answers: Sequence[tuple[View, str]]) -> list[tuple[str, list[View]]]:
    """Return (text, its views) of answers with the same meaning, the most frequent first."""
    groups: list[tuple[str, list[View]]] = []
    for view, text in answers:
        group = next((views for known, views in groups if known == text or same(known, text)), None)
        if group is None:
            groups.append((text, [view]))
        else:
            group.append(view)
    return sorted(groups, key=lambda group: -len(group[1]))


def _bare(text: str) -> str:
    return text.strip().rstrip(".").rstrip()


def _named(views: Sequence[View]) -> str:
    """Return "axial slice 6", "axial slices 12 and 17" or "pictures 1 and 2"."""
    plane, many = views[0].plane, "s" if len(views) > 1 else ""
    picture = plane == PICTURE
    numbers = [str(view.number + picture) for view in sorted(views, key=lambda view: view.number)]
    return f"picture{many} {_joined(numbers)}" if picture else f"{plane} slice{many} {_joined(numbers)}"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
