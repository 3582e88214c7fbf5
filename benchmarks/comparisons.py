"""A test of `edgetl bench --compare`: how often is A slower than A, and how often is a net with 10% more work detected?

    python benchmarks/comparisons.py [--tries N] [--seconds S] [--csv FILE]

Each try does what the command does: two processes, rounds in turns, a bootstrap over rounds, and a second measurement in new
processes before a net is called slower. The nets are chains of 3 x 3 convolutions with random weights, int8 on LiteRT and
ONNX Runtime: 40 convolutions compared with the same file and with 44.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tables import print_table

from edgetl.commands.bench.compare import measure_two
from edgetl.commands.bench.rows import Job
from edgetl.commands.bench.schedule import Measured, Settings, measure
from edgetl.core import machine

# The nets are those of the tests.
sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.models import write

HEADER = [
    "backend",
    "candidate",
    "tries",
    "slower",
    "within",
    "undecided",
    "ratio",
    "ratio_least",
    "ratio_most",
    "processor",
]
MAX_RATIO = 1.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    settings = Settings(seconds=arguments.seconds, visit_s=arguments.seconds / 30, warmup_s=0.2, paired=True)

    def run(some: Sequence[Job]) -> Measured:
        return measure(some, settings, lambda *_: None)

    table = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, "a", 40)
        write(folder, "ten-percent-more", 44)
        for backend, suffix in (("litert-cpu", "tflite"), ("ort-cpu", "onnx")):
            for candidate in ("a", "ten-percent-more"):
                jobs = [Job(folder / f"{file}.{suffix}", backend, 1) for file in ("a", candidate)]
                comparisons = []
                for _ in range(arguments.tries):
                    comparison = measure_two(jobs, run, max_ratio=MAX_RATIO)[3]
                    assert comparison is not None
                    comparisons.append(comparison)
                ratios = sorted(one["ratio"] for one in comparisons)
                verdicts = [one["verdict"] for one in comparisons]
                counts = [verdicts.count(verdict) for verdict in ("slower", "within", "undecided")]
                figures = [statistics.median(ratios), ratios[0], ratios[-1]]
                table.append(
                    [
                        backend,
                        candidate,
                        len(comparisons),
                        *counts,
                        *(f"{value:.3f}" for value in figures),
                        machine.processor(),
                    ]
                )
    with arguments.csv.open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *table])
    print_table(HEADER, table)


if __name__ == "__main__":
    main()
