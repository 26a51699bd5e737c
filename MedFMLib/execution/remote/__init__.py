"""Run jobs on a MedFM server, started by this application or elsewhere. Needs nothing but `requests`."""

from .runner import RemoteRunner, ServerRunner

__all__ = ["RemoteRunner", "ServerRunner"]
