"""Fixtures: a user's own folders and a hub on this machine."""

from support.store_fixtures import card, hub, models_folder, published, zoo  # noqa: F401
