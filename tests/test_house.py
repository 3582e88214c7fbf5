"""The rules of edgetl/README.md: which room may import which, what stays light, how large things may grow."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "edgetl"
FILES = sorted(PACKAGE.rglob("*.py"))
# Imports point down this list; rooms of one line do not import each other.
ORDER = (
    ("commands",),
    ("report",),
    ("latency", "stages"),
    ("targets",),
    ("bundle", "runtimes", "training"),
    ("backbones", "formats"),
    ("console", "quantization", "tasks"),
    ("verdicts",),
    ("dataset", "graph", "measure"),
    ("core",),
)
LEVEL = {room: level for level, rooms in enumerate(reversed(ORDER)) for room in rooms}
# Of the commands, the left may import the right.
COMMANDS_MAY = {("build", "estimate"), ("build", "inspect"), ("estimate", "inspect"), ("app", "*")}
HEAVY = (
    "numpy",
    "tensorflow",
    "tf_keras",
    "onnxruntime",
    "onnx",
    "ai_edge_litert",
    "PIL",
    "h5py",
    "matplotlib",
    "jinja2",
)
API = {"build", "predict", "verify", "bench", "estimate", "inspect", "ship"}


@dataclass(frozen=True)
class Import:
    """One import of a module of edgetl. file: where it stands, with `room`."""

    file: Path
    line: int
    module: str


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file) for file in FILES}


def imports_of(file: Path, text: str | None = None) -> Iterator[Import]:
    """Every import of edgetl's own modules, also those inside of functions."""
    tree = ast.parse(file.read_text(encoding="utf-8") if text is None else text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{file.name}:{node.lineno}: a relative import; write the whole name")
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            for argument in node.args:
                if isinstance(argument, ast.Constant) and str(argument.value).split(".")[0] == "edgetl":
                    yield Import(file, node.lineno, str(argument.value))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "edgetl":
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield Import(file, node.lineno, full if full in MODULES else node.module)
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "edgetl":
                    yield Import(file, node.lineno, name.name)


def room_of(module: str) -> str:
    """ "" for the API and `python -m edgetl`, which are above all rooms."""
    return module.split(".")[1] if "." in module and module != "edgetl.__main__" else ""


def command_of(module: str) -> str:
    return module.split(".")[2] if module.count(".") > 1 else ""


def fault_of(found: Import) -> str:
    """Why an import breaks the rule; "" if it does not."""
    here, there = module_of(found.file), found.module
    if not room_of(here):
        return ""
    if room_of(here) != room_of(there):
        allowed = LEVEL.get(room_of(there), len(ORDER)) < LEVEL[room_of(here)]
        return "" if allowed else f"{room_of(here)} may not import {room_of(there) or 'the API'}"
    if room_of(here) == "commands":
        one, other = command_of(here), command_of(there)
        if one != other and not {(one, other), (one, "*")} & COMMANDS_MAY:
            return f"the command {one} may not import {other}"
    return ""


def test_no_file_lies_flat_in_the_package() -> None:
    flat = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert flat == {"__init__.py", "__main__.py", "py.typed", "README.md"}


def test_every_room_has_its_place_in_the_order_and_hides_no_function_of_the_api() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name not in ("__pycache__", "_data")}
    assert rooms == set(LEVEL)
    assert not rooms & API


def test_imports_point_down_the_order_of_rooms() -> None:
    faults = [
        f"{found.file.relative_to(PACKAGE.parent)}:{found.line} imports {found.module}: {fault}"
        for file in FILES
        for found in imports_of(file)
        if (fault := fault_of(found))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("core/words.py", "from edgetl.targets.target import Target"),
        ("core/words.py", "def f():\n    from edgetl.targets.target import Target"),
        ("dataset/scan.py", "from edgetl.measure import parity"),
        ("report/html.py", "import edgetl.commands.build.run"),
        ("commands/verify/run.py", "from edgetl.commands.bench import rows"),
        ("commands/inspect/run.py", "from edgetl.commands.estimate.run import estimate_path"),
        ("stages/split.py", "import edgetl"),
        ("core/words.py", "import importlib\nimportlib.import_module('edgetl.stages.plan')"),
    ],
    ids=[
        "up",
        "up, inside a function",
        "sideways",
        "a plain import",
        "command to command",
        "up among commands",
        "the API",
        "by name",
    ],
)
def test_the_rule_finds_what_breaks_it(file: str, text: str) -> None:
    (found,) = imports_of(PACKAGE / file, text)
    assert fault_of(found)


def test_a_relative_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="relative"):
        list(imports_of(PACKAGE / "core" / "words.py", "def f():\n    from ..targets import target"))


def test_the_map_shows_the_order_and_every_room() -> None:
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    block = "".join(line for line in text.splitlines(keepends=True) if line.startswith("    ") and ">" in line)
    assert tuple(tuple(sorted(rooms.replace(",", " ").split())) for rooms in block.split(">")) == tuple(
        tuple(sorted(rooms)) for rooms in ORDER
    )
    rooms = {name.split("/")[0] for name in re.findall(r"^\| `(\w+)/", text, re.MULTILINE)}
    assert rooms == set(LEVEL)
    assert "Files end at 400 lines, functions at 60, parameters at 8" in " ".join(text.split())
    assert len(text.splitlines()) <= 150, "a map is read at one go"


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """Imports inside functions count as well: a circle that only bites later is one all the same."""
    graph = {module_of(file): {found.module for found in imports_of(file)} - {module_of(file)} for file in FILES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize("library", ["typer", "rich"])
def test_only_commands_and_console_know_the_terminal(library: str) -> None:
    def uses(file: Path) -> bool:
        names = [
            name
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            for name in (
                [node.module or ""] if isinstance(node, ast.ImportFrom)
                else [each.name for each in node.names] if isinstance(node, ast.Import)
                else []
            )
        ]  # fmt: skip
        return any(name.split(".")[0] == library for name in names)

    users = {room_of(module_of(file)) for file in FILES if uses(file)}
    assert users and users <= {"commands", "console"}


# --- light modules -------------------------------------------------------------------------------------------------


def is_light(file: Path) -> bool:
    """What the command line and a board load before they know what is asked."""
    room = room_of(module_of(file))
    return (
        room in ("", "core", "console", "verdicts", "latency", "targets", "report")
        or file.name in ("command.py", "run.py", "view.py", "catalogue.py")
        or (room == "stages" and file.stem in ("recipe", "plan", "context"))
        or file.parent.name == "commands"
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


def test_light_modules_import_nothing_heavy(repository: Path) -> None:
    light = [module_of(file) for file in FILES if is_light(file) and file.name != "__main__.py"]
    assert len(light) > 60
    assert heavy_after_importing(repository, *light) == {name: [] for name in light}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("edgetl.tasks.photos.decode", ["numpy", "PIL"]), ("edgetl.quantization.integers", ["numpy"])],
    ids=["photos", "integers"],
)
def test_the_probe_tells_when_something_heavy_comes_in(module: str, heavy: list[str], repository: Path) -> None:
    assert heavy_after_importing(repository, "edgetl.stages.plan", module) == {"edgetl.stages.plan": [], module: heavy}


def test_help_loads_no_more_than_it_shows(repository: Path) -> None:
    """`edgetl --help` is what a new user types first, and `import edgetl` what a program does: neither waits."""
    program = "import json, sys; import edgetl.commands.app; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {*HEAVY, "pydantic", "rich.table", "rich.progress", "sqlite3", "urllib.request"}
    rooms = {room_of(name) for name in loaded if name.startswith("edgetl.")}
    assert rooms <= {"commands", "console", "core", "backbones"}
    program = "import json, sys; before = set(sys.modules); import edgetl; print(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True)
    # TYPE_CHECKING's own module aside, which Python's startup may or may not have loaded.
    assert {name for name in json.loads(done.stdout) if name.startswith("edgetl")} == {
        "edgetl", "edgetl.core", "edgetl.core.version",
    }  # fmt: skip


# --- sizes ---------------------------------------------------------------------------------------------------------


def functions_of(file: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            yield node


def test_no_file_is_longer_than_400_lines() -> None:
    lines = {str(file.relative_to(PACKAGE)): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert not {name: count for name, count in lines.items() if count > 400}


def test_no_function_is_longer_than_60_lines() -> None:
    """Its docstring and decorators left out: a public one gives shapes, units and sources."""
    long = {}
    for file in FILES:
        for node in functions_of(file):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            count = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            if count > 60:
                long[f"{file.relative_to(PACKAGE)}:{node.name}"] = count
    assert not long


def test_no_function_takes_more_than_8_parameters() -> None:
    """But commands and the API, whose parameters are the options that a user types."""
    many = {}
    for file in FILES:
        for node in functions_of(file) if file.name != "command.py" and file.parent != PACKAGE else ():
            arguments = node.args
            names = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > 8:
                many[f"{file.relative_to(PACKAGE)}:{node.name}"] = count
    assert not many
