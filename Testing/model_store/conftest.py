"""A person's own folders and a hub on this machine."""

from support.store_fixtures import card, hub, published, shelf_folder, zoo  # noqa: F401
