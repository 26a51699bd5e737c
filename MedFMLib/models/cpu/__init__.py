"""Run quantized layers, attention and LoRA adapters faster on a CPU; the kernels need the optional package llvmlite."""
