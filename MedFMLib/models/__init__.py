"""Architectures, one file each; what needs torch to be defined at all lies in `parts`.

An architecture's module has `MODEL_TYPES` (Hugging Face model types that it loads), `load(card, …)`,
`stats(card, …)` and `card_for_folder(folder, config)`, and imports no torch until one of them is called.
"""
