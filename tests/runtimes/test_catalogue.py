"""Every entry of the catalogue is either a backend that opens files or a runtime that only a target names."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from edgetl.runtimes import load_runtime
from edgetl.runtimes.catalogue import BACKENDS, LIBRARIES, default_backends, runnable, targetable


@pytest.mark.parametrize("name", runnable())
def test_a_runnable_backend_has_a_module_with_the_functions_of_the_contract(name: str) -> None:
    module = load_runtime(name)
    for function in ("unavailable", "device", "open_session"):
        assert callable(getattr(module, function, None)), f"{module.__name__} has no {function}"


@pytest.mark.parametrize("name", runnable())
def test_a_runnable_backend_names_a_known_library(name: str) -> None:
    assert BACKENDS[name].library in LIBRARIES


def test_a_backend_without_a_module_is_only_for_targets() -> None:
    others = {name: backend for name, backend in BACKENDS.items() if not backend.module}
    assert others
    assert others.keys() <= targetable().keys()
    assert not others.keys() & runnable().keys()
    assert not any(backend.library or backend.default for backend in others.values())


def test_default_backends_can_run() -> None:
    assert default_backends()
    assert set(default_backends()) <= runnable().keys()


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("litert-cpu", ".tflite"), ("ort-cpu", ".onnx"), ("keras", "")],
    ids=["tflite", "onnx", "keras"],
)
def test_a_backend_opens_files_of_its_suffix_and_keras_a_folder(name: str, suffix: str) -> None:
    assert BACKENDS[name].suffix == suffix


def test_every_published_name_has_rows_in_the_table_of_published_latencies(repository: Path) -> None:
    with (repository / "targets" / "published_latencies.csv").open(newline="", encoding="utf-8") as file:
        runtimes = {row["runtime"] for row in csv.DictReader(file)}
    published = {backend.published for backend in BACKENDS.values()} - {""}
    assert published
    assert published <= runtimes
