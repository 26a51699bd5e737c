"""MedFM as a server: for Slicer on the same machine, for a site, and for any OpenAI client. Needs the extra `server`.

    __main__      options, token, start and drain          `python -m MedFMLib.execution.server`, `medfm serve`
    settings      limits; who may bind where
    keys          tokens, compared in constant time
    shield        what every request passes: size, time, origin, token; sentences for errors
    connections   slow and idle sockets
    app           our own wire: volumes, jobs, state
    openai_face   /v1/models and /v1/chat/completions
    jobs          the fair queue, and the jobs' records
    volumes       uploaded voxels, by their hash
    pictures      pictures of a chat → an image
    metrics       Prometheus

The server computes nothing: jobs run in a worker process, so that a crash there loses one job and its memory comes back.
"""
