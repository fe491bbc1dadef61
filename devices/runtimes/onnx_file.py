"""What an ONNX file says of its own precision, read without an ONNX library: a device needs none."""

from __future__ import annotations

import re

# An entry of the metadata: field 1 is the key, field 2 the value, each with its length (protocol buffers' wire format).
_STATED = re.compile(rb"\x0a\x14leukoscope_precision\x12.(int8|float16|float32)", re.DOTALL)
_QUANTIZED = re.compile(rb"(?<!De)QuantizeLinear|DequantizeLinear")


def precision(content: bytes) -> str:
    """`int8`, `float16` or `float32`: what the metadata states, else `int8` where there are quantization nodes."""
    stated = _STATED.search(content)
    if stated is not None:
        return stated[1].decode()
    return "int8" if _QUANTIZED.search(content) else "float32"
