"""What `edgetl inspect` prints: facts in words first, then tables. Decides nothing.

Names and messages come from files of unknown origin: core.words.printable escaped them, and they are given to rich as
Text, so that neither the terminal nor rich takes them for commands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgetl.console.bundle import AS_BUILT, BAD, print_missing
from edgetl.core.words import human_bytes, human_count

if TYPE_CHECKING:
    from edgetl.commands.inspect.result import InspectedModel, Inspection
    from edgetl.formats.read.records import EndpointRow, OpRow

_NAMED = 3


def print_inspection(console: Console, found: Inspection, *, list_ops: bool) -> None:
    """One section per model file."""
    for model in found["models"]:
        if "error" in model:
            console.print(Text(model["file"], style="bold"))
            console.print(Text("could not be read; the reason is at the end\n", style="red"))
        else:
            _print_model(console, model, list_ops)
    print_missing(console, found["bundle"]["missing"] if found["bundle"] else ())


def _print_model(console: Console, model: InspectedModel, list_ops: bool) -> None:
    console.print(Text(model["file"], style="bold"), soft_wrap=True)
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="dim")
    facts.add_column(overflow="fold")
    for label, text, style in _facts(model):
        facts.add_row(label, Text(text, style=style))
    console.print(facts)
    console.print(_types_table(model))
    console.print(_tensors_table(model))
    if list_ops:
        console.print(_ops_table(model))


def _facts(model: InspectedModel) -> Iterator[tuple[str, str, str]]:
    """(label, text, style)."""
    share = model["integer_share"]
    yield "is", f"{model['kind']}; {human_bytes(model['bytes'])}, sha256 {model['sha256'][:12]}", "bold"
    if AS_BUILT.get(model.get("as_built", "unread"), ("", ""))[0]:
        yield "bundle", *AS_BUILT[model["as_built"]]
    yield "says", _metadata(model), ""
    for label, ends in (("input", model["inputs"]), ("output", model["outputs"])):
        for end in ends:
            yield label, _endpoint(end), ""
    on_integers = "" if share is None else f", {100 * share:.3g} % of them in integer ops"
    yield "work", f"{human_count(model['macs'])} MACs{on_integers}", ""
    if model["macs_unknown"]:
        yield "", f"not counted: {', '.join(model['macs_unknown'])}", BAD
    peak = model["peak_memory"]
    if peak:
        yield (
            "memory",
            f"{human_bytes(peak['bytes'])} for activations at least, at {peak['type']} {_short(peak['op'])}",
            "",
        )
    yield from _float_facts(model)
    yield from _grid_facts(model)
    yield from _runtime_facts(model)
    yield from _roofline_facts(model)
    for note in model["notes"]:
        yield "note", note, ""


def _metadata(model: InspectedModel) -> str:
    meta = model["metadata"]
    labels = "no labels inside" if meta["labels"] is None else f"{meta['labels']} labels inside"
    parts = [f"“{meta['description']}”" if meta["description"] else "no description", labels]
    if model["format"] == "onnx":
        opsets = ", ".join(f"{name} {version}" for name, version in meta["opsets"].items())
        parts.append(f"by {meta['producer'] or 'an unnamed producer'}, opset {opsets}, IR {meta['ir_version']}")
    elif meta["signatures"]:
        parts.append(f"signature {', '.join(meta['signatures'])}")
    if meta["entries"]:
        parts.append("metadata " + ", ".join(_short(name, 40) for name in meta["entries"]))
    return "; ".join(parts)


def _endpoint(end: EndpointRow) -> str:
    shape = "×".join(str(size) for size in end["shape"])
    text = f"{_short(end['name'])}: {end['dtype']} {shape}"
    if end["scale"] is not None and end["range"] is not None:
        low, high = end["range"]
        text += f", step {end['scale']:.6g}, zero point {end['zero_point']}: {low:.4g} to {high:.4g}"
    return text


def _float_facts(model: InspectedModel) -> Iterator[tuple[str, str, str]]:
    islands = model["float_islands"]
    for place, style in (("middle", BAD), ("input", ""), ("output", "")):
        rows = [island for island in islands if island["place"] == place]
        for island in rows[:_NAMED]:
            words = [f"{kind} {_short(name)}" for kind, name in zip(island["types"], island["ops"], strict=True)]
            where = "float between quantized tensors" if place == "middle" else f"float at the {place}"
            more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
            yield "island", f"{where}: {', '.join(words[:_NAMED])}{more}", style
        if len(rows) > _NAMED:
            macs = sum(island["macs"] for island in rows[_NAMED:])
            yield (
                "",
                f"and {len(rows) - _NAMED} more such islands with {human_count(macs)} MACs (--json names all)",
                style,
            )
    kernels = sum(island["float_kernels"] for island in islands if island["place"] == "middle")
    if kernels and model["format"] == "onnx":
        yield "", f"{kernels} ops have float weights between quantized tensors: a runtime may quantize them again", BAD
    middle = [row for row in model["conversions"] if row["place"] == "middle"]
    if middle:
        shown = ", ".join(f"{row['type']} {_short(row['op'])} ({row['from']} to {row['to']})" for row in middle[:2])
        yield "changes", f"{len(middle)} conversions between quantized ops: {shown}", BAD
    if not islands and not middle and model["integer_share"]:
        yield "islands", "none: no float op and no conversion between quantized ops", ""


def _grid_facts(model: InspectedModel) -> Iterator[tuple[str, str, str]]:
    ranges, weights = model["ranges"], model["weights"]
    if ranges["grids"]:
        yield "ranges", ranges["verdict"], BAD if ranges["calibrated"] is False else ""
        worst = sorted((row for row in ranges["rows"] if row["share"] > 0), key=lambda row: -row["share"])
        for row in worst[: _NAMED if ranges["calibrated"] is False else 1]:
            why = "; its grid also serves an adjacent tensor" if row["shared"] else ""
            yield (
                "",
                f"{_short(row['op'])}: {row['low']:.3g} to {row['high']:.3g} after {row['activation']}: {100 * row['share']:.0f} % wasted{why}",
                "",
            )
    ways = {
        "per channel": weights["per_channel"],
        "per tensor": weights["per_tensor"],
        "float": weights["float"],
    }
    counts = [f"{way}: {', '.join(f'{n} {kind}' for kind, n in of.items())}" for way, of in ways.items() if of]
    if counts:
        yield "weights", "; ".join(counts), ""
    if weights["channels"]:
        text = f"{weights['zero_channels']} of {weights['channels']} channels are all zero, {weights['weak_channels']} use under 1/8 of the grid"
        weakest = weights["worst"]
        if weakest:
            text += f"; worst: {_short(weakest['op'])}, {weakest['weak_channels']} of {weakest['channels']}, channel {weakest['channel']} at most ±{weakest['max_abs_q']}"
        yield "", text, BAD if weights["weak_channels"] * 20 > weights["channels"] else ""
    if model["biases_at_limits"]:
        rows = model["biases_at_limits"]
        count = sum(row["count"] for row in rows)
        yield (
            "biases",
            f"{count} clipped at the limit of int32: {', '.join(_short(row['op']) for row in rows[:_NAMED])}",
            BAD,
        )


def _runtime_facts(model: InspectedModel) -> Iterator[tuple[str, str, str]]:
    runtime = model["runtime"]
    if "refused" in runtime:
        yield "runtime", f"{runtime['name']} refuses it: {runtime['refused']}", "bold red"
        return
    if "left" in runtime:
        left = ", ".join(f"{row['type']} {_short(row['op'])}".strip() for row in runtime["left"][:6])
        more = f" and {len(runtime['left']) - 6} more" if len(runtime["left"]) > 6 else ""
        yield (
            "runtime",
            f"{runtime['name']} takes {runtime['delegated']} ops and leaves {left + more if left else 'none'}",
            "",
        )
        return
    yield "runtime", runtime["name"], ""
    share, promised = runtime["fused_share"], model["integer_share"]
    if share is not None and (promised or model["ranges"]["grids"]):
        least = "at least " if runtime["unmatched"] and share < 1 else ""
        bad = (promised is not None and share < min(0.95, promised - 0.01)) or share < 0.5
        yield (
            "",
            f"{least}{100 * share:.3g} % of the {'counted ' if model['macs_unknown'] else ''}MACs in integer ops after optimization",
            BAD if bad else "",
        )
    yield "", ", ".join(f"{count} {kind}" for kind, count in runtime["ops"].items()), ""


def _roofline_facts(model: InspectedModel) -> Iterator[tuple[str, str, str]]:
    bound = model.get("roofline")
    if bound is None:
        return
    if bound["total_ms"] is not None:
        alone = {"computing alone": bound["compute_ms"], "memory alone": bound["memory_ms"]}
        parts = [f"{words} {value:.3g} ms" for words, value in alone.items() if value is not None]
        yield "bound", f"{bound['target']}: {bound['total_ms']:.3g} ms by the roofline ({', '.join(parts)})", ""
    for text in bound["lacking"]:
        yield "bound" if bound["total_ms"] is None else "", f"{bound['target']}: {text}", ""


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, justify in columns:
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def _types_table(model: InspectedModel) -> Table:
    table = _table(("op", "left"), ("count", "right"), ("computes in", "left"), ("MACs", "right"), ("weights", "right"))
    for row in model["ops_by_type"]:
        kinds = ", ".join(
            name if count == row["count"] else f"{count} {name}" for name, count in row["precisions"].items()
        )
        table.add_row(
            Text(row["type"]),
            str(row["count"]),
            kinds,
            human_count(row["macs"]) if row["macs"] else "-",
            human_bytes(row["weight_bytes"]) if row["weight_bytes"] else "-",
        )
    return table


def _tensors_table(model: InspectedModel) -> Table:
    table = _table(("tensors", "left"), ("type", "left"), ("count", "right"), ("bytes", "right"))
    for row in model["tensors_by_dtype"]:
        table.add_row(f"{row['use']}s", Text(row["dtype"]), str(row["count"]), human_bytes(row["bytes"]))
    return table


def _ops_table(model: InspectedModel) -> Table:
    """Every op in order. scales: of its weights; 1 is per tensor."""
    table = _table(
        ("", "right"),
        ("op", "left"),
        ("type", "left"),
        ("in to out", "left"),
        ("MACs", "right"),
        ("weights", "right"),
        ("scales", "right"),
    )
    # What is left of 80 columns for the names when everything else has its usual width.
    table.columns[1].min_width, table.columns[2].max_width, table.columns[3].max_width = 18, 17, 9
    for position, op in enumerate(model["ops"]):
        kernel = op["kernel"]
        table.add_row(
            str(position),
            Text(_short(op["name"], 40)),
            Text(op["type"]),
            Text(_passage(op)),
            "?" if op["macs"] is None else human_count(op["macs"]) if op["macs"] else "-",
            human_bytes(op["weight_bytes"]) if op["weight_bytes"] else "-",
            str(kernel["scales"] or "float") if kernel is not None else "",
        )
    return table


def _passage(op: OpRow) -> str:
    """The types that an op reads and writes, once if they are the same; for an op that does not run, why."""
    reads, writes = (", ".join(dict.fromkeys(op[side])) for side in ("reads", "writes"))
    if op["part"] in ("fused", "folded"):
        return f"({op['part']})"
    return reads if reads == writes else f"{reads} to {writes}"


def _short(name: str, limit: int = 44) -> str:
    """The end of a long name, where converters put the difference.

    >>> _short("model/block_1/depthwise", 12)
    '…1/depthwise'
    """
    return name if len(name) <= limit else "…" + name[1 - limit :]
