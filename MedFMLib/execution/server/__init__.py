"""Serve MedFM over HTTP: for Slicer on the same machine, for a site, and for any OpenAI client.

Needs the extra `server`.

    __main__      options, token, start and drain          `python -m MedFMLib.execution.server`, `medfm serve`
    settings      limits; listening addresses
    keys          tokens, compared in constant time
    connections   counting of connections; which one is closed when there are too many
    accepting     accept loop, TLS handshakes, slow and idle sockets
    hardening     checks of every request: size, time, origin, token; error responses
    accounts      memory that each key holds
    app           MedFM's own API: volumes, jobs, state
    openai_api    /v1/models and /v1/chat/completions
    chats         the body of a chat completion
    queues        turns of keys, and of the programs of one key
    records       one job with its events
    jobs          all jobs, and the threads that run them
    volumes       uploaded voxels of each key, by their hash
    pictures      pictures of a chat → an image
    privacy       folders of this machine, left out of errors
    logs          one line of each kind
    metrics       Prometheus

The server itself computes nothing: jobs run in a worker process, so that a crash there loses only one job and its
memory is freed.
"""
