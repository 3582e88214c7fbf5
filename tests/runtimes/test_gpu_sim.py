"""LiteRT's GPU backend on a GPU that is simulated: SwiftShader, the Vulkan driver that comes with Chromium, computes on the CPU.

It shows placement, parity and refusals; its times mean nothing. `make test-gpu-sim` fetches the driver.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from tf_keras import Model, layers

from edgetl.backbones import load_family
from edgetl.backbones.models import set_seeds
from edgetl.core import machine
from edgetl.core.errors import EXIT_MISSING
from edgetl.formats.write.tflite_float import write_tflite_float
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.fold import fold
from edgetl.quantization.fake import all_tensors
from edgetl.quantization.integers import quantize_graph
from edgetl.quantization.ranges import estimate_ranges
from edgetl.quantization.ties import without_ties
from edgetl.runtimes import litert
from edgetl.runtimes.litert_probe import SMALLEST_MODEL
from edgetl.training.norm import estimate_batch_norm

DRIVER = Path(os.environ.get("GPU_SIM_DRIVER", "/usr/lib/chromium/vk_swiftshader_icd.json"))
needs_driver = pytest.mark.skipif(
    not DRIVER.is_file(),
    reason="no simulated GPU here: Debian's chromium-common has SwiftShader (make test-gpu-sim fetches it)",
)
# 3 x 3 convolutions of this net add 200 products at most, and each sum may be rounded in another order.
FLOAT_TOLERANCE = 2e-5

# Opens each file on each backend in a separate process, because the environment of a process selects the driver.
PROGRAM = """
import json, sys
import numpy as np
from pathlib import Path
from edgetl.core.errors import EdgetlError
from edgetl.runtimes import load_runtime, open_session, simulated
folder, rows = Path(sys.argv[1]), []
images = np.load(folder / "images.npy")
for file, backend, allowed in json.loads(sys.argv[2]):
    row = {"file": file, "backend": backend, "allowed": allowed}
    try:
        session = open_session(folder / file, backend, threads=1, allow_fallback=allowed)
        shape = session.input_shape[1:]
        first = session.run(images if shape == images.shape[1:] else np.ones((1, *shape), np.float32))
        session.invoke()
        row |= {"placement": session.placement().to_json(), "answers": first.tolist(), "step": session.output_step}
        session.close()
    except EdgetlError as error:
        row |= {"what": error.what, "why": error.why, "exit_code": error.exit_code}
    rows.append(row)
device = {"name": load_runtime("litert-gpu").device("litert-gpu"), "simulated": simulated("litert-gpu")}
json.dump({"rows": rows, "device": device}, open(folder / "found.json", "w"))
"""


def with_driver(driver: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a process that sees this Vulkan driver and no other."""
    path = os.pathsep.join([str(driver.parent), os.environ.get("LD_LIBRARY_PATH", "")]).rstrip(os.pathsep)
    env = {
        **os.environ,
        "VK_ICD_FILENAMES": str(driver),
        "VK_DRIVER_FILES": str(driver),
        # Chromium's Vulkan loader is beside its driver, for machines without a loader.
        "LD_LIBRARY_PATH": path,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    return subprocess.run(
        [sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=300, check=False
    )


def simulated(folder: Path, driver: Path, asked: list[tuple[str, str, bool]]) -> dict[str, Any]:
    """The results of PROGRAM."""
    done = with_driver(driver, "-c", PROGRAM, str(folder), json.dumps(asked))
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "found.json").read_text())


def write_nets(folder: Path) -> np.ndarray:
    """MobileNetV2's first blocks at 32 pixels with random weights, as three files; and the images they are run on."""
    set_seeds(5)
    whole = load_family("mobilenetv2-0.35").build("mobilenetv2-0.35", 32)
    pooled = layers.GlobalAveragePooling2D(name="pooled")(whole.get_layer("block_2_add").output)
    model = Model(whole.input, layers.Dense(4, name="logits")(pooled))
    images = np.random.default_rng(5).uniform(-1, 1, (12, 8, 8, 3)).astype(np.float32).repeat(4, 1).repeat(4, 2)
    estimate_batch_norm(model, [images])
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel * 2 / model(images, training=False).numpy().std(), bias])
    graph = fold(model)
    tensors = tf.function(all_tensors(graph))
    ranges = estimate_ranges(
        graph,
        lambda batch: [tensor.numpy() for tensor in tensors(batch)],
        lambda: [images],
        estimator="minmax",
        input_range=(-128 / 127.5, 127 / 127.5),
    )
    integers = quantize_graph(graph, without_ties(graph, ranges))
    for precision in ("float32", "float16"):
        data = write_tflite_float(graph, precision=precision, description="", metadata={})
        (folder / f"{precision}.tflite").write_bytes(data)
    (folder / "int8.tflite").write_bytes(write_tflite_int8(graph, integers, description="", metadata={}))
    (folder / "refused.tflite").write_bytes(with_an_op_no_gpu_takes())
    np.save(folder / "images.npy", images)
    return images


def with_an_op_no_gpu_takes() -> bytes:
    """The smallest model with a MATRIX_DIAG after its RELU."""
    model = schema.ModelT.InitFromPackedBuf(SMALLEST_MODEL)
    graph = model.subgraphs[0]
    code, op, tensor = schema.OperatorCodeT(), schema.OperatorT(), schema.TensorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MATRIX_DIAG
    tensor.shape, tensor.type, tensor.name = [1, 1, 1, 4, 4], schema.TensorType.FLOAT32, b"diagonal"
    op.opcodeIndex, op.inputs, op.outputs = len(model.operatorCodes), graph.outputs, [len(graph.tensors)]
    model.operatorCodes.append(code)
    graph.operators.append(op)
    graph.tensors.append(tensor)
    graph.outputs = op.outputs
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("nets")
    write_nets(made)
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> Callable[..., dict[str, Any]]:
    """row(file, backend="litert-gpu", allowed=False): the result of a session on the simulated GPU."""
    asked = [(f"{file}.tflite", "litert-gpu", False) for file in ("float32", "float16", "int8")]
    asked += [(f"{file}.tflite", "litert-gpu-float32", False) for file in ("float32", "int8")]
    asked += [("refused.tflite", "litert-gpu", allowed) for allowed in (False, True)]
    answers = simulated(folder, DRIVER, asked)
    rows = {(row["file"], row["backend"], row["allowed"]): row for row in answers["rows"]}

    def row(file: str, backend: str = "litert-gpu", *, allowed: bool = False) -> dict[str, Any]:
        return rows[f"{file}.tflite", backend, allowed]

    row.device = answers["device"]  # type: ignore[attr-defined]
    return row


def on_cpu(folder: Path, file: str, backend: str = "litert-cpu") -> np.ndarray:
    session = litert.open_session(folder / f"{file}.tflite", threads=1, backend=backend)
    return session.run(np.load(folder / "images.npy"))


@needs_driver
@pytest.mark.parametrize("file", ["float32", "float16", "int8"])
def test_every_op_and_every_multiplication_is_on_the_gpu(file, found):
    placement = found(file)["placement"]
    assert placement["devices"] == {"WebGPU": "gpu"}
    assert placement["unknown"] == 0
    assert placement["shares"] == {"gpu": {"ops": 1.0, "macs": 1.0}}


@needs_driver
@pytest.mark.parametrize(("file", "another"), [("float32", "float16"), ("float16", "float32")])
def test_float_answers_are_those_of_the_cpu_and_of_no_other_weights(file, another, found, folder):
    row = found(file)
    np.testing.assert_allclose(row["answers"], on_cpu(folder, file), rtol=0, atol=FLOAT_TOLERANCE)
    assert np.abs(np.array(row["answers"]) - on_cpu(folder, another)).max() > FLOAT_TOLERANCE


@needs_driver
def test_int8_answers_are_as_close_to_xnnpack_as_those_of_litert_s_kernels(found, folder):
    row = found("int8")
    fast, plain = on_cpu(folder, "int8"), on_cpu(folder, "int8", "litert-cpu-reference")
    # For one image the GPU's rounding may be the worse one: allow one step more.
    allowed = np.abs(fast - plain).max() + 1.01 * row["step"]
    assert row["step"] == 1 / 256
    np.testing.assert_allclose(row["answers"], fast, rtol=0, atol=allowed)
    assert np.abs(np.roll(row["answers"], 1, axis=0) - fast).max() > allowed, "the answer for any image would pass"


@needs_driver
@pytest.mark.parametrize("file", ["float32", "int8"])
def test_without_float16_on_the_adapter_enforcing_float32_changes_nothing(file, found):
    assert found(file)["answers"] == found(file, "litert-gpu-float32")["answers"]


@needs_driver
def test_an_op_that_the_gpu_does_not_run_is_refused_by_name(found):
    row = found("refused")
    assert row["exit_code"] == EXIT_MISSING
    assert row["what"] == "litert-gpu was requested, but would not run on the GPU."
    assert "MATRIX_DIAG" in row["why"]


@needs_driver
def test_a_model_that_may_fall_back_reports_how_many_ops_did(found):
    row = found("refused", allowed=True)
    assert row["placement"]["ops"] == {"WebGPU": 1, "LiteRT on the CPU": 1}
    assert row["placement"]["shares"]["gpu"] == {"ops": 0.5, "macs": None}
    np.testing.assert_array_equal(row["answers"], np.eye(4)[None, None, None])


@needs_driver
def test_a_simulated_gpu_is_marked_as_simulated(found):
    assert found.device["simulated"] is True
    assert "SwiftShader" in found.device["name"]
    assert "its latency means nothing" in found.device["name"]


def test_without_a_driver_the_command_says_so_in_one_line_with_exit_code_3(tmp_path):
    (tmp_path / "net.tflite").write_bytes(SMALLEST_MODEL)
    arguments = ["-m", "edgetl", "bench", str(tmp_path / "net.tflite"), "--backend", "litert-gpu"]
    done = with_driver(tmp_path / "no-driver.json", *arguments)
    assert done.returncode == EXIT_MISSING
    assert done.stdout == ""
    what, fix = done.stderr.splitlines()
    assert what.startswith("edgetl: litert-gpu is not available: no Vulkan ")
    assert "make test-gpu-sim" in what
    assert fix.startswith("  fix: `edgetl doctor`")


def test_without_a_driver_nothing_runs_on_the_cpu_unless_allowed(tmp_path):
    (tmp_path / "net.tflite").write_bytes(SMALLEST_MODEL)
    np.save(tmp_path / "images.npy", np.ones((1, 1, 1, 4), np.float32))
    asked = [("net.tflite", "litert-gpu", allowed) for allowed in (False, True)]
    answers = simulated(tmp_path, tmp_path / "no-driver.json", asked)
    refused, fallen_back = answers["rows"]
    assert (refused["what"], refused["exit_code"]) == ("litert-gpu is not available.", EXIT_MISSING)
    assert fallen_back["placement"]["devices"] == {"LiteRT on the CPU": "cpu"}
    assert answers["device"] == {"name": machine.processor(), "simulated": False}
