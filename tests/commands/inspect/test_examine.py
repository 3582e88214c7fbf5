"""Examining a file that nobody vouches for ends in an answer or in one message, whatever the file is."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edgetl.commands.inspect import examine as module
from edgetl.commands.inspect.examine import examine
from edgetl.core.errors import DataError, MissingError
from edgetl.formats.read.census import Malformed
from edgetl.formats.read.findings import findings
from edgetl.formats.read.onnx_file import read_onnx
from edgetl.formats.read.tflite_file import read_tflite

READERS = {"tflite": read_tflite, "onnx": read_onnx}
BOTH = pytest.mark.parametrize("kind", sorted(READERS))


@pytest.fixture(scope="module")
def sound(tiny_net, tmp_path_factory) -> Path:
    return tiny_net(tmp_path_factory.mktemp("sound"))


def answers(kind: str, data: bytes) -> bool:
    """Whether the reader has a whole answer; False when it says that the file is malformed. All else is a bug."""
    try:
        found = findings(READERS[kind](data))
    except Malformed as error:
        assert str(error)
        return False
    json.dumps(found, allow_nan=False)
    return True


@BOTH
def test_a_file_cut_anywhere_is_refused_or_read(kind, sound):
    data = (sound / f"net.{kind}").read_bytes()
    cuts = [*range(0, len(data), 97), *range(len(data) - 64, len(data))]
    read = [cut for cut in cuts if answers(kind, data[:cut])]
    assert answers(kind, data)
    # A flatbuffer ends in padding; a protobuf in fields that may be left out, but for the operator set.
    assert all(cut > len(data) - 64 for cut in read), read


@BOTH
def test_flipped_bytes_are_refused_or_read(kind, sound):
    data = (sound / f"net.{kind}").read_bytes()
    dice = random.Random(11)
    read = 0
    for _ in range(250):
        broken = bytearray(data)
        for _ in range(dice.choice((1, 2, 8))):
            broken[dice.randrange(len(data))] = dice.choice((0, 127, 128, 255, dice.randrange(256)))
        read += answers(kind, bytes(broken))
    # Some flips hit weights and names, some the structure: were it all one, this would test nothing.
    assert 10 < read < 240


@pytest.mark.parametrize("share", [0.02, 0.97])
@BOTH
def test_a_truncated_file_is_one_data_error(kind, share, sound, tmp_path):
    data = (sound / f"net.{kind}").read_bytes()
    (tmp_path / f"cut.{kind}").write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=rf"cut\.{kind} cannot be read as") as caught:
        examine(tmp_path / f"cut.{kind}")
    assert caught.value.why
    assert caught.value.fix


def make(tmp_path: Path, name: str, content: bytes) -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("none.tflite", None, "There is no file", id="not there"),
        pytest.param("n" * 300 + ".onnx", None, "cannot be opened", id="a name no file can have"),
        pytest.param("empty.onnx", b"", "zero bytes", id="empty"),
        pytest.param("notes.txt", b"a text", "reads .tflite and .onnx", id="another suffix"),
        pytest.param("text.tflite", b"this was a text file", "identifier TFL3", id="a text called tflite"),
        pytest.param("text.onnx", b"this was a text file", "cannot be read as ONNX", id="a text called onnx"),
        pytest.param(
            "magic.tflite", b"\x00\x00\x00\x00TFL3" + bytes(64), "it has no ops", id="nothing but the identifier"
        ),
        pytest.param("far.tflite", b"\xff\xff\xff\x7fTFL3" + bytes(64), "impossible", id="an offset past the end"),
        pytest.param("zeros.onnx", bytes(1000), "not an ONNX protobuf", id="zeros"),
    ],
)
def test_what_is_not_a_model_is_said_in_one_message(name, content, said, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        examine(path)
    assert said in str(caught.value)


def test_an_onnx_file_called_tflite_is_no_tflite_file(sound, tmp_path):
    path = make(tmp_path, "net.tflite", (sound / "net.onnx").read_bytes())
    with pytest.raises(DataError, match="identifier TFL3"):
        examine(path)


def outside(name: str) -> Any:
    """A tensor whose data is said to be in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secrets.bin\x1b[2J")
    return tensor


def model_with(place: str) -> Any:
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    branch = helper.make_graph([], "branch", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [4])])
    if place == "initializer":
        body.initializer.append(outside("planted"))
    elif place == "attribute":
        body.node.append(helper.make_node("Constant", [], ["z"], value=outside("planted")))
    else:
        branch.initializer.append(outside("planted"))
        body.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))
    body.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [4]))
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
def test_external_data_is_refused_wherever_it_hides(place):
    with pytest.raises(Malformed, match=r"'planted'.* is stored in another file, 'secrets.bin\\\\x1b\[2J'"):
        read_onnx(model_with(place).SerializeToString())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a FIFO tells that a file was opened; there are none here")
def test_external_data_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "secrets.bin\x1b[2J")  # who opens it waits forever
    path = make(tmp_path, "outside.onnx", model_with("initializer").SerializeToString())
    with pytest.raises(DataError, match="is stored in another file") as caught:
        examine(path, timeout_s=30)
    assert "one file" in caught.value.fix


def planted_tflite(sound: Path, tmp_path: Path, change: Any) -> Path:
    model = schema.ModelT.InitFromPackedBuf((sound / "net.tflite").read_bytes())
    change(model, model.subgraphs[0])
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return make(tmp_path, "planted.tflite", bytes(builder.Output()))


def _far_input(model: Any, graph: Any) -> None:
    graph.operators[1].inputs = [0, 10**6, 2]


def _far_buffer(model: Any, graph: Any) -> None:
    graph.tensors[3].buffer = 10**6


def _far_output(model: Any, graph: Any) -> None:
    graph.outputs = [-2]


def _far_kind(model: Any, graph: Any) -> None:
    graph.operators[0].opcodeIndex = 99


def _large_shape(model: Any, graph: Any) -> None:
    graph.tensors[2].shape = [2**20, 2**20]


def _shape_beyond_memory(model: Any, graph: Any) -> None:
    graph.tensors[1].shape = [2**31 - 1] * 4


def _shape_of_many_axes(model: Any, graph: Any) -> None:
    graph.tensors[1].shape = [2**31 - 1] * 600


def _negative_shape(model: Any, graph: Any) -> None:
    graph.tensors[1].shape = [1, -8, 8, 4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_far_input, "op 1 names a tensor outside"),
        (_far_buffer, "names buffer 1000000"),
        (_far_output, "names a tensor outside"),
        (_far_kind, "is of kind 99"),
        (_large_shape, "by its shape and type, and its buffer holds"),
        (_negative_shape, "has the shape"),
        (_shape_beyond_memory, "has more than"),
        (_shape_of_many_axes, "has 600 axes"),
    ],
)
def test_indices_and_sizes_are_checked_before_they_are_followed(change, said, sound, tmp_path):
    path = planted_tflite(sound, tmp_path, change)
    with pytest.raises(Malformed, match=said):
        read_tflite(path.read_bytes())


def test_shapes_of_an_onnx_file_are_checked_too():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2**62] * 20) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(Malformed, match="has 20 axes"):
        read_onnx(model.SerializeToString())


def test_names_and_texts_of_a_file_come_out_escaped(sound, tmp_path):
    def plant(model: Any, graph: Any) -> None:
        model.description = b"\x1b]0;owned\x07"
        for tensor in graph.tensors:
            tensor.name = b"\x1b[2J" + "\u202e".encode() + tensor.name

    found = examine(planted_tflite(sound, tmp_path, plant))
    assert found["ops"][0]["name"] == "\\x1b[2J\\u202efirst"
    assert found["metadata"]["description"] == "\\x1b]0;owned\\x07"
    strings = json.dumps(found, ensure_ascii=False)
    assert "\x1b" not in strings
    assert "\\u001b" not in strings
    assert "\u202e" not in strings


def test_a_constant_larger_than_any_memory_does_not_take_the_machine_with_it(tmp_path):
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["big"]), helper.make_node("Add", ["x", "big"], ["y"])]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1]), ("y", None))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(np.array([2**36]), "s")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "bomb.onnx"
    onnx.save(model, path)
    # 256 GiB of zeros, and a process that may have four: nobody makes them, ONNX Runtime gives up, or the child does.
    try:
        assert examine(path)["kind"] == "float file"
    except DataError as error:
        assert "ended the process" in str(error) or "memory" in str(error)


@pytest.mark.skipif(sys.platform != "linux", reason="limits on memory are Linux's")
@pytest.mark.parametrize(
    ("program", "code"),
    [
        # Address space that is never touched: without a limit it would be had.
        pytest.param(
            "_limit_resources(2**30, 60)\ntry: bytearray(2**31)\nexcept MemoryError: sys.exit(7)", 7, id="memory"
        ),
        pytest.param("_limit_resources(2**31, 0.0)\nwhile time.process_time() < 20: pass", -signal.SIGXCPU, id="time"),
    ],
)
def test_the_child_s_limits_hold(program, code, repository):
    begin = "import sys, time; from edgetl.commands.inspect.examine import _limit_resources\n"
    assert subprocess.run([sys.executable, "-c", begin + program], cwd=repository, check=False).returncode == code


@pytest.mark.parametrize(
    ("program", "error", "said"),
    [
        pytest.param("import os; os.abort()", DataError, "SIGABRT", id="a crash"),
        pytest.param("import time; time.sleep(60)", DataError, "not finished after 0.5 s", id="no end"),
        pytest.param("raise KeyError('ours')", RuntimeError, "ours", id="a bug of our own is not blamed on the file"),
        pytest.param("print('chatter')", RuntimeError, "starting", id="no answer"),
    ],
)
def test_a_child_that_dies_is_told(program, error, said, sound, monkeypatch):
    monkeypatch.setattr(module, "command_line", lambda *_: [sys.executable, "-c", program])
    with pytest.raises(error, match=said):
        examine(sound / "net.tflite", timeout_s=0.5 if "sleep" in program else 60)


def test_what_lies_beside_the_model_is_not_imported(sound, tmp_path, monkeypatch):
    for name in ("json", "onnx", "numpy", "edgetl"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    assert examine(sound / "net.tflite")["kind"] == "int8 throughout"


def test_a_tflite_file_is_read_without_tensorflow_and_onnx_and_its_fallbacks_are_named(sound):
    probe = (
        "import sys\n"
        "for name in ('tensorflow', 'tf_keras', 'onnx', 'onnxruntime', 'h5py'): sys.modules[name] = None\n"
        f"sys.argv = ['examine', {str(sound / 'net.tflite')!r}]\n"
        "from edgetl.commands.inspect.examine import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])["found"]
    # XNNPACK does not take the int8 SOFTMAX.
    assert found["runtime"]["left"] == [{"type": "SOFTMAX", "op": "probabilities"}]
    assert found["runtime"]["delegated"] == len(found["ops"]) - 1


def test_an_onnx_file_needs_the_onnx_package(sound, monkeypatch):
    real = module.importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "onnx" else real(name))
    with pytest.raises(MissingError, match=r"net\.onnx needs onnx to be read"):
        examine(sound / "net.onnx")
