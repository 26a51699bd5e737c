"""Train and measure the intent models of the guard: `python -m MedFMLib.training.guard`.

```
lines     read the persona files and expand their alternatives
public    read the public sources, and give their questions the labels that they allow
fitting   train the linear model and the convolution
measuring hold out one author or source at a time, and print the tables
```
"""
