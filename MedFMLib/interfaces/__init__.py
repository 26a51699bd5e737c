"""Define what other packages implement: model abilities, tasks, the registry, jobs and runners. Imports no torch."""
