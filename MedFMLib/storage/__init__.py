"""Manage files of the user and of the installation: paths, resources, settings, installed models, licence acceptances."""
