"""Provide the `medfm` command, with one module per group of commands; `running` has what they share."""
