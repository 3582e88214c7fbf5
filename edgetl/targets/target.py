"""Target: the device to build for, its budget and published figures of its speed. Files: targets/*.toml."""

from __future__ import annotations

import difflib
import platform
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError
from pydantic_core import PydanticCustomError

from edgetl.core import machine
from edgetl.core.errors import UsageError
from edgetl.core.paths import data_folder
from edgetl.core.validation import explain_validation
from edgetl.runtimes.catalogue import targetable

Precision = Literal["float32", "float16", "dynamic", "int8"]
# A target with this device.match stands for the machine that reads it; its device is detected.
ANY_MACHINE = "*"


def _known_runtime(name: str) -> str:
    known = targetable()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise PydanticCustomError("runtime", "unknown runtime{hint}; known runtimes: {known}", {"hint": hint, "known": ", ".join(known)})  # fmt: skip
    return name


_Runtime = Annotated[str, AfterValidator(_known_runtime)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Device(_Frozen):
    """The facts of the device. match: edgetl runs on it if this is in the model name of the device tree."""

    description: str
    processor: str
    architecture: Literal["x86_64", "aarch64", "armv7l", "cortex-m", "detected"]
    os: Literal["linux", "android", "windows", "none", "detected"]
    cores: PositiveInt
    memory_bytes: PositiveInt | None = None
    accelerators: tuple[str, ...] = ()
    match: str = ""


class Budget(_Frozen):
    """The limits a build must meet on this device: choices, not facts; `reason` says why these."""

    reason: str = Field(min_length=10)
    top1_drop_pp: Annotated[float, Field(gt=0, le=100)]
    model_bytes: PositiveInt
    latency_p90_ms: PositiveFloat | None = None
    threads: PositiveInt = 1


class Peak(_Frozen):
    """Upper bounds of the device's speed, each with a source; None if none is published."""

    macs_per_second_float32: PositiveFloat | None = None
    macs_per_second_int8: PositiveFloat | None = None
    memory_bytes_per_second: PositiveFloat | None = None


class Reference(_Frozen):
    """A published latency of a known net on this device."""

    model: str
    precision: str
    input_size_px: PositiveInt
    runtime: str
    processor: str
    threads: str = ""
    latency_ms: PositiveFloat
    statistic: str
    source: str
    note: str = ""


class Source(_Frozen):
    """Where facts of this file were published. facts: their keys."""

    facts: tuple[str, ...] = Field(min_length=1)
    where: str = Field(min_length=8)


class Target(_Frozen):
    """A device to build models for. targets/README.md documents every field, its unit and what it decides."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    device: Device
    runtimes: tuple[_Runtime, ...] = Field(min_length=1)
    precision: Precision
    # How convolution kernels are scaled in int8: one scale per output channel, or one per kernel if the device's
    # compiler supports nothing else.
    weights: Literal["per-channel", "per-tensor"] = "per-channel"
    budget: Budget
    peak: Peak = Peak()
    references: tuple[Reference, ...] = ()
    sources: tuple[Source, ...] = ()

    def is_this_machine(self) -> bool:
        """Whether a latency measured here is a latency of the target."""
        if self.device.match == ANY_MACHINE:
            return True
        return bool(self.device.match) and self.device.match in machine.board()


def targets_folder() -> Path:
    """Where the shipped targets are."""
    return data_folder("targets")


def shipped_targets() -> dict[str, Path]:
    """Name -> file, sorted by name."""
    return {path.stem: path for path in sorted(targets_folder().glob("*.toml"))}


def load_target(name_or_path: str) -> Target:
    """Load a shipped target by its name, or the user's own target from a .toml file.

    Raises UsageError if there is no such target or the file is not valid.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        shipped = shipped_targets()
        if name_or_path not in shipped:
            near = difflib.get_close_matches(name_or_path, shipped, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"There is no target named {name_or_path!r}.",
                why=f"known targets: {', '.join(shipped)}",
                fix=f"{hint}`edgetl targets list` shows them; for your own file give its path, ending in .toml",
            )
        path = shipped[name_or_path]
    return read_target(path)


def read_target(path: Path) -> Target:
    """Parse and validate a target file. Raises UsageError with every fault of the file in one message."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"There is no target file {path}.",
            fix="check the path, or copy a shipped target: `edgetl targets show NAME --toml`",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The target file {path} cannot be read.", why=str(error)) from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The target file {path} is not valid TOML.", why=str(error)) from None
    if isinstance(data.get("device"), dict) and data["device"].get("match") == ANY_MACHINE:
        data["device"] = {**data["device"], **_detected_device()}
    try:
        target = Target.model_validate(data)
    except ValidationError as error:
        raise UsageError(
            f"The target file {path} is not a valid target.",
            why=explain_validation(error, Target),
            fix="targets/README.md documents every field",
        ) from None
    if target.name != path.stem:
        raise UsageError(
            f"The target file {path} has the name {target.name!r} in it.",
            why="reports and output folders are named by it, so it must be the file's own name",
            fix=f'rename the file to {target.name}.toml, or set name = "{path.stem}" in it',
        )
    return target


def _detected_device() -> dict[str, object]:
    arch = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64", "armv7l": "armv7l"}
    system = platform.system().lower()
    return {
        "processor": machine.processor(),
        "architecture": arch.get(platform.machine(), "detected"),
        "os": system if system in ("linux", "windows") else "detected",
        "cores": machine.cores(),
        "memory_bytes": machine.memory_bytes() or None,
    }
