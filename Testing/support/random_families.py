"""Tiny random checkpoints of the families that hold conversations, by the names of their files."""

from MedFMLib.models.gemma3 import random_checkpoint as gemma3
from MedFMLib.models.llava import random_checkpoint as llava
from MedFMLib.models.qwen_vl import random_checkpoint as qwen_vl
from MedFMLib.models.runtime.random_checkpoint import byte_tokenizer as tokenizer

__all__ = ["gemma3", "llava", "qwen_vl", "tokenizer"]
