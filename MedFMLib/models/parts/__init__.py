"""What architectures share: loading, quantization, sizes, location tokens, the mask codec. May need torch."""
