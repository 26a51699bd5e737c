"""Fine-tune a site's own adapter: plan, train, monitor and evaluate it. Knows data sets and models that write.

settings      the user's choices
base, inputs  the model in training, and its inputs
estimate      memory and time before the start
monitor       the clip monitor
checkpoints, control                  killing, pausing, stopping and resuming
trainer, run                          training itself
scores, evaluate, safety, reliance    comparison with the base on held-out patients
judging, page                         the adapter card
"""
