"""Run requests in another process or on another machine: serialization, subprocesses, the worker, server and client."""
