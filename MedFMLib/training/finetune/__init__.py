"""A site's own adapter: planned, trained, watched, judged, with what it cost. Knows data sets and models that write.

settings   what a person chooses; base, inputs    the model as it learns, and what it reads
estimate   memory and time before the start       monitor    the clip monitor
checkpoints, control    killed, paused, stopped, resumed      trainer, run    training itself
scores, evaluate, safety, reliance    before and after on held-out patients      card, page    the adapter card
"""
