"""The ladder of ways to quantize a student, in order of cost. Each rung is a function of one `Work` (workbench.py) and is
judged by its own TFLite file on the validation photos, never on the test photos."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edgetl.backbones.models import Classifier, load_model
from edgetl.graph.graph import Graph, NodeWeights
from edgetl.quantization.attempts import Attempt, judge_attempt, mean_divergence
from edgetl.quantization.corrections import correct_biases, equalize, measure_channels
from edgetl.quantization.fake import FakeQuantized, trained_weights
from edgetl.quantization.net import QuantizedNet
from edgetl.quantization.ranges import ESTIMATORS, TensorStatistics, measure_tensors
from edgetl.quantization.ties import without_ties
from edgetl.stages.workbench import QatOptions, Work, outputs_of
from edgetl.training.fit import guided_loss

_FLOAT_LAYERS = (1, 2, 4, 8)  # how many of the most sensitive layers the last rungs leave in float


@dataclass(frozen=True)
class Rung:
    """One way to quantize. what: in words."""

    name: str
    what: str
    make: Callable[[Work], QuantizedNet]


@dataclass(frozen=True)
class Climbed:
    """A rung's net, and its result."""

    net: QuantizedNet
    attempt: Attempt


def climb(work: Work) -> list[Climbed]:
    """Try the rungs in order, as far as the scheme needs. Raises TrainingError when training with the grids diverges: that
    stops auto as well, because a lower rate in the recipe may make it the best rung."""
    scheme = work.options.scheme
    climbed: list[Climbed] = []
    for rung in rungs(work):
        begun = time.monotonic()
        net = rung.make(work)
        attempt = _judge(work, rung, net, begun)
        work.fitting.progress.note(
            f"{rung.name}: top-1 {attempt.top1:.3f} (float {attempt.float_top1:.3f}) on {attempt.n} validation photos, "
            f"same label as float on {100 * attempt.same_label:.1f}%"
        )
        climbed.append(Climbed(net, attempt))
        # PTQ's corrections cost seconds: whether to use them is decided by which is nearer to float, not by the budget.
        if attempt.met and (scheme == "auto" or (scheme == "ptq" and len(climbed) > 1)):
            break
    return climbed


def _judge(work: Work, rung: Rung, net: QuantizedNet, begun: float) -> Attempt:
    """Run the net's TFLite file on the validation photos."""
    validate = work.fitting.data.validate
    if work.known.float_probabilities is None:
        work.known.float_probabilities = work.float_probabilities(validate)
    got = work.run_files([net], validate)[0]
    return judge_attempt(
        rung.name,
        rung.what,
        work.known.float_probabilities,
        got,
        validate.labels,
        budget_pp=work.options.budget_drop_pp,
        size=work.file_of(net).stat().st_size,
        seconds=time.monotonic() - begun,
    )


# ---- the rungs ----


def rungs(work: Work) -> Iterator[Rung]:
    """Those of the scheme, in order of cost."""
    options = work.options
    scheme = options.scheme
    yield Rung("ptq", f"ranges by {options.estimator}", ptq)
    if scheme in ("ptq", "auto"):
        yield Rung("ptq, biases corrected", "what rounding shifts is taken from the biases", corrected)
        if any(
            node.op == "depthwise" and node.kernel.shape[0] > 1 for node in work.graph.nodes if node.kernel is not None
        ):
            what = "channels between convolutions brought to one size, then biases corrected"
            yield Rung("ptq, equalized", what, equalized)
    if options.qat is not None:
        what = f"trained {options.qat.fit.epochs} epochs with the grids in place"
        yield Rung("qat", what, partial(qat, options=options.qat))
    if scheme == "auto" and options.beyond_int8:
        yield Rung("int16 activations", "16-bit activations, 8-bit weights", wide)
        for count in _FLOAT_LAYERS:
            layers = "most sensitive layer stays" if count == 1 else f"{count} most sensitive layers stay"
            yield Rung(f"{count} in float", f"the {layers} in float32", partial(mixed, count=count))


def ptq(work: Work) -> QuantizedNet:
    """Ranges of the calibration photos."""
    return _with_estimated_ranges(work, work.graph)


def corrected(work: Work) -> QuantizedNet:
    """PTQ, its biases corrected for what rounding adds."""
    return _corrected(work, work.graph, _with_estimated_ranges(work, work.graph))


def equalized(work: Work) -> QuantizedNet:
    """PTQ of the graph with equalized channels, biases corrected."""
    graph = equalize(work.graph)
    return _corrected(work, graph, _with_estimated_ranges(work, graph))


def qat(work: Work, options: QatOptions) -> QuantizedNet:
    """Weights (and ranges) trained with the grids in place."""
    net = start(work)
    fake = FakeQuantized(net, trained=options.train_ranges)
    learner = Classifier(fake.model, work.student.normalize)
    evaluator = work.fitting.evaluator(learner)
    loss, top1 = evaluator()
    work.known.before_training = {"validate_loss": loss, "validate_top1": top1}
    guide = work.student
    if options.guide == "teacher":
        spec, teacher = load_model(work.teacher_folder)
        guide = Classifier(teacher, spec.normalization.apply)
    guide.model.trainable = False
    loss_of = guided_loss(guide, learner, temperature=options.temperature, label_weight=options.label_weight)
    work.known.history = work.fitting.fit(learner, loss_of, options.fit, evaluator=evaluator)
    trained = net.graph.with_weights(trained_weights(net.graph, fake.model))
    return replace(net, graph=trained, ranges=without_ties(trained, fake.ranges()))


def wide(work: Work) -> QuantizedNet:
    """16-bit activations, biases corrected for those: a shift's constants are not rounded as they are to 8 bits."""
    net = start(work)
    graph = work.exact(net.graph)
    return _corrected(work, graph, replace(net, graph=graph, activation_bits=16))


def mixed(work: Work, count: int) -> QuantizedNet:
    """The most sensitive layers left in float."""
    net = start(work)
    if not work.known.most_sensitive:
        layers = [row for row in work.sensitivities(net) if net.graph.node(row.node).kernel is not None]
        work.known.most_sensitive = [row.node for row in sorted(layers, key=lambda row: row.snr_db)]
    chosen = work.known.most_sensitive[:count]
    # What stays in float is not rounded: there is nothing to correct.
    before = work.exact(net.graph)
    weights: NodeWeights = {}
    for node in before.nodes:
        if node.name in chosen and node.bias is not None:
            weights[node.name] = (node.kernel, node.bias)
    graph = net.graph.with_weights(weights)
    work.known.stands_for.append((graph, before))
    return replace(net, graph=graph, float_nodes=tuple(chosen))


def start(work: Work) -> QuantizedNet:
    """The net that costlier rungs begin from: biases corrected, and channels equalized where they share one scale."""
    if work.known.start is None:
        work.known.start = corrected(work) if work.options.per_channel else equalized(work)
    return work.known.start


def _corrected(work: Work, graph: Graph, net: QuantizedNet) -> QuantizedNet:
    work.fitting.progress.begin(work.calibration_steps, unit="calibration batches")
    channels = measure_channels(graph, outputs_of(graph), work.calibration_batches)
    after = correct_biases(graph, net.integers(), channels)
    work.known.stands_for.append((after, graph))
    return replace(net, graph=after)


# ---- ranges ----


def _with_estimated_ranges(work: Work, graph: Graph) -> QuantizedNet:
    return _with_ranges(work, graph, _estimator_for(work, graph))


def _with_ranges(work: Work, graph: Graph, estimator: str) -> QuantizedNet:
    ranges = _statistics(work, graph).ranges(graph, estimator=estimator, input_range=work.input_range)
    return QuantizedNet(graph, without_ties(graph, ranges), per_channel=work.options.per_channel)


def _estimator_for(work: Work, graph: Graph) -> str:
    """The recipe's; for "best" the one whose file diverges least from the float student on the calibration photos."""
    known = work.known
    if known.estimator == "best":
        nets = [_with_ranges(work, graph, estimator) for estimator in ESTIMATORS]
        expected = work.float_probabilities(work.calibration)
        costs = [mean_divergence(expected, got) for got in work.run_files(nets, work.calibration)]
        known.estimator = ESTIMATORS[int(np.argmin(costs))]
        listed = ", ".join(f"{name} {cost:.4f}" for name, cost in zip(ESTIMATORS, costs, strict=True))
        work.fitting.progress.note(f"divergence from float on the calibration photos: {listed}")
    return known.estimator


def _statistics(work: Work, graph: Graph) -> TensorStatistics:
    known = next((statistics for other, statistics in work.known.statistics if other is graph), None)
    if known is None:
        work.fitting.progress.begin(2 * work.calibration_steps, unit="calibration batches")
        known = measure_tensors(graph, outputs_of(graph), work.calibration_batches)
        work.known.statistics.append((graph, known))
    return known
