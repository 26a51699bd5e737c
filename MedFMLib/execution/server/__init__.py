"""Serve MedFM over HTTP: for Slicer on the same machine, for a site, and for any OpenAI client.

Needs the extra `server`.

    __main__      options, token, start and drain          `python -m MedFMLib.execution.server`, `medfm serve`
    settings      limits; listening addresses
    keys          tokens, compared in constant time
    hardening     checks of every request: size, time, origin, token; error responses
    connections   slow and idle sockets
    app           MedFM's own API: volumes, jobs, state
    openai_api    /v1/models and /v1/chat/completions
    jobs          the fair queue, and the records of jobs
    volumes       uploaded voxels, by their hash
    pictures      pictures of a chat → an image
    metrics       Prometheus

The server itself computes nothing: jobs run in a worker process, so that a crash there loses only one job and its
memory is freed.
"""
