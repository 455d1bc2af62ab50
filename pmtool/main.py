"""The ``pmtool`` command, which collects the subcommands from their folders."""

from __future__ import annotations

import sys

import click

from pmtool.benchmark.cli import bench
from pmtool.cli.console import run_command
from pmtool.cohort.cli import cohort
from pmtool.evaluation.cli import compare, evaluate
from pmtool.export.cli import export
from pmtool.models.cli import info
from pmtool.phantom.cli import phantom
from pmtool.resampling.cli import resample
from pmtool.system.versions import own_version
from pmtool.training.cli import train
from pmtool.trial.cli import trial

_EPILOG = """
Exit codes: 0 success; 1 any other error; 2 usage error or a request that cannot be met; 3 an input
or model that cannot be read; 4 unsuitable geometry; 5 content that is not CT; 6 an output that
cannot be written; 7 out of memory; 8 some cases of a batch failed; 130 interrupted (Ctrl-C,
SIGTERM or SIGHUP).

Not a medical device; for research use.
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version=own_version(), prog_name="pmtool")
def cli() -> None:
    """Texture-accurate CT slice interpolation with PixelMiner.

    Not a medical device; for research use.
    """


def main() -> None:
    """Run the ``pmtool`` command and exit with its code."""
    sys.exit(run_command(cli, ends=True))


def _end_help(command: click.Command) -> None:
    """Append `_EPILOG` to the help of a command and of its subcommands."""
    command.epilog = _EPILOG
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _end_help(below)


for _command in (resample, phantom, bench, export, info, evaluate, compare, cohort, train, trial):
    cli.add_command(_command)
_end_help(cli)
