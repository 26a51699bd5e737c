"""Train and measure the intent models of the guard: `python -m MedFMLib.training.guard`.

```
lines       read the persona files and expand their alternatives
public      read the public sources, and give their questions the labels that they allow
augmenting  make more texts of them
pretrained  read the transformer that the encoder starts from
encoding    train its upper layers and the heads
linear      train the linear model on n-grams
fitting     train all of it
measuring   hold out one author or source at a time, and print the tables
```
"""
