"""What the panel does apart from its widgets: parameters, the running job, the conversation, missing packages."""
