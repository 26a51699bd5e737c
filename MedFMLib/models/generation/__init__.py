"""Text generation shared by model families: chat prompts, token sampling, prefix cache, likelihood, attention rollout."""
