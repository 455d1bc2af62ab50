"""Run the peers on the naive sampler's strip: their speed, and whether they agree with it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pmtool.benchmark.naive import WINDOW
from pmtool.benchmark.parity import Strip, strip_group
from pmtool.benchmark.peers import Forward, PeerRun, Windows, generate_naive, generate_with_caches
from pmtool.benchmark.report import Run
from pmtool.benchmark.scene import Scene
from pmtool.interface.host import HostMemory
from pmtool.network import PixelMiner
from pmtool.pixels.levels import to_hounsfield
from pmtool.pixels.uniforms import uniforms
from pmtool.sampling.windows import padded_size, wavefronts
from pmtool.system.stages import Tell

NAIVE_ROWS = 2
"""Number of rows of the strip that a peer generates if it runs the whole network per pixel."""
BATCHES = (1, 16)
"""Batch sizes for the cached peer, in windows."""
COMPILED = "naive peer, torch.compile"


class PeerRuns(NamedTuple):
    """Runs, and the reasons for those that failed, by name."""

    runs: list[Run]
    left_out: dict[str, str]


def time_peers(network: PixelMiner, strip: Strip, scene: Scene, seed: int, tell: Tell) -> PeerRuns:
    """Time every peer on some rows of the strip, and extrapolate to the scene."""
    contest, bits = _Contest(network, strip, scene, seed), network.hyperparameters.bits
    rows, left_out = min(NAIVE_ROWS, strip.rows), {}

    def naive(forward: Forward) -> PeerRun:
        return generate_naive(forward, contest.windows(1), rows, bits)

    tell("naive peer", 0)
    runs = [contest.naive("naive peer", naive(network), rows)]
    tell(COMPILED, 0)
    try:
        runs.append(contest.naive(COMPILED, naive(torch.compile(network)), rows))
    except Exception as error:  # many kinds: no compiler, or none that works
        left_out[COMPILED] = reason(error)
    for batch in BATCHES:
        tell("cached peer", 0)
        run = generate_with_caches(network, contest.windows(batch), strip.rows, bits)
        runs.append(contest.cached(run, batch))
    return PeerRuns(runs, left_out)


class _Contest(NamedTuple):
    """The data that all runs of peers share."""

    network: PixelMiner
    strip: Strip
    scene: Scene
    seed: int

    def windows(self, count: int) -> Windows:
        """Repeat the strip's window ``count`` times, each with its own uniform numbers."""
        strip, device = self.strip, self.network.device
        pairs = [strip.pair._replace(number=strip.pair.number + i) for i in range(count)]
        hyperparameters, memory = self.network.hyperparameters, HostMemory()
        group, window = strip_group(hyperparameters, pairs, strip.truth, strip.rows, memory)
        targets = group.targets
        targets[:, window.known_rows :] = 0
        outer = group.neighbours([(i, window) for i in range(count)])
        rows, columns = np.ogrid[: window.height, : window.width]
        numbers = np.array([pair.number for pair in pairs])[:, None, None]
        arrays = (*outer, targets[:, None], uniforms(self.seed, numbers, rows, columns))
        return Windows(window.known_rows, *(torch.from_numpy(x).to(device) for x in arrays))

    def naive(self, name: str, peer: PeerRun, rows: int) -> Run:
        """Run of a naive peer, extrapolated with one pass per pixel."""
        passes = rows * peer.pixels.shape[-1]
        return self._run(name, peer, rows, 1, peer.seconds / passes * self.scene.pixels)

    def cached(self, peer: PeerRun, batch: int) -> Run:
        """Run of the cached peer, extrapolated with the caches filled once per window.

        The overlap of windows is ignored: every pixel of the scene is counted once.
        """
        height, width = self.scene.size
        shape = padded_size(height), padded_size(width)
        windows = sum(map(len, wavefronts(shape, (WINDOW, WINDOW)))) * len(self.scene.pairs)
        passes, rows = self.strip.rows * peer.pixels.shape[-1], self.strip.rows
        seconds = (peer.start * windows + peer.seconds / passes * self.scene.pixels) / batch
        return self._run("cached peer", peer, rows, batch, seconds)

    def _run(self, name: str, peer: PeerRun, rows: int, batch: int, seconds: float) -> Run:
        first = self.strip.window.known_rows
        values = to_hounsfield(peer.pixels[0, 0].cpu().numpy(), self.network.hyperparameters)
        new = slice(first, first + rows)
        return Run(
            name=name,
            backend="torch",
            channels=self.network.hyperparameters.channels,
            pairs=len(self.scene.pairs),
            size=self.scene.size,
            window=(WINDOW, WINDOW),
            batch=batch,
            threads=torch.get_num_threads(),
            seconds=seconds,
            passes=rows * peer.pixels.shape[-1] * batch,
            start=peer.start,
            equal_pixels=float(np.mean(values[new] == self.strip.naive[new])),
            device=str(peer.pixels.device),
        )


def reason(error: Exception) -> str:
    """Reason why torch.compile failed, with the first line of its message."""
    if "compiler" in str(error).lower():
        return "torch.compile finds no C++ compiler that works; install g++"
    said = str(error).strip() or type(error).__name__
    return f"torch.compile fails: {said.splitlines()[0]}"
