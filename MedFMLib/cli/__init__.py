"""The `medfm` command, a module for each group of commands; `running` is what they share."""
