"""Use models on servers with OpenAI's chat protocol: vLLM, llama.cpp, Ollama, LM Studio, a hospital's endpoint.

```
settings   an endpoint in a model card: address, model, pictures
book       add, list and remove endpoints; each is a model card in the user's model folder
keys       API keys from the environment or the system's keyring, never from a file of MedFM
egress     the user's consent to what is sent
client     one question over HTTP: streamed, cancellable, with retries
failures   error messages
hot_load   load LoRA adapters into a running vLLM
probe      test what an endpoint supports
```

Nothing here needs torch. `models/openai_api.py` makes a model of it.
"""
