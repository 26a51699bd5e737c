"""Compute masks for model families: mask codec and head, whole-volume masks, location tokens, SAM 2 frames."""
