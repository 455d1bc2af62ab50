"""The thickness of slices, as given to networks."""

from __future__ import annotations


def relative_thickness(thickness: float, distance: float) -> float:
    """Thickness of a slice as a share of the distance between the two neighbours of a target.

    At 1 the neighbours touch; at 0.5 the target fills the gap between them.

    Parameters
    ----------
    thickness
        Thickness of every slice, mm.
    distance
        Distance from the target to either neighbour, mm.
    """
    return thickness / (2 * distance)
