"""Slices and views of volumes, outlined regions, detection of burned-in text. numpy only; no model, no file format."""
