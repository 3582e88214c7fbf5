"""NNCF's post-training quantization of an ONNX model.

python nncf_ptq.py FLOAT.onnx CALIBRATION.npy OUT.onnx [performance | mixed]

Calibration: normalized images, float32 [n, h, w, 3]. Without a preset NNCF uses its default.
"""

from __future__ import annotations

import sys

import nncf
import numpy as np
import onnx


def main(source: str, calibration: str, out: str, preset: str = "") -> None:
    model = onnx.load(source)
    name = model.graph.input[0].name
    images = np.load(calibration)
    dataset = nncf.Dataset([{name: image[None]} for image in images])
    chosen = nncf.QuantizationPreset(preset) if preset else None
    onnx.save(nncf.quantize(model, dataset, preset=chosen, subset_size=len(images)), out)
    print(f"nncf {nncf.__version__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
