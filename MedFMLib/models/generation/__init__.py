"""Provide text generation for model families: prompts, token sampling, prefix cache, likelihood, attention rollout."""
