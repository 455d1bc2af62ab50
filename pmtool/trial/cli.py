"""``pmtool trial``: command-line options; the work is done elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pmtool.cli import types
from pmtool.cli.console import narration, stages
from pmtool.cli.options import debug_option, method_options, quiet_option, taken
from pmtool.cli.types import PATH
from pmtool.system.extras import require

SERVE_PACKAGES = ("itsdangerous", "jinja2", "multipart", "scipy", "starlette", "uvicorn")
REPORT_PACKAGES = ("jinja2", "scipy")
_EXTRA = "pmtool[trial]"
_SHARE = types.FiniteRange(0, 1, min_open=True, max_open=True)


@click.group()
def trial() -> None:
    """Ask people which of two slices looks more like the true one.

    Prepare a trial from thin-slice scans, serve it to participants as web pages, and report how
    often PixelMiner was chosen, as in section 2.5.3 of the PixelMiner paper.
    """


@trial.command()
@click.argument("scans", metavar="SCAN...", type=PATH, nargs=-1, required=True)
@click.option("--out", "folder", type=PATH, required=True, help="Folder for the trial.")
@click.option(
    "--participants",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    help="Participants to plan for; further ones reuse the plans.",
)
@click.option(
    "--slices",
    type=click.IntRange(1),
    default=24,
    show_default=True,
    help="Slices to draw at random from all scans together, 12 or more. With fewer, more "
    "participants see the same slices.",
)
@click.option(
    "--methods",
    metavar="NAME,NAME...",
    callback=types.names,
    default="linear,nearest,bspline,windowed_sinc",
    show_default=True,
    help="Methods to compare PixelMiner with, separated by commas.",
)
@click.option(
    "--cache",
    type=PATH,
    help="Cache of a pmtool evaluate report (REPORT/cache) whose slices to reuse.",
)
@method_options
@quiet_option
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
    """Prepare a trial from thin-slice SCANs.

    Drops every second slice, regenerates some of them with every method, and plans 12 slices for
    each participant, every one made by PixelMiner and by one other method.

    Example: pmtool trial prepare thin.nrrd --out trial
    """
    require("pmtool trial prepare", ("scipy",), "pmtool[cpu,trial]")
    from pmtool.evaluation.method_options import MethodOptions
    from pmtool.evaluation.methods import PIXELMINER
    from pmtool.images.reading import ReadingOptions
    from pmtool.sampling.options import SamplerOptions
    from pmtool.trial.prepare import prepare as run

    reading, sampler = taken(ReadingOptions, options), taken(SamplerOptions, options)
    settings = MethodOptions(
        methods=(*methods, PIXELMINER), reading=reading, sampler=sampler, **options
    )
    with stages(quiet) as tell:
        sentence = run(
            scans, folder, settings, tell, participants=participants, slices=slices, cache=cache
        )
    click.echo(sentence)


@trial.command()
@click.argument("folder", metavar="TRIAL", type=PATH)
@click.option("--host", default="127.0.0.1", show_default=True, help="IPv4 address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option("--name", "names", multiple=True, help="Host name that browsers use; repeatable.")
@click.option(
    "--https", is_flag=True, help="Browsers connect by HTTPS, through a proxy called --name."
)
@debug_option
def serve(folder: Path, **options: Any) -> None:
    """Serve TRIAL to participants and its administrator.

    Answers are on disk before they are acknowledged, so the server can be stopped and restarted at
    any time.
    """
    require("pmtool trial serve", SERVE_PACKAGES, _EXTRA)
    from pmtool.trial.server import serve as run

    with narration(quiet=False, verbose=False):
        run(folder, **options)


@trial.command()
@click.argument("folder", metavar="TRIAL", type=PATH)
@click.option("--out", type=PATH, help="Folder for the report.  [default: TRIAL/report]")
@debug_option
def report(folder: Path, out: Path | None) -> None:
    """Report the answers to TRIAL, even while it is being served.

    Prints the tables and writes report.html, report.json and answers.csv.
    """
    require("pmtool trial report", REPORT_PACKAGES, _EXTRA)
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
    help="Wanted probability of reaching p < 0.05.",
)
@click.option(
    "--correlation",
    type=types.FiniteRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Correlation between two answers of one participant.",
)
@click.option(
    "--participants",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    help="Participants to simulate.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed for the simulated answers.",
)
@click.option("--out", type=PATH, help="Folder for a report on simulated answers to TRIAL.")
@debug_option
def simulate(folder: Path | None, out: Path | None, **options: Any) -> None:
    """Compute the power of a trial, or report simulated answers to it.

    Prints how many participants it takes to detect a preference, and how likely the given number of
    participants is to detect it. With TRIAL and --out, also reports simulated answers of that many
    participants.

    Example: pmtool trial simulate --preference 0.72 --power 0.9
    """
    require("pmtool trial simulate", REPORT_PACKAGES, _EXTRA)
    from pmtool.trial.commands import simulate as run

    click.echo(run(folder, out, **options))
