"""What a verification finds, as types of the JSON that `edgetl verify --json` prints. Light."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from edgetl.bundle.records import GoldenReplay
from edgetl.core.machine import Machine
from edgetl.measure.records import Accuracy, ByClass, Calibration, ParityMatrix, ParityPair
from edgetl.verdicts.check import CheckRow


class Share(TypedDict):
    """A share of photos, with its 95% interval."""

    share: float
    interval: list[float]


class TriedWay(TypedDict):
    """One way of preparing photos that was tried. share: of photos answered as expected. gained, lost: photos on which it does better and
    worse than the contract's way; p: of neither (McNemar). better: significantly, after Bonferroni's correction."""

    name: str
    share: float
    interval: list[float]
    gained: int
    lost: int
    p: float
    better: bool


Outcome = Literal["named", "partly", "as it should be", "none", "contract changed"]


class Expected(TypedDict):
    """How accurate a file should be: top-1 on n photos, and who measured it."""

    top1: float
    n: int
    by: str


class FoundRow(TypedDict):
    """What diagnosis.diagnose finds. names: the mistakes, several where these photos do not distinguish them; `mends` are their fixes. right, best:
    photos answered as expected with the contract's way, with the best. same_here: mistakes that change none of these photos."""

    outcome: Outcome
    names: list[str]
    mends: list[str]
    n: int
    right: Share
    best: Share | None
    tried: list[TriedWay]
    same_here: list[str]
    singles_tried: int
    pairs_tried: int


class Diagnosis(FoundRow):
    """What explains the answers of a file on a backend ("accuracy", with `expected`), or of an app ("answers", with the fields after it).

    contract: the contract's way in words; wanted: those of `names`. made_golden: whether each of them made golden/; golden_made_with: what made
    it, None if unknown. replays_golden: the file still gives the answers that the build recorded. answered: photos that the app answered; strangers: lines of its CSV that name no photo.
    """

    of: Literal["accuracy", "answers"]
    file: str
    backend: str
    contract: str
    wanted: list[str]
    made_golden: list[bool]
    golden_made_with: str | None
    replays_golden: NotRequired[bool]
    expected: NotRequired[Expected | None]
    answered: NotRequired[int]
    strangers: NotRequired[int]
    has_probabilities: NotRequired[bool]


class VersionRow(TypedDict):
    """One file on one runtime. confusion: photo counts by [true class][answered class]. placement: executor -> number of ops.
    output_step: of the output's grid, 0.0 for floats. against_float: compared with the reference file, None for itself."""

    accuracy: Accuracy
    confusion: list[list[int]]
    by_class: ByClass
    calibration: Calibration
    softmax_applied: bool
    placement: dict[str, int]
    output_step: float
    against_float: NotRequired[ParityPair | None]


class Measured(TypedDict):
    """What versions.measure_versions measures. runtimes: backend -> "ready", or why it is not. versions: by "file@runtime"."""

    runtimes: dict[str, str]
    versions: dict[str, VersionRow]
    parity_matrix: ParityMatrix
    golden: GoldenReplay | None


class FileRow(TypedDict):
    """One file. preprocessing: in words. origins: where each setting was read, for a file without a bundle."""

    name: str
    format: str
    precision: str
    ships: bool
    bytes: int
    preprocessing: str
    origins: dict[str, str | None]


class LeftOut(TypedDict):
    """A photo that cannot be used."""

    what: str
    why: str


class PhotosRow(TypedDict):
    """The photos. split: "test" where the data has such a split, otherwise "all". trained_on: the bundle was built from them, so most of
    them were used for training. classes: of files without a bundle."""

    source: str
    split: str
    n: int
    per_class: dict[str, int]
    fingerprint: str
    trained_on: bool
    left_out: list[LeftOut]
    classes: NotRequired[list[str]]


class BundleRow(TypedDict):
    """The bundle; None in a verification of files alone."""

    folder: str
    target: str
    classes: list[str]
    files: list[dict[str, Any]]


class Verification(Measured):
    """What `edgetl verify` found. reference: the version that the others are compared with, of files without a bundle."""

    bundle: BundleRow | None
    files: list[FileRow]
    notes: list[str]
    data: PhotosRow
    max_drop_pp: float | None
    reference: str | None
    machine: Machine
    diagnoses: list[Diagnosis]
    checks: list[CheckRow]
