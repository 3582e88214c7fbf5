"""TensorFlow Lite's converter: post-training quantization, with all ops in integers.

python tflite_converter.py STUDENT CALIBRATION.npy OUT.tflite

STUDENT: the folder of a distill artifact. Calibration: normalized images, float32 [n, h, w, 3].
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from tf_keras import Model, layers

from edgetl.backbones.models import load_model


def main(student: str, calibration: str, out: str) -> None:
    _, net = load_model(Path(student))
    images = np.load(calibration)
    converter = tf.lite.TFLiteConverter.from_keras_model(Model(net.input, layers.Softmax()(net.output)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    Path(out).write_bytes(converter.convert())
    print(f"tensorflow {tf.__version__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
