"""Getting, keeping and leaving models and adapters: download, import, export, remove, disk use. Loads no model.

Nothing enters or leaves the machine by itself: each function here is called after a person said yes. A download runs in a
process of its own (`fetch`), because huggingface_hub takes its settings when it is imported, and because it can then be
ended at once. Everything is staged beside its place and moved there whole.
"""

from .bundle import export_model, import_model
from .disk import disk_use, remove
from .download import DownloadOffer, get, get_adapter, look

__all__ = ["DownloadOffer", "disk_use", "export_model", "get", "get_adapter", "import_model", "look", "remove"]
