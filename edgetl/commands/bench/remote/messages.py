"""Messages between `client.py` here and `agent.py` on a board, as JSON has them. Pure, standard library.

`board.py`, which passes them on, is a single file for older Pythons and cannot import this one.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from edgetl.commands.bench.disturbance import Disturbance
from edgetl.commands.bench.protocol import Images
from edgetl.commands.bench.rows import MachineJson


class JobJson(TypedDict):
    """model, and the paths in images: names of files on the board."""

    model: str
    backend: str
    threads: int
    shown: str
    images: Images


class AgentRequest(TypedDict):
    """jobs, settings: of "measure" only. settings: as schedule.Settings, whose `cores` then has text for keys."""

    do: Literal["facts", "backends", "measure"]
    jobs: NotRequired[list[JobJson]]
    settings: NotRequired[dict[str, Any]]


class Facts(TypedDict, total=False):
    """What a board is. cores_by_speed: fastest first. backends: name -> why it is not ready, "" if it is."""

    machine: MachineJson
    cores_by_speed: list[int]
    available_bytes: int
    edgetl: str
    backends: dict[str, str]


class FactsMessage(TypedDict):
    facts: Facts


class VisitMessage(TypedDict):
    """Sent before a visit to a row; row: its number among the jobs."""

    doing: str
    row: int
    done: int
    count: int


class NewsMessage(TypedDict):
    """What is new of a row, by the name of the field in Row: the new values of agent.GROWING, the others complete."""

    row: int
    news: dict[str, Any]


class EndMessage(TypedDict):
    disturbance: Disturbance
    interrupted: bool


AgentMessage = FactsMessage | VisitMessage | NewsMessage | EndMessage


class Hello(TypedDict):
    """The board's answer to "hello". version: of its Python."""

    python: str
    version: list[int]
    architecture: str
    free_bytes: int


class Installed(TypedDict):
    """The board's answer to "install"."""

    python: str
    seconds: float
