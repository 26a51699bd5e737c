"""Quantized layers, attention and LoRA adapters that run faster on a CPU; the kernels need the optional package llvmlite."""
