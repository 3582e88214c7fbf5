"""What the rungs of the ladder (stages/ladder.py) share: the float student, its photos, and runs of the files written from it.
Results that several rungs need are computed once (`Known`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from edgetl.backbones.models import Classifier, load_model
from edgetl.core.store import Artifact
from edgetl.dataset.samples import Samples, load_split
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.fold import Rewrite, check_folded, folding
from edgetl.graph.graph import Graph
from edgetl.quantization.fake import all_tensors
from edgetl.quantization.net import QuantizedNet
from edgetl.quantization.ranges import Range, TensorStatistics
from edgetl.quantization.signal import Signal, compare_tensors, sensitivities
from edgetl.runtimes.litert import open_session, open_tensors
from edgetl.stages.context import Context
from edgetl.tasks.photos.batches import evaluation_batches, iterate
from edgetl.tasks.photos.contract import Normalization, View
from edgetl.training.fit import FitOptions, Fitting
from edgetl.training.loop import History
from edgetl.training.records import BeforeTraining

# Calibration photos per batch, and how many for signal-to-noise (a ratio of sums over thousands of values per photo is
# steady after a few): at most these, and no more than fit in this memory with all tensors of the net. DenseNet201 at
# 224 px has 190 MB of tensors per photo.
_BATCH, _SIGNAL_PHOTOS, _TENSOR_BYTES = 32, 16, 1 << 30


@dataclass(frozen=True)
class QatOptions:
    """Options of quantization-aware training. guide: the net that it follows. train_ranges: train ranges as well as weights."""

    fit: FitOptions
    guide: Literal["student", "teacher"]
    train_ranges: bool
    temperature: float
    label_weight: float


@dataclass(frozen=True)
class LadderOptions:
    """Options of the quantize stage. estimator: "best" compares all. budget_drop_pp: the target's accuracy budget.

    ships_integers: the target ships the quantized file. beyond_int8: its runtimes take more than int8. qat: None for a
    scheme that trains nothing.
    """

    scheme: Literal["ptq", "qat", "auto"]
    seed: int
    calibration_photos: int
    estimator: str
    budget_drop_pp: float
    ships_integers: bool
    per_channel: bool
    beyond_int8: bool
    qat: QatOptions | None

    @staticmethod
    def of(options: Mapping[str, Any]) -> LadderOptions:
        """From a step's options."""
        scheme, calibration, qat = options["scheme"], options["calibration"], None
        if scheme != "ptq":
            own = {name: options[name] for name in ("guide", "train_ranges", "temperature", "label_weight")}
            qat = QatOptions(FitOptions.of(options), **own)
        return LadderOptions(
            scheme,
            options["seed"],
            calibration["photos"],
            # auto compares them all: that takes seconds, and its first rung should be the best of its kind.
            "best" if scheme == "auto" else calibration["estimator"],
            options["budget_drop_pp"],
            options["ships_integers"],
            options["per_channel"],
            options["beyond_int8"],
            qat,
        )


@dataclass
class Known:
    """Results of earlier rungs, for later ones.

    estimator: "best" until one is chosen. statistics: pairs of a graph and the statistics of its tensors. stands_for: pairs of
    a graph with corrected biases and the float graph that it was made from. start: the net that costlier rungs begin from.
    most_sensitive: names of layers, the most sensitive first. float_probabilities: of the validation photos, [n, classes].
    history, before_training: of the qat rung.
    """

    estimator: str
    statistics: list[tuple[Graph, TensorStatistics]] = field(default_factory=list)
    stands_for: list[tuple[Graph, Graph]] = field(default_factory=list)
    start: QuantizedNet | None = None
    most_sensitive: list[str] = field(default_factory=list)
    float_probabilities: np.ndarray | None = None
    history: History = field(default_factory=History)
    before_training: BeforeTraining | None = None


@dataclass(frozen=True)
class Work:
    """A float student with its photos.

    fitting: the photos, and where training keeps its state. teacher_folder: the teacher's artifact. graph: the folded student.
    rewrites, fold_error: what folding did, and its largest relative error. calibration: photos for the ranges. batch_size:
    photos per batch, so that all tensors fit in memory. signal_photos: how many calibration photos signal-to-noise is
    measured on. probabilities_of: normalized images -> the float student's probabilities.
    """

    options: LadderOptions
    fitting: Fitting
    student: Classifier
    teacher_folder: Path
    input_range: Range
    graph: Graph
    rewrites: Sequence[Rewrite]
    fold_error: float
    calibration: Samples
    batch_size: int
    signal_photos: int
    probabilities_of: Callable[[Any], Any]
    known: Known

    @property
    def calibration_steps(self) -> int:
        """Batches of one pass over the calibration photos."""
        return -(-len(self.calibration) // self.batch_size)

    def images(self, samples: Samples) -> Iterator[Any]:
        """Normalized images, [batch, h, w, 3] at a time."""
        for pixels, _ in iterate(evaluation_batches(samples, self.fitting.view, batch_size=self.batch_size)):
            yield self.student.normalize(pixels)

    def calibration_batches(self) -> Iterator[Any]:
        """Normalized calibration images; progress is reported."""
        for images in self.images(self.calibration):
            yield images
            self.fitting.progress.advance(1, "ranges")

    def float_probabilities(self, samples: Samples) -> np.ndarray:
        """Of the float student, [n, classes]."""
        return np.concatenate([self.probabilities_of(images).numpy() for images in self.images(samples)])

    def run_files(self, nets: Sequence[QuantizedNet], samples: Samples) -> list[np.ndarray]:
        """Probabilities [n, classes] of each net's TFLite file; the photos are read once."""
        sessions = [open_session(self._write(net, i), threads=1) for i, net in enumerate(nets)]
        rows: list[list[Any]] = [[] for _ in nets]
        for images in self.images(samples):
            for row, session in zip(rows, sessions, strict=True):
                row.append(session.run(np.asarray(images)))
        for session in sessions:
            session.close()
        return [np.concatenate(row) for row in rows]

    def file_of(self, net: QuantizedNet, number: int = 0) -> Path:
        """Where run_files writes the file of the net at this position of its list."""
        return self.fitting.scratch / f"attempt-{number}.{net.precision}.tflite"

    def _write(self, net: QuantizedNet, number: int = 0) -> Path:
        path = self.file_of(net, number)
        path.write_bytes(
            write_tflite_int8(
                net.graph, net.integers(), float_nodes=net.float_nodes, description="attempt", metadata={}
            )
        )
        return path

    def exact(self, graph: Graph) -> Graph:
        """The float graph that a graph with corrected biases stands for; any other graph itself."""
        return next((before for after, before in self.known.stands_for if after is graph), graph)

    def signals(self, net: QuantizedNet) -> list[Signal]:
        """Each tensor of the net's file compared with float: with the student before its biases were corrected, or with
        the weights that QAT trained."""
        few = self._signal_images()
        tensors_of, exact = open_tensors(self._write(net)), outputs_of(self.exact(net.graph))
        names = [node.name for node in net.graph.nodes[1:]]

        def pairs() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
            for i in range(len(few)):
                expected = dict(zip(names, exact(few[i : i + 1]), strict=True))
                computed = tensors_of(few[i : i + 1])
                yield expected, {name: computed[name] for name in names if name in computed}

        return compare_tensors(net.graph, pairs())

    def sensitivities(self, net: QuantizedNet) -> list[Signal]:
        """The logits' signal-to-noise when one layer alone is quantized."""
        progress = self.fitting.progress
        progress.begin(len(net.graph.nodes), unit="layers")
        few = self._signal_images()
        return sensitivities(net, self.exact(net.graph), few, on_node=lambda: progress.advance(1, "sensitivity"))

    def _signal_images(self) -> np.ndarray:
        """Normalized calibration images, float32 [signal_photos, h, w, 3]."""
        images: list[np.ndarray] = []
        for batch in self.images(self.calibration):
            images += list(np.asarray(batch))
            if len(images) >= self.signal_photos:
                break
        return np.stack(images[: self.signal_photos])


def prepare(options: LadderOptions, inputs: Mapping[str, Artifact], context: Context, view: View) -> Work:
    """Load the student and fold it. Raises TrainingError for a net that cannot be folded exactly."""
    data = load_split(inputs["dataset"].path, context.photos)
    spec, model = load_model(inputs["student"].path)
    student = Classifier(model, spec.normalization.apply)
    folded = folding(model)
    photo_bytes = 4 * sum(math.prod(node.shape) for node in folded.graph.nodes)
    batch_size = max(1, min(_BATCH, _TENSOR_BYTES // photo_bytes))
    fitting = Fitting(data, view, options.seed + 2, context.scratch, context.progress)
    calibration = data.calibrate(options.calibration_photos, options.seed)
    pixels, _ = next(iterate(evaluation_batches(calibration, view, batch_size=batch_size)))
    return Work(
        options,
        fitting,
        student,
        inputs["teacher"].path,
        input_range(spec.normalization),
        folded.graph,
        folded.rewrites,
        check_folded(model, folded.graph, student.normalize(pixels)),
        calibration,
        batch_size,
        max(2, min(_SIGNAL_PHOTOS, _TENSOR_BYTES // (2 * photo_bytes))),
        tf.function(lambda images: tf.nn.softmax(model(images, training=False)), reduce_retracing=True),
        Known(options.estimator),
    )


def input_range(normalization: Normalization) -> Range:
    """The range of the contract's input over all channels: from pixel 0 to pixel 255."""
    low, high = (np.float64(normalization.apply(np.full(3, pixel, np.float32))) for pixel in (0.0, 255.0))
    return float(low.min()), float(high.max())


def outputs_of(graph: Graph) -> Callable[[Any], list[Any]]:
    """Normalized images -> the float tensors of all nodes except the input, in order."""
    tensors = tf.function(all_tensors(graph))
    return lambda images: [tensor.numpy() for tensor in tensors(images)]
