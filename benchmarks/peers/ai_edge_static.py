"""ai-edge-quantizer's static int8: weights and activations, by its own recipe.

python ai_edge_static.py FLOAT.tflite CALIBRATION.npy OUT.tflite

Calibration: normalized images, float32 [n, h, w, 3].
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
from ai_edge_quantizer import quantizer, recipe
from ai_edge_quantizer.utils import tfl_interpreter_utils


def main(source: str, calibration: str, out: str) -> None:
    interpreter = tfl_interpreter_utils.create_tfl_interpreter(source)
    ((signature, names),) = interpreter.get_signature_list().items()
    data = {signature: [{names["inputs"][0]: image[None]} for image in np.load(calibration)]}
    made = quantizer.Quantizer(source, recipe.static_wi8_ai8())
    Path(out).write_bytes(bytes(made.quantize(made.calibrate(data)).quantized_model))
    print(f"ai-edge-quantizer {importlib.metadata.version('ai-edge-quantizer')}")


if __name__ == "__main__":
    main(*sys.argv[1:])
