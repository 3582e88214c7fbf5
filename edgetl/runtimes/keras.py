"""Keras: the reference that exported files are compared with. Opens a stage's artifact, not a model file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def unavailable() -> str | None:
    """None when TensorFlow and tf-keras are installed."""
    lacking = [name for name in ("tensorflow", "tf_keras") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(lacking)} not installed: pip install 'edgetl[build]'" if lacking else None


class KerasSession:
    """A float or fake-quantized Keras model. See runtimes.Session."""

    output_step = 0.0

    def __init__(self, model: Path) -> None:
        import tensorflow as tf

        from edgetl.quantization.net import is_quantized

        if is_quantized(model):
            from edgetl.quantization.fake import FakeQuantized
            from edgetl.quantization.net import load_quantized

            net = FakeQuantized(load_quantized(model)).model
        else:
            from edgetl.backbones.models import load_model

            _, net = load_model(model)
        self._function = tf.function(lambda images: tf.nn.softmax(net(images, training=False)), reduce_retracing=True)

    def run(self, images: Any) -> Any:
        """See runtimes.Session; the whole batch at once."""
        return self._function(images).numpy()

    def close(self) -> None:
        """See runtimes.Session."""
        del self._function


def open_session(model: Path, *, threads: int = 1) -> KerasSession:
    """model: the folder of a finetune, distill or quantize artifact."""
    return KerasSession(model)
