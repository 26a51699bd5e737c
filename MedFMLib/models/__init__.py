"""Implement model families, one file each; code that needs torch to be defined is in subpackages.

A family's module has `MODEL_TYPES` (Hugging Face model types that it loads), `load(card, …)`, `stats(card, …)` and
`card_for_folder(folder, config)`, and imports no torch until one of them is called.
"""
