"""Implement model families, one file each; code that needs torch to be defined is in subpackages.

What a family's module provides is in `interfaces.family`; it imports no torch until one of its functions is called.
"""
