"""Load models: devices, checkpoints, precision, memory plans, quantized copies, adapters."""
