"""``pmtool trial``: options; the work is done elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pmtool.cli import types
from pmtool.cli.console import narration, stages
from pmtool.cli.options import debug_option, method_options, taken
from pmtool.cli.types import PATH

FOR_PREPARE = ("onnxruntime", "scipy")
FOR_SERVE = ("itsdangerous", "jinja2", "multipart", "scipy", "starlette", "uvicorn")
FOR_REPORT = ("jinja2", "scipy")
_EXTRA = "pmtool[trial]"
_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.group()
def trial() -> None:
    """Ask people which of two slices looks more like the true one.

    Prepare a trial of thin scans, serve it to participants as web pages, and report how often
    PixelMiner was chosen, as in section 2.5.3 of the paper.
    """


@trial.command()
@click.argument("scans", metavar="SCAN...", type=PATH, nargs=-1, required=True)
@click.option("--out", "folder", type=PATH, required=True, help="Folder of the trial.")
@click.option(
    "--participants",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="For whom to plan; for more, plans are used again.",
)
@click.option(
    "--slices",
    type=click.IntRange(1),
    default=24,
    show_default=True,
    help="Of all scans together, at random. With fewer, more participants see the same.",
)
@click.option(
    "--methods",
    metavar="NAME,NAME...",
    callback=types.names,
    default="linear,nearest,bspline,windowed_sinc",
    show_default=True,
    help="Beside PixelMiner.",
)
@click.option(
    "--cache", type=PATH, help="Of pmtool evaluate, REPORT/cache: its slices are used again."
)
@method_options
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@debug_option
def prepare(
    scans: tuple[Path, ...],
    folder: Path,
    participants: int,
    slices: int,
    methods: tuple[str, ...],
    cache: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Make a trial of thin SCANs.

    Drops every second slice, makes some of them again by every method, and plans for every
    participant 12 slices, each by PixelMiner and one other method.

    Example: pmtool trial prepare thin.nrrd --out trial
    """
    from pmtool.system.extras import require

    require("pmtool trial prepare", FOR_PREPARE, "pmtool[cpu,trial]")
    from pmtool.evaluation.choice import MethodOptions
    from pmtool.evaluation.methods import PIXELMINER
    from pmtool.sampling.options import SamplerOptions
    from pmtool.trial.prepare import Size
    from pmtool.trial.prepare import prepare as run

    sampler = taken(SamplerOptions, options)
    asked = MethodOptions(methods=(*methods, PIXELMINER), sampler=sampler, **options)
    with narration(quiet, False), stages(quiet) as tell:
        told = run(scans, folder, Size(participants, slices), asked, tell, cache)
    click.echo(told)


@trial.command()
@click.argument("folder", metavar="TRIAL", type=PATH)
@click.option("--host", default="127.0.0.1", show_default=True, help="IPv4 address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option(
    "--name", "names", multiple=True, help="Name of the host that browsers use; repeatable."
)
@click.option("--https", is_flag=True, help="Browsers reach it by HTTPS, through a proxy.")
@debug_option
def serve(folder: Path, **options: Any) -> None:
    """Serve TRIAL to participants and to its administrator.

    Answers are on disk before they are acknowledged; the server may be stopped and started again
    at any time.
    """
    from pmtool.system.extras import require

    require("pmtool trial serve", FOR_SERVE, _EXTRA)
    from pmtool.trial.server import serve as run

    run(folder, **options, tell=lambda text: click.echo(text, err=True))


@trial.command()
@click.argument("folder", metavar="TRIAL", type=PATH)
@click.option("--out", type=PATH, help="Folder of the report.  [default: TRIAL/report]")
@debug_option
def report(folder: Path, out: Path | None) -> None:
    """Report the answers to TRIAL, also while it is served.

    Prints the tables and writes report.html, report.json and answers.csv.
    """
    from pmtool.system.extras import require

    require("pmtool trial report", FOR_REPORT, _EXTRA)
    from pmtool.trial.commands import report as run

    click.echo(run(folder, out or folder / "report"))


@trial.command()
@click.argument("folder", metavar="[TRIAL]", type=PATH, required=False)
@click.option(
    "--preference",
    type=_SHARE,
    default=0.72,
    show_default=True,
    help="Probability that PixelMiner is chosen.",
)
@click.option(
    "--power",
    type=_SHARE,
    default=0.9,
    show_default=True,
    help="Wanted probability of p < 0.05.",
)
@click.option(
    "--correlation",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Of two answers of one participant.",
)
@click.option("--participants", type=click.IntRange(1, 1000), default=16, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=PATH, help="Folder of a report on simulated answers to TRIAL.")
@debug_option
def simulate(folder: Path | None, out: Path | None, **options: Any) -> None:
    """Tell the power of a trial, or report simulated answers.

    How many participants it takes to see a preference, and how probable it is that as many as are
    given see it. With TRIAL and --out, also a report as if they had answered.

    Example: pmtool trial simulate --preference 0.72 --power 0.9
    """
    from pmtool.system.extras import require

    require("pmtool trial simulate", FOR_REPORT, _EXTRA)
    from pmtool.trial.commands import simulate as run

    click.echo(run(folder, out, **options))
