"""Implement the panel apart from its widgets: parameters, the running job, the conversation, missing packages."""
