"""The benchmarks' own arithmetic: a wrong table misleads more than none."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parents[2] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("a source distribution carries no benchmarks", allow_module_level=True)


@pytest.fixture(autouse=True)
def _programs_find_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def test_a_build_run_again_replaces_its_rows_and_no_others(tmp_path: Path) -> None:
    from tables import put_rows

    table = tmp_path / "t.csv"
    put_rows(table, ["build", "top1"], [["flowers", 0.1], ["flowers", 0.2]])
    put_rows(table, ["build", "top1"], [["chest", 0.3]])
    put_rows(table, ["build", "top1"], [["flowers", 0.4]])
    assert table.read_text().splitlines() == ["build,top1", "chest,0.3", "flowers,0.4"]


def test_a_table_with_other_columns_is_not_written_into(tmp_path: Path) -> None:
    from tables import put_rows

    table = tmp_path / "t.csv"
    table.write_text("build,top5\nflowers,0.9\n")
    with pytest.raises(ValueError, match="other columns"):
        put_rows(table, ["build", "top1"], [["flowers", 0.4]])
    assert table.read_text() == "build,top5\nflowers,0.9\n"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("import no_such_quantizer", "ModuleNotFoundError: No module named 'no_such_quantizer'"),
        ("import os; os.abort()", "killed by signal 6"),
        ("open('/no/such/net.onnx')", "FileNotFoundError: [Errno 2] No such file or directory: 'net.onnx'"),
    ],
)
def test_a_peer_that_fails_says_why_and_aborts_nothing(
    body: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import routes

    (tmp_path / "peer.py").write_text(body)
    monkeypatch.setattr(routes, "PEERS", tmp_path)
    assert routes.run_peer("peer", [], sys.executable) == ("", why)


def test_a_slowdown_that_hits_both_leaves_the_ratio_alone() -> None:
    from timing import ratio_interval

    fast = [[1.0, 1.1]] * 10 + [[5.0, 5.5]] * 10
    low, high = ratio_interval([[2 * ms for ms in row] for row in fast], fast)
    assert low == high == pytest.approx(2.0)


def _two_convolutions(path: Path, *, quantized: int) -> Path:
    """Two 1 x 1 convolutions of 8 by 8 channels in a row, the first `quantized` of them between Q and DQ."""
    weights = np.random.default_rng(0).integers(-127, 127, (8, 8, 1, 1)).astype(np.int8)
    constants = {
        "scale": np.float32(0.1),
        "zero": np.uint8(128),
        "weights": weights,
        "weights_scale": np.full(8, 0.01, np.float32),
        "weights_zero": np.zeros(8, np.int8),
        "float_weights": weights.astype(np.float32),
    }
    nodes, before = [], "x"
    for i in range(2):
        kernel = "float_weights"
        if i < quantized:
            grid = ["scale", "zero"]
            nodes.append(helper.make_node("QuantizeLinear", [before, *grid], [f"q{i}"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"q{i}", *grid], [f"d{i}"]))
            nodes.append(
                helper.make_node("DequantizeLinear", ["weights", "weights_scale", "weights_zero"], [f"w{i}"], axis=0)
            )
            before, kernel = f"d{i}", f"w{i}"
        nodes.append(helper.make_node("Conv", [before, kernel], [f"c{i}"], name=f"conv{i}"))
        before = f"c{i}"
        if i < quantized:
            nodes.append(helper.make_node("QuantizeLinear", [before, *grid], [f"o{i}"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"o{i}", *grid], [f"r{i}"]))
            before = f"r{i}"
    nodes.append(helper.make_node("Relu", [before], ["y"]))
    shape = [1, 8, 4, 4]
    body = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("quantized", "share"), [(0, 0.0), (1, 0.5), (2, 1.0)])
def test_a_convolution_left_in_float_shows_in_the_integer_share(quantized: int, share: float, tmp_path: Path) -> None:
    from integer_share import integer_share

    assert integer_share(_two_convolutions(tmp_path / "net.onnx", quantized=quantized)).share == share


def _defined_in(module: str) -> set[str] | None:
    """The names at the top of a module of this repository or of a program beside it; None for another package's."""
    path = FOLDER.parent / module.replace(".", "/")
    file = next((one for one in (path.with_suffix(".py"), path / "__init__.py", FOLDER / f"{module}.py") if one.is_file()), None)  # fmt: skip
    if file is None:
        assert module.split(".")[0] not in ("edgetl", "tests"), f"there is no {module}"
        return None
    names = {child.stem for child in path.glob("*.py")} if path.is_dir() else set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        else:
            names |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
            names |= {one.asname or one.name for one in ast.walk(node) if isinstance(one, ast.alias)}
    return names


def _missing_imports(source: str) -> list[str]:
    return [
        f"{node.module}.{one.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module and (names := _defined_in(node.module)) is not None
        for one in node.names
        if one.name not in names
    ]


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.py")), ids=lambda file: file.stem)
def test_every_import_of_a_program_from_this_repository_exists(file: Path) -> None:
    """Half of them need packages that tests do not install, so a renamed function would show only when one is run."""
    assert not _missing_imports(file.read_text(encoding="utf-8"))


def test_an_import_of_a_renamed_function_is_found() -> None:
    assert _missing_imports("from edgetl.core.stats import quantil") == ["edgetl.core.stats.quantil"]
    assert _missing_imports("from edgetl.core import machine, stat") == ["edgetl.core.stat"]
    with pytest.raises(AssertionError, match=r"no tests\.bench\.models"):
        _missing_imports("from tests.bench.models import write")
