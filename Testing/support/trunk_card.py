"""The embedded model's card with organs of the trunk, for scripted models that draw them."""

from __future__ import annotations

from dataclasses import replace

from MedFMLib.interfaces import registry

ORGANS = ("left lung", "right lung", "liver", "spleen", "left kidney", "right kidney", "stomach", "aorta", "spine")


def with_trunk(monkeypatch) -> None:
    """Let every card of the embedded model list `ORGANS` in CT, too.

    Args:
        monkeypatch: pytest's, which undoes it.
    """
    plain = registry.card

    def card(model: str):
        found = plain(model)
        return replace(found, labels=found.labels | {"CT": ORGANS}) if found.id == registry.DEFAULT_MODEL else found

    monkeypatch.setattr(registry, "card", card)
