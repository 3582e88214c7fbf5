"""TensorFlow Model Optimization's quantization-aware training with its defaults, exported to TFLite and ONNX.

python tfmot_qat.py STUDENT TRAINING.json OUT.tflite OUT.onnx

STUDENT: the folder of a distill artifact. TRAINING.json: {paths, labels, n_classes, view, augment, batch_size, seed,
epochs, learning_rate}. The views are those that edgetl's own quantize stage would train on; the loss is the cross-entropy
of the labels; the rest follows TFMOT's guide: quantize_model, compile, fit, convert.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf2onnx
from tf_keras import Model, layers, losses, optimizers

from edgetl.backbones.models import load_model, set_seeds
from edgetl.dataset.samples import Samples
from edgetl.tasks.photos.batches import training_batches
from edgetl.tasks.photos.contract import View


def main(student: str, training: str, tflite: str, onnx_file: str) -> None:
    options = json.loads(Path(training).read_text())
    set_seeds(options["seed"])
    spec, net = load_model(Path(student))
    model = tfmot.quantization.keras.quantize_model(Model(net.input, layers.Softmax(name="probabilities")(net.output)))
    model.compile(optimizers.Adam(options["learning_rate"]), losses.CategoricalCrossentropy(), metrics=["accuracy"])
    labels = np.array(options["labels"], np.int32)
    samples = Samples(tuple(map(Path, options["paths"])), labels, tuple("" for _ in labels))
    for epoch in range(options["epochs"]):
        batches = training_batches(
            samples,
            View(*options["view"]),
            n_classes=options["n_classes"],
            batch_size=options["batch_size"],
            augment=options["augment"],
            seed=options["seed"],
            epoch=epoch,
        )
        model.fit(batches.map(lambda pixels, shares: (spec.normalization.apply(pixels), shares)), verbose=2)

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    Path(tflite).write_bytes(converter.convert())

    signature = [tf.TensorSpec((1, spec.input_size_px, spec.input_size_px, 3), tf.float32, name="image")]

    @tf.function(input_signature=signature)
    def probabilities(image: Any) -> Any:
        return model(image, training=False)

    proto, _ = tf2onnx.convert.from_function(probabilities, input_signature=signature, opset=17)
    onnx.save(proto, onnx_file)
    print(f"tensorflow-model-optimization {tfmot.__version__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
