"""torchvision's MobileNetV2 weights without torch: a restricted reader of its legacy file format, and the conversion.

Format: torch/serialization.py, `_legacy_save`: five pickles (magic, protocol, system, tensors, storage keys), then for
each storage its element count (int64) and its raw elements. Only the classes that rebuild float tensors are admitted.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgetl.core.errors import DataError

_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_ELEMENTS = 200_000_000
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage:
    def __init__(self, dtype: np.dtype[Any], count: int) -> None:
        if not 0 <= count <= _MAX_ELEMENTS:
            raise pickle.UnpicklingError(f"a storage of {count} elements")
        self.dtype, self.count = dtype, count
        self.elements = np.zeros(0, dtype)


class _Tensor:
    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: object
    ) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if self.offset < 0 or min((*self.strides, 0)) < 0 or last >= max(len(self.storage.elements), 1):
            raise pickle.UnpicklingError("a tensor goes past the end of its storage")
        # Strides of 0 would make a tensor of any size from one element.
        if math.prod(self.shape) > len(self.storage.elements):
            raise pickle.UnpicklingError("a tensor has more elements than its storage")
        item = self.storage.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            self.storage.elements[self.offset :], self.shape, [stride * item for stride in self.strides]
        )
        return np.array(view)


class _Reader(pickle.Unpickler):
    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        admitted: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        }
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in admitted:
            return admitted[module, name]
        raise pickle.UnpicklingError(f"refused: {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError("refused: a storage that is a view of another")
        return self.storages.setdefault(str(key), _Storage(dtype, int(count)))


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Name -> array from a legacy .pth file. Raises DataError on anything that is not plain tensors."""
    try:
        with path.open("rb") as stream:
            if _Reader(stream).load() != _MAGIC:
                raise pickle.UnpicklingError("the magic number is wrong")
            _Reader(stream).load()
            _Reader(stream).load()
            reader = _Reader(stream)
            tensors = reader.load()
            for key in _Reader(stream).load():
                storage = reader.storages[str(key)]
                count = int(np.frombuffer(stream.read(8), "<i8")[0])
                data = stream.read(count * storage.dtype.itemsize) if count == storage.count else b""
                storage.elements = np.frombuffer(data, storage.dtype)
                if len(storage.elements) != storage.count:
                    raise pickle.UnpicklingError("the file ends too early")
            return {name: tensor.array() for name, tensor in tensors.items() if isinstance(tensor, _Tensor)}
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        ImportError,
        ArithmeticError,
        MemoryError,
        OSError,
    ) as error:
        raise DataError(
            f"{path.name} is not a weight file in torch's legacy format that can be read safely.",
            why=str(error) or type(error).__name__,
            fix="use torchvision's mobilenet_v2 .pth, or Keras' .h5 file",
        ) from None


# torchvision normalizes by these; the net's input here is (pixel - 128) / 127.5.
_TORCH_MEAN, _TORCH_STD, _TORCH_EPSILON = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), 1e-5


def mobilenetv2_weights(
    state: dict[str, np.ndarray], *, epsilon: float, mean: float, scale: float
) -> dict[str, list[np.ndarray]]:
    """Keras layer name -> its weights, from torchvision's mobilenet_v2 (width 1.0).

    epsilon: of the Keras net's BatchNorm; the difference to torch's goes into gamma, exactly. mean, scale: the net's input is
    (pixel - mean) / scale; torch's mean and standard deviation go into the first convolution and the mean of its
    BatchNorm, exactly except for the padded border. Raises DataError if a tensor is missing or has another shape.
    """
    pairs = [("features.0.0", "features.0.1", "Conv1", "bn_Conv1")]
    pairs += [("features.1.conv.0.0", "features.1.conv.0.1", "expanded_conv_depthwise", "expanded_conv_depthwise_BN")]
    pairs += [("features.1.conv.1", "features.1.conv.2", "expanded_conv_project", "expanded_conv_project_BN")]
    for i in range(2, 18):
        ours, theirs = f"block_{i - 1}", f"features.{i}.conv"
        pairs += [(f"{theirs}.0.0", f"{theirs}.0.1", f"{ours}_expand", f"{ours}_expand_BN")]
        pairs += [(f"{theirs}.1.0", f"{theirs}.1.1", f"{ours}_depthwise", f"{ours}_depthwise_BN")]
        pairs += [(f"{theirs}.2", f"{theirs}.3", f"{ours}_project", f"{ours}_project_BN")]
    pairs += [("features.18.0", "features.18.1", "Conv_1", "Conv_1_bn")]
    weights: dict[str, list[np.ndarray]] = {}
    try:
        for conv, norm, our_conv, our_norm in pairs:
            # torch: [out, in / groups, height, width]; Keras: [height, width, in, out], depthwise [height, width, in, 1].
            axes = (2, 3, 0, 1) if "depthwise" in our_conv else (2, 3, 1, 0)
            kernel = state[f"{conv}.weight"].astype(np.float64).transpose(axes)
            gamma, beta, moving_mean, variance = (
                state[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
            )
            gamma = gamma * np.sqrt((variance + epsilon) / (variance + _TORCH_EPSILON))
            if our_conv == "Conv1":
                shift = (mean / 255.0 - _TORCH_MEAN) / _TORCH_STD
                moving_mean = moving_mean - np.einsum("hwio,i->o", kernel, shift)
                kernel = kernel * (scale / 255.0 / _TORCH_STD)[None, None, :, None]
            weights[our_conv] = [kernel.astype(np.float32)]
            weights[our_norm] = [values.astype(np.float32) for values in (gamma, beta, moving_mean, variance)]
    except (KeyError, ValueError) as error:
        raise DataError(
            "The .pth file is not torchvision's mobilenet_v2.", why=f"a tensor is missing or has another shape: {error}"
        ) from None
    return weights
