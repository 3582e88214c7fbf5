"""The student in integers: climb the ladder of ways to quantize it, choose one, record how each did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgetl.backbones.models import set_seeds
from edgetl.core.errors import CollapseError
from edgetl.core.store import Artifact
from edgetl.quantization.attempts import Attempt, best, nearest
from edgetl.quantization.net import save_quantized
from edgetl.quantization.signal import Signal, first_degraded
from edgetl.stages.context import Context
from edgetl.stages.ladder import climb
from edgetl.stages.workbench import LadderOptions, prepare
from edgetl.tasks.photos.contract import View
from edgetl.training.fit import write_history
from edgetl.training.records import QuantizeHistory

# Scheme -> the position of the attempt that ships.
_CHOOSE: Mapping[str, Callable[[Sequence[Attempt]], int]] = {
    "auto": best,
    "ptq": nearest,
    "qat": lambda attempts: len(attempts) - 1,
}


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes graph.json, graph.npz, quantized.json, history.json.

    Raises CollapseError when the accuracy is lost, TrainingError when quantization-aware training diverges.
    """
    own = LadderOptions.of(options)
    set_seeds(own.seed + 2)
    work = prepare(own, inputs, context, View.of(options))
    climbed = climb(work)
    attempts = [step.attempt for step in climbed]
    chosen = _CHOOSE[own.scheme](attempts)
    net = climbed[chosen].net
    signals = work.signals(net)
    if own.ships_integers and attempts[chosen].collapsed(own.budget_drop_pp):
        raise collapse(own.scheme, attempts, attempts[chosen], signals)
    save_quantized(context.out, net)
    history: QuantizeHistory = {
        **work.known.history.to_json(),
        "before_training": work.known.before_training,
        "fold_error": work.fold_error,
        "n_calibrate": len(work.calibration),
        "estimator": work.known.estimator,
        "scheme": own.scheme,
        "preflight": [{"layer": row.layer, "kind": row.kind, "rewrite": row.rewrite} for row in work.rewrites],
        "attempts": [attempt.to_json(chosen=i == chosen) for i, attempt in enumerate(attempts)],
        "signal": [row.to_json() for row in signals],
        "sensitivity": [{"node": row.node, "op": row.op, "snr_db": row.snr_db} for row in work.sensitivities(net)],
    }
    write_history(context.out, history)


_NEXT = {
    "ptq": "train with quantization: --quantize qat; or let edgetl try all ways: --quantize auto",
    "qat": "let edgetl try all ways: --quantize auto; or set more epochs and a lower rate in the recipe's [quantize]",
    "auto": "use a wider student or a larger budget in the target; --quantize none gives only float files",
}


def collapse(scheme: str, attempts: Sequence[Attempt], chosen: Attempt, signals: Sequence[Signal]) -> CollapseError:
    """The error for a net that lost its accuracy: every attempt, where the signal is lost, what to try next."""
    tried = "\n       ".join(
        f"{attempt.name}: top-1 {attempt.top1:.3f} of {attempt.float_top1:.3f}, {attempt.drop_pp:.1f} points lost "
        f"(95%: {attempt.interval_pp[0]:.1f} to {attempt.interval_pp[1]:.1f})"
        + (", one class only" if attempt.one_class else "")
        for attempt in attempts
    )
    where = first_degraded(signals)
    place = (
        f"the signal first degrades in {where.node} ({where.op}): {where.snr_db:.1f} dB, "
        f"its inputs have {where.inputs_snr_db:.1f} dB"
        if where
        else "no tensor stands out by its signal-to-noise ratio"
    )
    return CollapseError(
        f"The quantized student lost its accuracy on the {chosen.n} validation photos.",
        why=f"{tried}\n       {place}",
        fix=_NEXT[scheme],
    )
