"""Loading of models: devices, checkpoints, precision, memory plans, quantized copies, adapters."""
