"""ONNX Runtime's own timing of a model: python ort_timing.py MODEL SECONDS [--profile]. Prints the median, in ms.

A plain session, opened as in ONNX Runtime's documentation, run in a loop. --profile: the `model_run` events of its
profiler instead, which include the profiler's own cost.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

model, seconds, profiled = sys.argv[1], float(sys.argv[2]), "--profile" in sys.argv
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
with tempfile.TemporaryDirectory() as folder:
    options.enable_profiling, options.profile_file_prefix = profiled, str(Path(folder) / "profile")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    kind = np.uint8 if image.type == "tensor(uint8)" else np.float32
    feed = {
        image.name: (np.random.default_rng(0).uniform(0, 1, image.shape) * (255 if kind == np.uint8 else 1)).astype(
            kind
        )
    }
    end, times = time.monotonic() + seconds, []
    while time.monotonic() < end:
        begun = time.perf_counter()
        session.run(None, feed)
        times.append(1e3 * (time.perf_counter() - begun))
    if profiled:
        events = json.loads(Path(session.end_profiling()).read_text())
        times = [event["dur"] / 1e3 for event in events if event.get("name") == "model_run"]
# The first fifth is warm-up.
print(statistics.median(times[len(times) // 5 :]))
