"""Models that run elsewhere and speak OpenAI's chat protocol: vLLM, llama.cpp, Ollama, LM Studio, a hospital's endpoint.

    settings   what a card says of an endpoint: address, model, pictures
    book       adding, listing and removing them; each is a model card on the person's shelf
    keys       from the environment or the system's keyring, never from a file of ours
    egress     the person's yes to what leaves the machine
    client     one question over HTTP: streamed, cancelled, tried again
    failures   what went wrong, in one sentence
    hot_load   LoRA adapters onto a running vLLM
    probe      what an endpoint can do

Nothing here needs torch. `models/openai_api.py` makes a model of it.
"""
