"""The list of backends: each entry agrees with the code, the tables and the targets that use its name."""

from __future__ import annotations

import csv
import inspect
from pathlib import Path

import pytest

from edgetl.runtimes import load_runtime, version
from edgetl.runtimes.catalogue import BACKENDS, LIBRARIES, default_backends, runnable, targetable

WITH_CODE = sorted(name for name, backend in BACKENDS.items() if backend.module)
WITHOUT_CODE = sorted(name for name, backend in BACKENDS.items() if not backend.module)


@pytest.mark.parametrize("name", WITH_CODE)
def test_a_backend_with_a_module_offers_the_contract(name: str) -> None:
    module = load_runtime(name)
    assert module.__name__ == BACKENDS[name].module
    for function in ("unavailable", "device"):
        assert list(inspect.signature(getattr(module, function)).parameters) == ["backend"]
    parameters = inspect.signature(module.open_session).parameters
    assert set(parameters) == {"model", "threads", "backend", "allow_fallback"}
    assert {one for one in parameters if parameters[one].kind is inspect.Parameter.KEYWORD_ONLY} == {
        "threads", "backend", "allow_fallback",
    }  # fmt: skip


@pytest.mark.parametrize("name", WITH_CODE)
def test_a_backend_with_a_module_has_a_known_library(name: str) -> None:
    library = LIBRARIES[BACKENDS[name].library]
    assert library.packages and library.imports
    assert isinstance(version(name), str)


@pytest.mark.parametrize("name", WITH_CODE)
def test_unavailable_gives_none_or_one_sentence(name: str) -> None:
    reason = load_runtime(name).unavailable(name)
    assert reason is None or (reason and "\n" not in reason)


@pytest.mark.parametrize("name", WITHOUT_CODE)
def test_a_backend_without_a_module_is_only_for_targets(name: str) -> None:
    backend = BACKENDS[name]
    assert backend.for_targets and not backend.default and not backend.library
    assert name in targetable() and name not in runnable()


def test_both_kinds_of_backends_exist() -> None:
    assert WITH_CODE and WITHOUT_CODE


def test_published_names_occur_in_the_table_of_published_latencies(repository: Path) -> None:
    with (repository / "targets" / "published_latencies.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    published = {(row["runtime"], "npu" if row["processor"] == "mcu" else row["processor"]) for row in rows}
    named = {(backend.published, backend.device) for backend in BACKENDS.values() if backend.published}
    assert named and named <= published


def test_default_backends_can_run_and_open_every_exported_format() -> None:
    assert default_backends() and set(default_backends()) <= set(runnable())
    assert {BACKENDS[name].suffix for name in default_backends()} == {".tflite", ".onnx"}


def test_the_suffix_is_that_of_the_format_and_empty_for_keras() -> None:
    suffixes = {backend.format: backend.suffix for backend in BACKENDS.values()}
    assert suffixes == {"tflite": ".tflite", "onnx": ".onnx", "keras": ""}
