"""ONNX Runtime's static quantization: QDQ, per channel, MinMax, uint8 activations and int8 weights.

python ort_static.py FLOAT.onnx CALIBRATION.npy OUT.onnx

Calibration: normalized images, float32 [n, h, w, 3].
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class _Images(CalibrationDataReader):
    def __init__(self, name: str, images: np.ndarray) -> None:
        self._name, self._images = name, iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {self._name: image[None]}


def main(source: str, calibration: str, out: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prepared = str(Path(folder) / "prepared.onnx")
        quant_pre_process(source, prepared)
        session = onnxruntime.InferenceSession(prepared, providers=["CPUExecutionProvider"])
        quantize_static(
            prepared,
            out,
            _Images(session.get_inputs()[0].name, np.load(calibration)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    print(f"onnxruntime {onnxruntime.__version__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
