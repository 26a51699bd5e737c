"""Implement the tasks, one file each, with a module-level `TASK`. They know abilities, never an architecture."""
