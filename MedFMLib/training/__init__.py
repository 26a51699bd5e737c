"""Training and measuring the embedded model; nothing here is needed to use it.

`labels` and `sources` know the data, `synthesis` makes pictures, `questions` makes text, `samples` joins them into an
endless seeded stream; `train_codec`, `train_tiny` and `bench_tiny` are the commands.
"""
