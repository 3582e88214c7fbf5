"""What documents and messages tell a user to type, or to open, exists: commands, options, paths."""

from __future__ import annotations

import ast
import difflib
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import edgetl
from edgetl.commands.app import app
from edgetl.runtimes.catalogue import targetable
from tests.texts import REPOSITORY, Text, documents, parts, python_texts, texts

README = REPOSITORY / "README.md"
if not (REPOSITORY / "benchmarks").is_dir():
    pytest.skip("a source distribution carries no benchmarks", allow_module_level=True)

# --- what there is -------------------------------------------------------------------------------------------------

TREE: Any = typer.main.get_command(app)


def _walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    options = {name for one in command.params for name in (*one.opts, *one.secondary_opts) if name.startswith("-")}
    yield path, options | {"--help"}
    for name, inner in getattr(command, "commands", {}).items():
        yield from _walk(inner, (*path, name))


COMMANDS: dict[tuple[str, ...], set[str]] = dict(_walk(TREE))
GROUPS = {path[:-1] for path in COMMANDS if path}
EVERY_OPTION = set().union(*COMMANDS.values())

# Options of programs that edgetl calls or that a text tells a user to call: an option that follows the program's name in
# a text must be one of these. Lists of arguments in code have no program's name beside them: that file's program is below.
OTHER_PROGRAMS = {
    "pip": {"--upgrade", "--no-deps", "--only-binary", "--platform", "--python-version", "--quiet", "--dest", "--no-index",
            "--find-links", "--disable-pip-version-check", "--no-input", "--no-cache-dir", "--progress-bar"},
    "benchmark_model": {"--graph", "--num_threads", "--num_runs", "--min_secs", "--max_secs", "--warmup_runs",
                        "--warmup_min_secs", "--enable_op_profiling", "--use_xnnpack", "--use_gpu", "--use_nnapi",
                        "--disable_nnapi_cpu"},
    "onnxruntime's build": {"--use_xnnpack"},
}  # fmt: skip
CALLED_FROM = {
    "edgetl/core/package_index.py": "pip",
    "edgetl/commands/bench/remote/board.py": "pip",
    "edgetl/commands/bench/remote/client.py": "pip",
    "edgetl/runtimes/litert_accelerated.py": "pip",
    "edgetl/commands/bench/remote/adb.py": "benchmark_model",
    "edgetl/commands/bench/logs/litert.py": "benchmark_model",
    "edgetl/runtimes/ort.py": "onnxruntime's build",
}
# Files that a build leaves in its bundle, and names that stand for a user's own.
BUNDLE = {"recipe.toml", "labels.txt", "golden/", "flips/", "models/"}
USERS_OWN = {"my-board.toml", "rows.csv", "app.csv"}
# Files of other projects: in PyTorch, LiteRT's wheel and ONNX Runtime.
ELSEWHERE = {"torch/serialization.py", "ai_edge_litert/tools/benchmark_litert_model.py", "docs/ContribOperators.md"}

# --- what texts name -----------------------------------------------------------------------------------------------

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")
_CODE = re.compile(r"`([^`]+)`|^    (\S.*)$", re.MULTILINE)
_PATH = re.compile(r"(?<![\w/.~{}-])(?:[\w*-][\w.*-]*/)*[\w*-][\w.*-]*\.(?:py|md|toml|csv|css|j2)\b(?!/|\.\w)")
_FOLDER = re.compile(r"(?<![\w/.~{}-])(?:edgetl|tests|benchmarks|targets|calibration)/(?:[a-z_]+/)*(?=[\s`.,;)])")


def commands_in(text: Text) -> Iterator[tuple[int, str]]:
    """(position, command line) of what begins with `edgetl`: in code of a document or docstring, and in messages."""
    for match in _CODE.finditer(text.text):
        code = match[1] or match[2]
        if re.match(r"(?:[A-Z_]+=\S+ )?edgetl\b", code) and (match[1] or text.kind == "document"):
            yield match.start(), code
    if text.kind == "string" and re.match(r"edgetl [a-z]+", text.text) and "`" not in text.text:
        yield 0, text.text


def _is_verb(word: str) -> bool:
    """Whether a message is a sentence ("edgetl needs Python 3.11"), and not a command, perhaps a misspelt one."""
    names = [path[0] for path in COMMANDS if len(path) == 1]
    return word not in names and (word[:-1] in names or not difflib.get_close_matches(word, names, cutoff=0.75))


def command_faults(text: Text) -> Iterator[str]:
    """Commands that do not exist, and options that their command does not have."""
    for position, line in commands_in(text):
        words = re.sub(r"^(?:[A-Z_]+=\S+ )?edgetl\b", "", line.split("#")[0]).split()
        path: tuple[str, ...] = ()
        if text.kind == "string" and "`" not in text.text and _is_verb(words[0]):
            continue
        while words and (*path, words[0].split("|")[0].rstrip(",.;:")) in COMMANDS:
            path = (*path, words.pop(0).rstrip(",.;:").split("|")[0])
        if words and re.fullmatch(r"[a-z]+", words[0]) and path in GROUPS:
            yield f"{text.place(position)}: no command `edgetl {' '.join((*path, words[0]))}`"
        for option in _OPTION.findall(" ".join(words)):
            if option not in COMMANDS[path]:
                yield f"{text.place(position)}: `edgetl {' '.join(path)}` has no option {option}"


def option_faults(text: Text) -> Iterator[str]:
    """Options that no command has, or that the command a message belongs to does not have."""
    name = text.file.relative_to(REPOSITORY).as_posix() if text.file.is_relative_to(REPOSITORY) else str(text.file)
    parts = Path(name).parts
    known = set(EVERY_OPTION)
    if (
        text.kind != "document"
        and parts[:2] == ("edgetl", "commands")
        and len(parts) > 2
        and "edgetl " not in text.text
    ):
        own = {"build": ("build", "plan", "init")}.get(Path(parts[2]).stem, (Path(parts[2]).stem,))
        known = set().union(*(options for path, options in COMMANDS.items() if path[:1] and path[0] in own)) or known
    known |= OTHER_PROGRAMS.get(CALLED_FROM.get(name, ""), set())
    programs = [program for program in OTHER_PROGRAMS if re.search(rf"\b{program}\b", text.text)]
    for match in _OPTION.finditer(text.text):
        before = text.text[: match.start()].rsplit("\n", 1)[-1]
        other = any(program in before and match[0] in OTHER_PROGRAMS[program] for program in programs)
        if match[0] not in known and not other and not _benchmark_option(text.file, before, match[0]):
            yield f"{text.place(match.start())}: no command here has the option {match[0]}"


def _benchmark_option(file: Path, before: str, option: str) -> bool:
    """Whether an option after a benchmark's name, or in the benchmarks' own document, is one of its parser's."""
    folder = REPOSITORY / "benchmarks"
    named = folder.glob("*.py") if file.parent == folder else map(folder.joinpath, re.findall(r"\w+\.py\b", before))
    return any(f'"{option}"' in program.read_text() for program in named if program.is_file())


def _is_source(text: Text, position: int) -> bool:
    """Whether a position in a .toml file is in a value, not in a comment: values name files of those who published."""
    line = text.text[:position].rsplit("\n", 1)[-1]
    return text.file.suffix == ".toml" and "#" not in line


def path_faults(text: Text) -> Iterator[str]:
    """Files and folders that are not in the repository: from its top, beside the text's file, or in one of its rooms."""
    for pattern in (_PATH, _FOLDER):
        for match in pattern.finditer(text.text):
            path = match[0]
            if path in BUNDLE | USERS_OWN | ELSEWHERE or _is_source(text, match.start()):
                continue
            if text.text[: match.start()].endswith(("://", "out/")):
                continue
            bases = [REPOSITORY, text.file.parent]
            if f"file={path}\n" in text.text:  # a file that the document itself tells to add
                continue
            if text.file == REPOSITORY / "edgetl/README.md" and "/" not in path:
                # The map names files beside their room.
                bases += [each for each in text.file.parent.rglob("*") if each.is_dir()]
            if text.kind != "document":
                # Code says "command.py" for the one of each command, and "quantization/ties.py" for its neighbours.
                bases += [
                    each for each in text.file.parent.glob("*") if text.file.name == "__init__.py" and each.is_dir()
                ]
                bases += [REPOSITORY / "edgetl"] if "/" in path else []
                # A name alone is joined to its folder by the code around it.
                bases += [REPOSITORY / each for each in ("targets", "benchmarks/peers")] if text.text == path else []
            if not any(list(base.glob(path.rstrip("/"))) for base in bases if base.is_dir()):
                yield f"{text.place(match.start())}: there is no {path}"


def faults_of(text: Text) -> list[str]:
    found = [*command_faults(text), *path_faults(text)]
    # benchmarks/*.py declare options of their own, the Makefile calls other programs, pages have CSS variables.
    own = text.file.is_relative_to(REPOSITORY / "benchmarks") and text.file.suffix == ".py"
    if not own and text.file.name != "Makefile" and text.file.suffix != ".j2":
        found += option_faults(text)
    return found


@pytest.mark.parametrize("part", parts())
def test_texts_name_only_what_exists(part: str) -> None:
    found = list(dict.fromkeys(fault for text in texts(part) for fault in faults_of(text)))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("README.md", "    edgetl biuld ./photos"),
        ("README.md", "run `edgetl targets chekc x.toml`"),
        ("README.md", "run `edgetl inspect x --data photos`"),
        ("README.md", "`--max-dorp` is the limit"),
        ("README.md", "the map is [here](edgetl/REDME.md)"),
        ("README.md", "`python benchmarks/estimate.py --cvs x`"),
        ("targets/README.md", "see `edgetl/target.py`"),
        ("edgetl/commands/bench/remote/ssh.py", 'fix = "or name the one to use with --python"'),
        ("edgetl/commands/bench/run.py", 'fix = f"name {1} with --student"'),
        ("edgetl/core/store.py", 'fix = "`edgetl cache purge` empties it"'),
        ("edgetl/core/store.py", 'fix = f"edgetl data ftech {1}"'),
        ("edgetl/core/store.py", 'fix = f"edgetl docter"'),
        ("edgetl/core/store.py", 'fix = "pip install x --upgarde"'),
        ("edgetl/core/store.py", "# see targets/REDME.md"),
        ("edgetl/core/store.py", '"""See edgetl/stages/plann.py."""'),
    ],
)
def test_a_planted_fault_is_found(file: str, source: str) -> None:
    path = REPOSITORY / file
    texts = [Text(path, 1, source, "document")] if path.suffix == ".md" else python_texts(path, source)
    assert [fault for text in texts for fault in faults_of(text)]


def test_every_program_called_from_a_file_is_still_called_from_it() -> None:
    for file, program in CALLED_FROM.items():
        texts = "\n".join(text.text for text in python_texts(REPOSITORY / file))
        assert OTHER_PROGRAMS[program] & set(_OPTION.findall(texts)), f"{file} names no option of {program}"


# --- command lines of the documents --------------------------------------------------------------------------------


def command_lines(document: Path, program: str = "edgetl") -> list[str]:
    """Lines of code blocks that call a program, without comments and without what the shell does."""
    lines = []
    for match in re.finditer(r"^    (\S.*)$", document.read_text(encoding="utf-8"), re.MULTILINE):
        words = shlex.split(match[1], comments=True, posix=False) if program in match[1] and "'" not in match[1] else []
        words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word)]
        if words and words[0] == program:
            lines.append(" ".join(words))
    return lines


LINES = {document: command_lines(REPOSITORY / document) for document in ("README.md", "targets/README.md")}


def parse(line: str) -> None:
    """Let Typer parse a command line, without running it. Raises typer's UsageError for what it does not know."""
    words = shlex.split(line.split(" > ")[0])[1:]
    command, context = TREE, None
    while True:
        context = command.make_context((context and command.name) or "edgetl", words, parent=context)
        if not hasattr(command, "commands"):
            return
        _, command, words = command.resolve_command(context, context._protected_args + context.args)


@pytest.mark.parametrize("line", [line for lines in LINES.values() for line in lines])
def test_every_command_line_parses(line: str) -> None:
    parse(line)


@pytest.mark.parametrize(
    "line", ["edgetl plan x --target a --quantise auto", "edgetl plan --target a", "edgetl cache empty"]
)
def test_a_wrong_command_line_does_not_parse(line: str) -> None:
    with pytest.raises(Exception, match=r"[Nn]o such|[Mm]issing"):
        parse(line)


# Command line -> what it is run with here, and its exit code. Files of the example become a small net's.
RUN: dict[str, tuple[str, int]] = {
    "edgetl data check ./photos": ("data check {photos}", 0),
    "edgetl inspect out/models/student.int8.tflite": ("inspect {models}/net.tflite", 0),
    "edgetl verify a.tflite b.onnx --data test_photos": ("verify {models}/net.tflite {models}/net.onnx --data {photos}", 6),
    "edgetl bench out": ("bench {models}/net.tflite --backend litert-cpu --seconds 0.2", 0),
    "edgetl bench out --backend ort-cpu --threads 1,2,4 --profile --csv rows.csv --plot pareto.png": (
        "bench {models}/net.onnx --backend ort-cpu --threads 1 --profile --csv rows.csv --seconds 0.2", 0),
    "edgetl bench --compare before.tflite after.tflite": (
        "bench --compare {models}/net.tflite {models}/net.tflite --seconds 0.5 --max-ratio 9", 0),
    "edgetl estimate out --target raspberry-pi-4": ("estimate {models}/net.tflite --target raspberry-pi-4", 0),
    "edgetl targets list": ("targets list", 0),
    "edgetl targets show raspberry-pi-4": ("targets show raspberry-pi-4", 0),
    "edgetl targets show raspberry-pi-4 --toml > my-board.toml": ("targets show raspberry-pi-4 --toml", 0),
    "edgetl targets check my-board.toml": ("targets check my-board.toml", 0),
}  # fmt: skip
# Command lines that are only parsed here, with the reason.
ONLY_PARSED = {
    "edgetl build": "trains for minutes: `make demo` and tests/end_to_end/test_build.py run it",
    "edgetl verify out": "needs a bundle: tests/end_to_end/test_verify.py builds one and runs these options",
    "edgetl bench out --on": "needs a board",
}


def test_every_command_line_is_run_or_has_a_reason_not_to() -> None:
    for line in (line for lines in LINES.values() for line in lines):
        assert line in RUN or any(line.startswith(start) for start in ONLY_PARSED), line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_net: Callable[..., Path]) -> Path:
    """A folder with photos of the classes of a tiny net, that net as files, and a target of the user's own."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("docs")
    for i in range(36):
        path = folder / "photos" / "abc"[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.frombytes("RGB", (20, 20), bytes((7 * i * j + i) % 256 for j in range(1200))).save(path)
    tiny_net(folder / "models")
    shown = (REPOSITORY / "targets/raspberry-pi-4.toml").read_text()
    (folder / "my-board.toml").write_text(shown.replace('"raspberry-pi-4"', '"my-board"', 1))
    return folder


def run_edgetl(arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(arguments.format(photos=folder / "photos", models=folder / "models"))
    env = {**os.environ, "EDGETL_CACHE": str(folder / "cache"), "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "edgetl", *words], env=env, cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(("arguments", "code"), RUN.values(), ids=RUN)
def test_the_command_lines_of_the_documents_run(arguments: str, code: int, place: Path) -> None:
    done = run_edgetl(arguments, place)
    assert done.returncode == code, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    ["doctor", "data list", "cache list", "init --out recipe.toml", "plan {photos} --target ./my-board.toml"],
)
def test_commands_named_in_prose_run(arguments: str, place: Path) -> None:
    done = run_edgetl(arguments, place)
    assert done.returncode == 0, done.stdout + done.stderr


def test_make_targets_that_are_named_exist() -> None:
    """`make demo`, `make test`: the first things a reader types."""
    makefile = (REPOSITORY / "Makefile").read_text()
    named = {
        name
        for part in parts()
        for text in texts(part)
        for code in _CODE.finditer(text.text)
        for name in re.findall(r"^make ([a-z-]+)", code[1] or code[2])
    }
    assert {"demo", "test"} <= named
    assert named <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize("document", documents(), ids=lambda text: str(text.file.relative_to(REPOSITORY)))
def test_links_lead_to_files_and_headings(document: Text) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", document.text):
        file = document.file.parent / target if target else document.file
        assert file.is_file(), f"{document.file.name} links to {target}"
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, f"{document.file.name} links to #{anchor}"


def test_extras_that_are_named_exist() -> None:
    extras = set(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = {
        name
        for part in parts()
        for text in texts(part)
        for names in re.findall(r"(?:edgetl|\.)\[([a-z,]+)\]", text.text)
        for name in names.split(",")
    }
    assert "build" in named
    assert named <= extras


def test_the_python_example_calls_the_api_as_it_is() -> None:
    (block,) = re.findall(r"(?:^    .*\n)*^    import edgetl\n(?:^    .*\n)+", README.read_text(), re.MULTILINE)
    calls = [node for node in ast.walk(ast.parse(inspect.cleandoc(block))) if isinstance(node, ast.Call)]
    assert calls
    for call in calls:
        function = getattr(edgetl, call.func.attr)  # type: ignore[attr-defined]
        inspect.signature(function).bind(*call.args, **{one.arg: one.value for one in call.keywords})


def test_the_readme_names_the_runtimes_that_take_no_more_than_int8() -> None:
    (listed,) = re.findall(
        r"goes beyond int8 only\s+if the target's runtimes support it \(([^)]+) do not\)", README.read_text()
    )
    assert re.findall(r"`([^`]+)`", listed) == [name for name, one in targetable().items() if not one.int16]
