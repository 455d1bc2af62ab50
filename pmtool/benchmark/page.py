"""A benchmark's figures as a page of Markdown, made from the JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pmtool.benchmark.floor import PARTS
from pmtool.system.devices import CPU
from pmtool.system.tables import markdown
from pmtool.system.units import counted

Values = dict[str, Any]
MEASURES = {"epr": "EPR", "edge_share": "edge share", "texture_nrmse": "texture NRMSE"}

_NEGLIGIBLE = 0.05
"""Loading times up to this many seconds are not shown: ONNX Runtime on a CPU loads each graph when
it is first needed."""


def page(values: Values) -> str:
    """Page for the JSON of `pmtool bench`; parts that were not measured are left out."""
    parts = (_head, _speed, _remarks, _breakdown, _quality, _scaling, _left_out)
    return "\n\n".join(text for part in parts if (text := part(values))) + "\n"


def _head(values: Values) -> str:
    run, machine = values["runs"][0], values["machine"]
    height, width = run["size"]
    kind = ", ".join(x for x in (machine["vectors"], machine["gpu"]) if x)
    packages = ", ".join(f"{name} {x}" for name, x in values["versions"].items() if x)
    lines = [
        f"# {values['scene']}, {counted(run['pairs'], 'slice pair')} of {height}x{width}",
        "",
        f"Model {values['model']}, {run['channels']} channels. {machine['cores']} cores of "
        f"{machine['processor']}{f' ({kind})' if kind else ''}, load {machine['load']:.1f}; "
        f"{packages}.",
        "",
        f"    {values['command']}",
    ]
    return "\n".join(lines)


def _speed(values: Values) -> str:
    naive = values["runs"][0]["seconds"]
    rows = [_speed_row(run, naive) for run in values["runs"]]
    heading = ["sampler", "engine", "batch", "s / slice", "slices / s", "pixels / s", "s / scan"]
    return markdown([*heading, "times the naive one"], rows)


def _speed_row(run: Values, naive: float) -> list[str]:
    per_slice, pixels = run["seconds"] / run["pairs"], run["size"][0] * run["size"][1]
    return [
        run["name"] + (", extrapolated" if run["passes"] else ""),
        f"{run['backend']} {run['precision']}, {run['device']}",
        str(run["batch"]),
        _number(per_slice),
        _number(1 / per_slice),
        _number(pixels / per_slice),
        _number(run["seconds"]),
        _number(naive / run["seconds"]),
    ]


def _remarks(values: Values) -> str:
    strip, naive = values["strip"], values["runs"][0]
    passes = ", ".join(
        f"{1000 * x['seconds']:.1f} ms ({x['passes']} passes, batches of {x['batch']}, "
        f"threads {x['threads']}, {x['at_once']} at once)"
        for x in values["passes"]
    )
    edges = ", ".join(f"{name} {x:.3f}" for name, x in strip["epr"].items() if x is not None)
    engines = ", ".join(
        f"{name} {x:.1e}" for name, x in values["max_logit_difference_by_engine"].items()
    )
    lines = [
        f"speed-up {values['speedup']:,.0f}, at window 64 {values['speedup_window_64']:,.0f}"
        f"{_unlike(*values['runs'][:2])}; {_number(values['seconds_per_slice_512'])} s a 512x512 "
        f"slice; s / scan is of the {counted(naive['pairs'], 'pair')}",
        *_loading(values["runs"]),
        f"naive: a pass of a 64x64 window takes {passes}; medians, the lowest is extrapolated to "
        "one pass a pixel",
        f"largest difference of parameters, teacher-forced: {values['max_logit_difference']:.1e}"
        + (f"; at window 64 {engines}" if engines else ""),
        f"naive and cached on a strip of {strip['rows']}x64 pixels: {strip['equal_pixels']:.2%} "
        f"equal, largest difference {strip['largest_difference_hu']} HU"
        + (f"; EPR {edges}" if edges else ""),
        *_peers(values["runs"]),
    ]
    return "\n".join(f"- {line}" for line in lines)


def _unlike(naive: Values, cached: Values) -> str:
    """Note on what makes two runs not comparable; empty if they are."""
    if all(naive[x] == cached[x] for x in ("device", "precision")):
        return ""
    return (
        f" (not like with like: naive on {naive['device']} in {naive['precision']}, cached on "
        f"{cached['device']} in {cached['precision']})"
    )


def _loading(runs: Iterable[Values]) -> list[str]:
    """Loading times of those of the cached sampler's engines that load before the first graph."""
    times = [
        f"{run['name']} {_number(run['start'])} s"
        for run in runs
        if run["shares"] and run["start"] > _NEGLIGIBLE
    ]
    return [f"loading the engines, before the clock: {'; '.join(times)}"] if times else []


def _peers(runs: Iterable[Values]) -> list[str]:
    return [
        f"{run['name']}, batch {run['batch']}: {run['equal_pixels']:.2%} of a window's pixels are "
        f"the naive sampler's; {run['passes']} pixels really generated, {_number(run['start'])} s "
        "before the first"
        for run in runs
        if run["equal_pixels"] is not None
    ]


def _breakdown(values: Values) -> str:
    """Table of times by graph, with their ratios to the floor."""
    timed = [run for run in values["runs"] if run["shares"]]
    heading = ["s / slice (times the floor)", *PARTS, "driver", "all", "GFLOPS"]
    table = markdown(heading, [_breakdown_row(run) for run in timed])
    peaks = [
        f"{x['device']} {x['precision']}: {_number(x['gemm_gflops'])} GFLOPS, "
        f"{_number(x['gb_per_second'])} GB/s"
        for x in values["peaks"]
    ]
    parts = [table, f"Peaks: {'; '.join(peaks)}." if peaks else ""]
    if any(run["device"] != CPU for run in timed):
        parts.append("On a GPU shares are of a second run that waits for the end of every graph.")
    return "\n\n".join(part for part in parts if part)


def _breakdown_row(run: Values) -> list[str]:
    per_slice = run["seconds"] / run["pairs"]
    floor = {graph: x / run["pairs"] for graph, x in (run["floor"] or {}).items()}
    seconds = {graph: share * per_slice for graph, share in run["shares"].items()}

    def cell(spent: float, least: float | None) -> str:
        return _number(spent) + (f" ({_number(spent / least)})" if least else "")

    return [
        run["name"],
        *(cell(seconds[part], floor.get(part)) for part in PARTS),
        _number(seconds["driver"]),
        cell(per_slice, sum(floor.values())),
        _number(run["gflops"]),
    ]


def _quality(values: Values) -> str:
    """Table of measures and differences from the first run, the reference, with intervals."""
    by_run: dict[str, Values] = values["quality"]
    measures = [x for x in MEASURES if any(x in by_measure for by_measure in by_run.values())]
    if not measures:
        return ""
    heading = ["by the true slices", *(MEASURES[x] for x in measures)]
    rows = [
        [name, *(_measure(by_measure[x]) for x in measures)] for name, by_measure in by_run.items()
    ]
    notes = []
    if len(by_run) > 1:
        notes.append("After a semicolon: the difference from the first row, slice by slice.")
    if any(
        x["interval"] is not None for by_measure in by_run.values() for x in by_measure.values()
    ):
        pairs = values["runs"][0]["pairs"]
        notes.append(f"In brackets: bootstrap intervals of 95 % over the {pairs} slices.")
    if "texture_nrmse" in measures:
        notes.append("Errors of texture are scaled to [0, 1] over the rows of this table.")
    return "\n\n".join([markdown(heading, rows), *([" ".join(notes)] if notes else [])])


def _measure(score: Values) -> str:
    text = f"{score['mean']:.3f}{_interval(score['interval'], '.3f')}"
    if score["difference"] is None:
        return text
    return f"{text}; {score['difference']:+.3f}{_interval(score['difference_interval'], '+.3f')}"


def _interval(interval: Sequence[float] | None, form: str) -> str:
    return "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"


def _scaling(values: Values) -> str:
    """Table of times with a row per number of pairs and a column per size."""
    scaling = values["scaling"]
    if scaling is None:
        return ""
    seconds = {(x["pairs"], x["size"]): x["seconds"] for x in scaling["measured"]}
    points = {(x["pairs"], x["size"]) for x in scaling["left_out"]} | seconds.keys()
    pairs, sizes = (sorted({point[i] for point in points}) for i in (0, 1))
    rows = [
        [str(n), *(_number(seconds[n, m]) if (n, m) in seconds else "-" for m in sizes)]
        for n in pairs
    ]
    table = markdown(["s / scan, by pairs", *(f"{m}x{m}" for m in sizes)], rows)
    return f"{table}\n\n-: not measured, beyond the budget of {scaling['budget']:g} s."


def _left_out(values: Values) -> str:
    return "\n".join(f"- left out: {x}: {y}" for x, y in values["left_out"].items())


def _number(value: float) -> str:
    """Format a number with three significant digits, or as a whole number from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
