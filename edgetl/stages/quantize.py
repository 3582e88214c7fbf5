"""The student on integers: ranges from calibration photos, then as much more as the scheme asks for. Every attempt is
judged by its own TFLite file on the validation photos, never on the test photos."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from edgetl.backbones.models import load_model, set_seeds
from edgetl.core.errors import CollapseError
from edgetl.core.store import Artifact
from edgetl.dataset.samples import Samples, load_split
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.fold import check_folded, fold
from edgetl.graph.graph import Graph
from edgetl.graph.preflight import preflight
from edgetl.quantization.attempts import Attempt, best, judge_attempt, mean_divergence, nearest
from edgetl.quantization.corrections import correct_biases, equalize, measure_channels
from edgetl.quantization.fake import FakeQuantized, all_tensors, trained_weights
from edgetl.quantization.net import QuantizedNet, save_quantized
from edgetl.quantization.ranges import ESTIMATORS, Range, TensorStatistics, measure_tensors
from edgetl.quantization.signal import Signal, compare_tensors, first_degraded, sensitivities
from edgetl.quantization.ties import without_ties
from edgetl.runtimes.litert import open_session, open_tensors
from edgetl.stages.context import Context
from edgetl.tasks.photos.batches import evaluation_batches, iterate, training_batches
from edgetl.tasks.photos.contract import Normalization, View
from edgetl.training.loop import History, make_evaluator, train
from edgetl.training.losses import distil_and_label_loss

# Calibration photos at a time, and how many for signal-to-noise (a ratio of sums over thousands of values a photo is steady
# after a few): at most so many, and no more than all tensors of the net take this memory for. DenseNet201 at 224 px has
# 190 MB of them a photo.
_BATCH, _SIGNAL_PHOTOS, _TENSOR_BYTES = 32, 16, 1 << 30
_FLOAT_LAYERS = (1, 2, 4, 8)  # how many of the most sensitive layers the last rung leaves in float


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes graph.json, graph.npz, quantized.json, history.json.

    Raises CollapseError when the accuracy is gone, TrainingError when training with the grids diverges: that stops auto
    as well, for a lower rate in the recipe may make of it the way to take.
    """
    set_seeds(options["seed"] + 2)
    work = _Workshop(options, inputs, context)
    nets: list[QuantizedNet] = []
    attempts: list[Attempt] = []
    budget_pp = options["budget_drop_pp"]
    for name, what, make in work.rungs():
        begun = time.monotonic()
        net = make()
        attempt = work.judge(name, what, net, begun)
        context.progress.note(
            f"{name}: top-1 {attempt.top1:.3f} (float {attempt.float_top1:.3f}) on {attempt.n} validation photos, "
            f"same label as float on {100 * attempt.same_label:.1f}%"
        )
        nets.append(net)
        attempts.append(attempt)
        # PTQ's corrections cost seconds: with or without them is decided by which is nearer to float, not by the budget.
        if attempt.met and (options["scheme"] == "auto" or (options["scheme"] == "ptq" and len(attempts) > 1)):
            break
    chosen = {"auto": best, "ptq": nearest, "qat": lambda made: len(made) - 1}[options["scheme"]](attempts)
    net = nets[chosen]
    signals = work.signals(net)
    if options["ships_integers"] and attempts[chosen].collapsed(budget_pp):
        raise collapse(options["scheme"], attempts, attempts[chosen], signals)
    save_quantized(context.out, net)
    summary = {
        **work.history.to_json(),
        "before_training": work.before_training,
        "fold_error": work.fold_error,
        "n_calibrate": len(work.calibration),
        "estimator": work.estimator,
        "scheme": options["scheme"],
        "preflight": [asdict(row) for row in work.rewrites],
        "attempts": [attempt.to_json(chosen=i == chosen) for i, attempt in enumerate(attempts)],
        "signal": [row.to_json() for row in signals],
        "sensitivity": [{"node": row.node, "op": row.op, "snr_db": row.snr_db} for row in work.sensitivities(net)],
    }
    (context.out / "history.json").write_text(json.dumps(summary, indent=1))


class _Workshop:
    """One student with its photos, and the ways to put it on integers. What several ways need is made once."""

    def __init__(self, options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
        self.options, self.inputs, self.context = options, inputs, context
        self.data = load_split(inputs["dataset"].path, context.photos)
        self.spec, self.student = load_model(inputs["student"].path)
        self.rewrites = preflight(self.student)
        self.normalize = self.spec.normalization.apply
        self.view = View.of(options)
        self.calibration = self.data.calibrate(options["calibration"]["photos"], options["seed"])
        self.graph = fold(self.student)
        photo_bytes = 4 * sum(math.prod(node.shape) for node in self.graph.nodes)
        self.batch = max(1, min(_BATCH, _TENSOR_BYTES // photo_bytes))
        self.few = max(2, min(_SIGNAL_PHOTOS, _TENSOR_BYTES // (2 * photo_bytes)))
        self.fold_error = check_folded(self.student, self.graph, next(self.images(self.calibration)))
        self.history = History()
        self.before_training: dict[str, float] | None = None
        # auto compares them all: seconds, and the first of its ways should be the best of its kind.
        self.estimator = "best" if options["scheme"] == "auto" else options["calibration"]["estimator"]
        self._statistics: list[tuple[Graph, TensorStatistics]] = []
        self._most_sensitive: list[str] = []
        self._start: QuantizedNet | None = None
        self._stands_for: list[tuple[Graph, Graph]] = []
        self._net = tf.function(
            lambda images: tf.nn.softmax(self.student(images, training=False)), reduce_retracing=True
        )
        self._wanted: np.ndarray | None = None

    def images(self, samples: Samples) -> Iterator[Any]:
        """Normalized images, [batch, h, w, 3] at a time."""
        for pixels, _ in iterate(evaluation_batches(samples, self.view, batch_size=self.batch)):
            yield self.normalize(pixels)

    # ---- the ways ----

    def rungs(self) -> Iterator[tuple[str, str, Callable[[], QuantizedNet]]]:
        """(name, what it is, how to make it) of the scheme's ways, in order of cost."""
        scheme = self.options["scheme"]
        estimator = self.estimator
        yield "ptq", f"ranges by {estimator}", lambda: self.ptq(self.graph)
        if scheme in ("ptq", "auto"):
            yield "ptq, biases corrected", "what rounding shifts is taken from the biases", self.corrected
            if any(
                node.op == "depthwise" and node.kernel.shape[0] > 1
                for node in self.graph.nodes
                if node.kernel is not None
            ):
                what = "channels between convolutions brought to one size, then biases corrected"
                yield "ptq, equalized", what, lambda: self.corrected(equalize(self.graph))
        if scheme in ("qat", "auto"):
            yield "qat", f"trained {self.options['epochs']} epochs with the grids in place", self.qat
        if scheme == "auto" and self.options["beyond_int8"]:
            what = "16-bit activations, 8-bit weights"
            yield "int16 activations", what, self.wide
            for count in _FLOAT_LAYERS:
                layers = "layer stays" if count == 1 else "layers stay"
                what = f"the {count} most sensitive {layers} in float32".replace("the 1 ", "the ")
                yield f"{count} in float", what, partial(self.mixed, count)

    def ptq(self, graph: Graph) -> QuantizedNet:
        """Ranges of the calibration photos, by the recipe's estimator."""
        return self._with_ranges(graph, self._estimator_for(graph))

    def corrected(self, graph: Graph | None = None) -> QuantizedNet:
        """PTQ with corrected biases."""
        graph = self.graph if graph is None else graph
        return self._corrected(graph, self.ptq(graph))

    def wide(self) -> QuantizedNet:
        """16-bit activations, corrected anew: a shift's constants are not rounded as they are to 8 bits."""
        net = self.start()
        graph = self.exact(net.graph)
        return self._corrected(graph, replace(net, graph=graph, activation_bits=16))

    def _corrected(self, graph: Graph, net: QuantizedNet) -> QuantizedNet:
        self.context.progress.begin(-(-len(self.calibration) // self.batch), unit="calibration batches")
        channels = measure_channels(graph, self._outputs_of(graph), self._calibration_batches)
        corrected = correct_biases(graph, net.integers(), channels)
        self._stands_for.append((corrected, graph))
        return replace(net, graph=corrected)

    def exact(self, graph: Graph) -> Graph:
        """The float graph that a graph with corrected biases stands for; any other one itself."""
        return next((before for after, before in self._stands_for if after is graph), graph)

    def start(self) -> QuantizedNet:
        """What costlier ways begin from: biases corrected, and channels equalized where one scale is for all of them."""
        if self._start is None:
            self._start = self.corrected(None if self.options["per_channel"] else equalize(self.graph))
        return self._start

    def mixed(self, count: int) -> QuantizedNet:
        """The most sensitive layers left in float."""
        net = self.start()
        if not self._most_sensitive:
            layers = [row for row in self.sensitivities(net) if net.graph.node(row.node).kernel is not None]
            self._most_sensitive = [row.node for row in sorted(layers, key=lambda row: row.snr_db)]
        chosen = self._most_sensitive[:count]
        # What stays in float is not rounded: nothing to correct.
        exact = {node.name: (node.kernel, node.bias) for node in self.exact(net.graph).nodes}
        graph = net.graph.with_weights({name: exact[name] for name in chosen})  # type: ignore[misc]
        self._stands_for.append((graph, self.exact(net.graph)))
        return replace(net, graph=graph, float_nodes=tuple(chosen))

    def qat(self) -> QuantizedNet:
        """Weights (and ranges) trained with the grids in place."""
        options, net = self.options, self.start()
        fake = FakeQuantized(net, trained=options["train_ranges"])
        model = fake.model
        validate = make_evaluator(model, lambda: evaluation_batches(self.data.validate, self.view), self.normalize)
        loss, top1 = validate()
        self.before_training = {"validate_loss": loss, "validate_top1": top1}
        guide_spec, guide = (
            (self.spec, self.student) if options["guide"] == "student" else load_model(self.inputs["teacher"].path)
        )
        guide.trainable = False

        def loss_of(pixels: Any, labels: Any) -> Any:
            wanted = guide(guide_spec.normalization.apply(pixels), training=False)
            return distil_and_label_loss(
                wanted,
                model(self.normalize(pixels), training=True),
                labels,
                temperature=options["temperature"],
                label_weight=options["label_weight"],
            )

        self.history = train(
            model,
            loss=loss_of,
            batches=lambda epoch: training_batches(
                self.data.train,
                self.view,
                n_classes=len(self.data.classes),
                batch_size=options["batch_size"],
                augment=options["augment"],
                seed=options["seed"] + 2,
                epoch=epoch,
            ),
            steps_per_epoch=max(1, len(self.data.train) // options["batch_size"]),
            validate=validate,
            options=options,
            scratch=self.context.scratch,
            progress=self.context.progress,
        )
        trained = net.graph.with_weights(trained_weights(net.graph, model))
        return replace(net, graph=trained, ranges=without_ties(trained, fake.ranges()))

    # ---- ranges ----

    def _with_ranges(self, graph: Graph, estimator: str) -> QuantizedNet:
        ranges = self._measured(graph).ranges(
            graph, estimator=estimator, input_range=input_range(self.spec.normalization)
        )
        return QuantizedNet(graph, without_ties(graph, ranges), per_channel=self.options["per_channel"])

    def _estimator_for(self, graph: Graph) -> str:
        """The recipe's; for "best" the one whose file diverges least from the float student on the calibration photos."""
        if self.estimator != "best":
            return str(self.estimator)
        nets = [self._with_ranges(graph, estimator) for estimator in ESTIMATORS]
        wanted = self._float_probabilities(self.calibration)
        costs = [mean_divergence(wanted, got) for got in self._run_files(nets, self.calibration)]
        self.estimator = ESTIMATORS[int(np.argmin(costs))]
        costs_said = ", ".join(f"{name} {cost:.4f}" for name, cost in zip(ESTIMATORS, costs, strict=True))
        self.context.progress.note(f"divergence from float on the calibration photos: {costs_said}")
        return self.estimator

    def _measured(self, graph: Graph) -> TensorStatistics:
        known = next((statistics for other, statistics in self._statistics if other is graph), None)
        if known is None:
            self.context.progress.begin(2 * -(-len(self.calibration) // self.batch), unit="calibration batches")
            known = measure_tensors(graph, self._outputs_of(graph), self._calibration_batches)
            self._statistics.append((graph, known))
        return known

    def _outputs_of(self, graph: Graph) -> Callable[[Any], list[Any]]:
        tensors = tf.function(all_tensors(graph))
        return lambda images: [tensor.numpy() for tensor in tensors(images)]

    def _calibration_batches(self) -> Iterable[Any]:
        for images in self.images(self.calibration):
            yield images
            self.context.progress.advance(1, "ranges")

    # ---- judging ----

    def judge(self, name: str, what: str, net: QuantizedNet, begun: float) -> Attempt:
        """Run the net's TFLite file over the validation photos."""
        if self._wanted is None:
            self._wanted = self._float_probabilities(self.data.validate)
        got = self._run_files([net], self.data.validate)[0]
        return judge_attempt(
            name,
            what,
            self._wanted,
            got,
            self.data.validate.labels,
            budget_pp=self.options["budget_drop_pp"],
            size=self._file_of(net, 0).stat().st_size,
            seconds=time.monotonic() - begun,
        )

    def _float_probabilities(self, samples: Samples) -> np.ndarray:
        return np.concatenate([self._net(images).numpy() for images in self.images(samples)])

    def _run_files(self, nets: Sequence[QuantizedNet], samples: Samples) -> list[np.ndarray]:
        """Probabilities [n, classes] of each net's TFLite file, the photos being read once."""
        sessions = [open_session(self._write(net, i), threads=1) for i, net in enumerate(nets)]
        rows: list[list[Any]] = [[] for _ in nets]
        for images in self.images(samples):
            for row, session in zip(rows, sessions, strict=True):
                row.append(session.run(np.asarray(images)))
        for session in sessions:
            session.close()
        return [np.concatenate(row) for row in rows]

    def _file_of(self, net: QuantizedNet, number: int) -> Path:
        return self.context.scratch / f"attempt-{number}.{net.precision}.tflite"

    def _write(self, net: QuantizedNet, number: int) -> Path:
        path = self._file_of(net, number)
        path.write_bytes(
            write_tflite_int8(
                net.graph, net.integers(), float_nodes=net.float_nodes, description="attempt", metadata={}
            )
        )
        return path

    def signals(self, net: QuantizedNet) -> list[Signal]:
        """Float against the file, tensor by tensor: the student before its biases were corrected, or with the weights that
        QAT trained."""
        few = self._few()
        tensors_of, exact = open_tensors(self._write(net, 0)), self._outputs_of(self.exact(net.graph))
        names = [node.name for node in net.graph.nodes[1:]]

        def pairs() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
            for i in range(len(few)):
                wanted = dict(zip(names, exact(few[i : i + 1]), strict=True))
                found = tensors_of(few[i : i + 1])
                yield wanted, {name: found[name] for name in names if name in found}

        return compare_tensors(net.graph, pairs())

    def _few(self) -> np.ndarray:
        """Normalized calibration images, float32 [few, h, w, 3]."""
        images: list[np.ndarray] = []
        for batch in self.images(self.calibration):
            images += list(np.asarray(batch))
            if len(images) >= self.few:
                break
        return np.stack(images[: self.few])

    def sensitivities(self, net: QuantizedNet) -> list[Signal]:
        """The logits' signal when one layer alone is quantized."""
        self.context.progress.begin(len(net.graph.nodes), unit="layers")
        few = self._few()
        return sensitivities(
            net, self.exact(net.graph), few, on_node=lambda: self.context.progress.advance(1, "sensitivity")
        )


_NEXT = {
    "ptq": "train with the grids in place: --quantize qat; or let edgetl look for a way: --quantize auto",
    "qat": "let edgetl look for a way: --quantize auto; or more epochs at a lower rate in the recipe's [quantize]",
    "auto": "a wider student, or a larger budget in the target; --quantize none leaves float files only",
}


def collapse(scheme: str, attempts: Sequence[Attempt], chosen: Attempt, signals: Sequence[Signal]) -> CollapseError:
    """What to say of a net that lost its accuracy: every attempt, where the signal goes, what to try next."""
    tried = "\n       ".join(
        f"{attempt.name}: top-1 {attempt.top1:.3f} of {attempt.float_top1:.3f}, {attempt.drop_pp:.1f} points lost "
        f"(95%: {attempt.interval_pp[0]:.1f} to {attempt.interval_pp[1]:.1f})"
        + (", one class only" if attempt.one_class else "")
        for attempt in attempts
    )
    where = first_degraded(signals)
    place = (
        f"the signal first degrades in {where.node} ({where.op}): {where.snr_db:.1f} dB, what it reads has {where.inputs_snr_db:.1f} dB"
        if where
        else "no tensor stands out by its signal-to-noise ratio"
    )
    return CollapseError(
        f"The quantized student lost its accuracy on the {chosen.n} validation photos.",
        why=f"{tried}\n       {place}",
        fix=_NEXT[scheme],
    )


def input_range(normalization: Normalization) -> Range:
    """What the contract's input can be, over all channels: from pixel 0 to pixel 255."""
    low, high = (np.float64(normalization.apply(np.full(3, pixel, np.float32))) for pixel in (0.0, 255.0))
    return float(low.min()), float(high.max())
