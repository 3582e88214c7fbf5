"""Keras: the reference that exported files are compared with. It opens a stage's artifact, not a model file."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.core import machine
from edgetl.runtimes import PlacementError
from edgetl.runtimes.catalogue import BACKENDS
from edgetl.runtimes.placement import Placement


def unavailable(backend: str = "keras") -> str | None:
    """None when TensorFlow and tf-keras are installed, and for keras-gpu when TensorFlow sees a GPU."""
    missing = [name for name in ("tensorflow", "tf_keras") if importlib.util.find_spec(name) is None]
    if missing:
        return (
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed: pip install 'edgetl[build]'"
        )
    if BACKENDS[backend].device == "gpu" and not machine.nvidia_gpu():
        # Asking TensorFlow takes seconds, and without NVIDIA's driver it would not see a GPU either.
        return "no NVIDIA driver is installed, so TensorFlow sees no GPU"
    return None


def device(backend: str = "keras") -> str:
    """The name of the processor or the GPU."""
    return machine.nvidia_gpu() if BACKENDS[backend].device == "gpu" else machine.processor()


class KerasSession:
    """A float or fake-quantized Keras model. See runtimes.Session."""

    output_step = 0.0
    executor = ""

    def __init__(self, model: Path, backend: str = "keras") -> None:
        import tensorflow as tf

        self._kind = BACKENDS[backend].device
        if self._kind == "gpu" and not tf.config.list_physical_devices("GPU"):
            raise PlacementError(backend, "the installed TensorFlow sees no GPU: pip install 'tensorflow[and-cuda]'")
        if self._kind == "gpu":
            # Soft placement moves ops that have no GPU kernel to the CPU without a message.
            tf.config.set_soft_device_placement(False)
        with tf.device(f"/{self._kind.upper()}:0"):
            net = _load(model)
        self.input_shape = (1, *(int(size) for size in net.input_shape[1:]))
        self._function = tf.function(lambda images: tf.nn.softmax(net(images, training=False)), reduce_retracing=True)
        self._image: Any = None

    def run(self, images: Any) -> Any:
        """See runtimes.Session; the whole batch is run at once."""
        self._image = images[-1:]
        return self._on_device(images)

    def invoke(self) -> None:
        """See runtimes.Session."""
        self._on_device(self._image)

    def _on_device(self, images: Any) -> Any:
        import tensorflow as tf

        with tf.device(f"/{self._kind.upper()}:0"):
            return self._function(images).numpy()

    def placement(self) -> Placement:
        """The ops of TensorFlow's graph: all on one device, because soft placement is off."""
        image = self._image if self._image is not None else np.zeros(self.input_shape, np.float32)
        graph = self._function.get_concrete_function(image).graph
        return Placement({"TensorFlow": len(graph.get_operations())}, {"TensorFlow": self._kind})

    def close(self) -> None:
        """See runtimes.Session."""
        del self._function


def _load(model: Path) -> Any:
    """The Keras model of an artifact. Raises ValueError for a folder that does not hold one."""
    from edgetl.quantization.net import holds_quantized_net

    try:
        if holds_quantized_net(model):
            from edgetl.quantization.fake import FakeQuantized
            from edgetl.quantization.net import load_quantized

            return FakeQuantized(load_quantized(model)).model
        from edgetl.backbones.models import load_model

        return load_model(model)[1]
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{model} does not hold a trained or quantized model: {error}") from None


def open_session(
    model: Path, *, threads: int = 0, backend: str = "keras", allow_fallback: bool = False
) -> KerasSession:
    """model: the folder of a finetune, distill or quantize artifact. threads: 0 leaves the number to TensorFlow.

    Raises ValueError for a folder that does not hold a model, and for a number of threads after TensorFlow has run something
    in this process: it can only be set before.
    """
    if threads:
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError as error:
            raise ValueError(f"TensorFlow has already started with another number of threads: {error}") from None
    return KerasSession(model, backend)
