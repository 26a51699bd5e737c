"""Manage models and adapters on disk: download, import, export, removal, disk use. Loads no model.

Each function is called only after the user's consent. A download runs in a subprocess (`download_main`), because
huggingface_hub reads its settings when it is imported, and because a subprocess can be stopped at once. Everything is
written to a temporary folder next to its destination and moved there when it is complete.
"""

from .bundle import export_model, import_model
from .disk import disk_use, remove
from .download import DownloadOffer, get, get_adapter, look

__all__ = ["DownloadOffer", "disk_use", "export_model", "get", "get_adapter", "import_model", "look", "remove"]
