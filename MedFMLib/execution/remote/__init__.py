"""Jobs on a MedFM server: one that this application starts for itself, or one elsewhere. Needs nothing but `requests`."""

from .runner import RemoteRunner, ServerRunner

__all__ = ["RemoteRunner", "ServerRunner"]
