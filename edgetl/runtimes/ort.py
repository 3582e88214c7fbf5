"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.dataset.contract import to_grid

_PROVIDER = "CPUExecutionProvider"


def unavailable() -> str | None:
    """None when onnxruntime is installed."""
    return None if importlib.util.find_spec("onnxruntime") else "onnxruntime is not installed: pip install onnxruntime"


class OrtSession:
    """An InferenceSession on one provider, and no other. See runtimes.Session."""

    output_step = 0.0

    def __init__(self, model: Path, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(model), options, providers=[_PROVIDER])
        if self._session.get_providers() != [_PROVIDER]:
            raise RuntimeError(f"asked for {_PROVIDER}, got {self._session.get_providers()}")
        image = self._session.get_inputs()[0]
        self._name = image.name
        meta = self._session.get_modelmeta().custom_metadata_map
        self._dtype = np.dtype(np.uint8 if image.type == "tensor(uint8)" else np.float32)
        self._scale, self._zero_point = float(meta.get("input_scale", 0.0)), int(meta.get("input_zero_point", 0))
        self._feed: dict[str, Any] = {}

    def run(self, images: Any) -> Any:
        """See runtimes.Session."""
        rows = []
        for image in images:
            self._feed = {self._name: to_grid(image[None], self._dtype, self._scale, self._zero_point)}
            rows.append(self._session.run(None, self._feed)[0][0])
        return np.stack(rows)

    def invoke(self) -> None:
        """See runtimes.Session."""
        self._session.run(None, self._feed)

    def placement(self) -> dict[str, int]:
        """One provider was asked for and no other was admitted."""
        return {_PROVIDER: 1}

    def close(self) -> None:
        """See runtimes.Session."""
        del self._session


def open_session(model: Path, *, threads: int) -> OrtSession:
    """See runtimes. Raises ValueError for a file ONNX Runtime refuses, RuntimeError when another provider than the asked one was set up."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        return OrtSession(model, threads)
    except (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
    ) as error:
        raise ValueError(str(error)) from None
