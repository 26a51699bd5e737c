"""Immutable values that every other package uses: geometry, images, views, prompts, findings, requests. numpy only."""
