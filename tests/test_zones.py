"""The light zone stays light: `edgetl --help` and `edgetl targets list` must not load a framework."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("numpy", "tensorflow", "tf_keras", "onnxruntime", "onnx", "ai_edge_litert", "PIL", "h5py", "matplotlib")
NAMED = ("edgetl", "edgetl.plan", "edgetl.target", "edgetl.recipe", "edgetl.store", "edgetl.report", "edgetl.pipeline")
# Everything that lies at the top of the package: the folders below it are the heavy zone.
PACKAGE = Path(__file__).parent.parent / "edgetl"
SWEPT = tuple(
    sorted(f"edgetl.{path.stem}" for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__"))
)


def heavy_after_importing(repository: Path, *modules: str) -> dict[str, list[str]]:
    """Module -> what heavy there is once it and those before it are imported, in a fresh interpreter."""
    program = (
        "import importlib, json, sys\nfound = {}\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        f"    found[name] = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_light_zone_imports_nothing_heavy(repository):
    assert set(NAMED) - {"edgetl"} <= set(SWEPT)
    assert heavy_after_importing(repository, "edgetl", *SWEPT) == {name: [] for name in ("edgetl", *SWEPT)}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("edgetl.dataset.photos", ["numpy", "PIL"]), ("edgetl.quantization.integers", ["numpy"])],
    ids=["photos", "integers"],
)
def test_the_probe_tells_when_something_heavy_comes_in(module, heavy, repository):
    assert heavy_after_importing(repository, "edgetl.plan", module) == {"edgetl.plan": [], module: heavy}
