"""Lanes of several counts and kinds, created on first use."""

from __future__ import annotations

from collections.abc import Callable

from pmtool.choices import Mode
from pmtool.interface.buffers import Buffers
from pmtool.interface.graph_names import chooser_of
from pmtool.interface.layout import Layout
from pmtool.interface.protocol import Backend
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.sampling.lanes import Lanes
from pmtool.sampling.pairs import Batch, PairGroup


def kept_lanes(count: int, most: int) -> int:
    """Round a count up to 1, 1.25, 1.5 or 1.75 times a power of two, but at most to ``most``.

    Programs are thus made for few counts, and less than a fifth of a batch's lanes is unused.
    """
    step = max(1, (1 << count.bit_length()) // 8)
    return min(-(-count // step) * step, most)


class LaneCache:
    """Buffers on a backend for windows of one size, bound to their graphs.

    Parameters
    ----------
    backend
        Engine with the model.
    hyperparameters
        Hyper-parameters of the network.
    size
        Size ``(H, W)`` of the windows.
    most
        Number of lanes of the largest batch to expect.
    """

    def __init__(
        self,
        backend: Backend,
        hyperparameters: Hyperparameters,
        size: tuple[int, int],
        most: int = 1,
    ) -> None:
        self.backend, self.layout, self.size = backend, Layout(hyperparameters), size
        self.most = most
        self._buffers: dict[int, Buffers] = {}
        self._lanes: dict[tuple[int, int, str], Lanes] = {}

    def lanes(self, count: int, known_columns: int, chooser: str) -> Lanes:
        """Lanes for at least ``count`` windows with ``known_columns`` known columns.

        Lanes of other counts are discarded unless the backend keeps its programs; in that case
        ``count`` is at most `most`, and all lanes share the memory of the largest.
        """
        if self.backend.keeps_programs:
            count = kept_lanes(count, self.most)
        elif count not in self._buffers:
            self.clear()
        key = count, known_columns, chooser
        if key not in self._lanes:
            buffers = self._buffers_of(count)
            self._lanes[key] = Lanes(self.backend, buffers, known_columns, chooser)
        return self._lanes[key]

    def _buffers_of(self, count: int) -> Buffers:
        """Buffers for ``count`` lanes, in the memory of the largest if programs are kept."""
        if count not in self._buffers:
            is_part = self.backend.keeps_programs and count < self.most
            self._buffers[count] = Buffers(
                self.backend.memory,
                self.layout,
                *self.size,
                count,
                self.backend.windows_per_call,
                self._buffers_of(self.most) if is_part else None,
            )
        return self._buffers[count]

    def generate(
        self,
        group: PairGroup,
        batch: Batch,
        seed: int,
        mode: Mode,
        on_row: Callable[[int], None] | None = None,
    ) -> None:
        """Generate windows of a group's pairs together, in place.

        Parameters
        ----------
        group
            Slice pairs in the backend's memory.
        batch
            Windows of one size, with equal numbers of known rows and columns.
        seed
            Seed of the random numbers.
        mode
            How pixels are chosen.
        on_row
            Callback, see `Lanes.generate`.
        """
        lanes = self.lanes(len(batch), batch[0][1].known_columns, chooser_of(mode))
        lanes.prepare(group, batch)
        lanes.draw(group.places(batch), seed, mode)
        lanes.generate(group, batch, on_row)

    def clear(self) -> None:
        """Discard all lanes and buffers to free their memory."""
        self._lanes.clear()
        self._buffers.clear()

    def shrink(self, count: int) -> bool:
        """Discard all lanes and buffers after memory ran out for a batch of ``count`` lanes.

        Half as many are expected from then on; half of `most` if the backend keeps its programs,
        because memory is taken for `most` lanes with the first batch, however small. Returns
        whether there are fewer lanes to try.
        """
        failed = self.most if self.backend.keeps_programs else count
        self.clear()
        self.most = max(1, failed // 2)
        return failed > 1
