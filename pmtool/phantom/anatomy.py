"""The anatomy of the phantom: HU of a made-up chest on a plane of constant z.

Lengths are in mm of a chest that fills a circle of 360 mm; x points to the patient's left, y to the
back, z to the head, as in LPS. Every structure is a function of x, y and z alone and has no end
along z, so that a thin stack of slices and a thick one show the same chest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]

RADIUS = 180.0
AIR, FAT, MUSCLE, BLOOD, LUNG, DISC, TRABECULAR, CORTICAL = -1000, -95, 50, 160, -870, 70, 190, 700
VERTEBRA, RIB_STEP = 28.0, 24.0
TREE_STEP, TREE_REACH = 9.0, 110.0
GENERATIONS = 8


class Segment(NamedTuple):
    """A piece of a vessel: a cylinder with round ends."""

    start: Plane
    end: Plane
    radius: float


class Canvas:
    """HU on a plane, painted structure by structure with edges one pixel wide."""

    def __init__(self, x: Plane, y: Plane, pixel: float) -> None:
        self.x, self.y, self.pixel = x, y, pixel
        self.hu = np.full(np.broadcast_shapes(x.shape, y.shape), float(AIR))

    def paint(self, depth: Plane, hu: float | Plane, within: Plane | float = 1.0) -> Plane:
        """Blend ``hu`` in where ``depth``, the distance in mm to the edge, is positive.

        Returns the share of each pixel that was covered, at most ``within``.
        """
        share: Plane = np.clip(depth / self.pixel + 0.5, 0, 1) * within
        self.hu += share * (hu - self.hu)
        return share

    def ellipse(self, x: float, y: float, a: float, b: float) -> Plane:
        """Distance in mm to an ellipse's edge, roughly; positive inside."""
        radius = np.sqrt(((self.x - x) / a) ** 2 + ((self.y - y) / b) ** 2)
        return np.asarray((1 - radius) * min(a, b))


def chest(x: Plane, y: Plane, z: float, pixel: float, vessels: list[Segment]) -> Plane:
    """HU without noise at the points ``x`` ``(1, W)``, ``y`` ``(H, 1)`` and ``z``: ``(H, W)``."""
    canvas = Canvas(x, y, pixel)
    _table(canvas)
    canvas.paint(canvas.ellipse(0, -12, 162, 116), FAT)
    canvas.paint(canvas.ellipse(0, -12, 150, 103), MUSCLE)
    _ribs(canvas, z)
    _lungs(canvas, z, vessels)
    _mediastinum(canvas, z)
    _spine(canvas, z)
    return canvas.hu


def _table(canvas: Canvas) -> None:
    height = canvas.y - 112 + canvas.x**2 / 900
    shell = np.minimum(height, 26 - height)
    canvas.paint(shell, -150)
    canvas.paint(shell - 3, -920)


def _ribs(canvas: Canvas, z: float) -> None:
    """Oblique ribs where they cut a ring around the lungs, and the sternum."""
    angle = np.arctan2(canvas.x / 139, (canvas.y + 12) / 93)  # 0 at the back, pi at the front
    phase = (z + 38 * np.cos(angle)) / RIB_STEP + 0.3 * np.sign(canvas.x)
    along = (phase - np.round(phase)) * RIB_STEP
    across = canvas.ellipse(0, -12, 139, 93)
    depth = 5.5 * (1 - np.sqrt((along / 6) ** 2 + (across / 5) ** 2))
    sternum = canvas.ellipse(0, -105, 20, 7)
    for bone in (depth, sternum):
        canvas.paint(bone, CORTICAL)
        canvas.paint(bone - 1.8, TRABECULAR)


def _lungs(canvas: Canvas, z: float, vessels: list[Segment]) -> None:
    """Parenchyma, denser towards the back and with a fine mottle, and the vessels in it."""
    growth = 1 + 0.08 * np.sin(z / 60)
    lungs = np.maximum(
        canvas.ellipse(-70, -14, 58 * growth, 82 * growth),
        canvas.ellipse(72, -14, 54 * growth, 82 * growth),
    )
    mottle = 12 * np.sin(canvas.x / 7 + z / 9) * np.sin(canvas.y / 6 - z / 11)
    inside = canvas.paint(lungs, LUNG + 0.45 * canvas.y + mottle)
    for vessel in vessels:
        bottom, top = sorted((vessel.start[2], vessel.end[2]))
        if bottom - vessel.radius < z < top + vessel.radius:
            _vessel(canvas, z, vessel, inside)


def _vessel(canvas: Canvas, z: float, vessel: Segment, lungs: Plane) -> None:
    """Paint a vessel into the part of the plane that it can reach."""
    reach = vessel.radius + canvas.pixel
    low = np.minimum(vessel.start, vessel.end) - reach
    high = np.maximum(vessel.start, vessel.end) + reach
    columns = slice(*np.searchsorted(canvas.x[0], (low[0], high[0])))
    rows = slice(*np.searchsorted(canvas.y[:, 0], (low[1], high[1])))
    part = Canvas(canvas.x[:, columns], canvas.y[rows], canvas.pixel)
    part.hu = canvas.hu[rows, columns]
    distance = _distance(part, z, vessel)
    part.paint(vessel.radius - distance, MUSCLE, lungs[rows, columns])


def _distance(canvas: Canvas, z: float, vessel: Segment) -> Plane:
    """Distance of the plane's points to the vessel's axis."""
    axis = vessel.end - vessel.start
    offset = [canvas.x - vessel.start[0], canvas.y - vessel.start[1], z - vessel.start[2]]
    along = sum(o * a for o, a in zip(offset, axis, strict=True)) / (axis @ axis)
    along = np.clip(along, 0, 1)
    squares = [(o - along * a) ** 2 for o, a in zip(offset, axis, strict=True)]
    return np.asarray(np.sqrt(sum(squares)))


def _mediastinum(canvas: Canvas, z: float) -> None:
    """Heart, great vessels and the airways, which part below the carina."""
    beat = np.cos(z / 70)
    canvas.paint(canvas.ellipse(0, -2, 26, 62), FAT)
    canvas.paint(canvas.ellipse(22, -34, 52 + 9 * beat, 42 + 8 * beat), MUSCLE)
    canvas.paint(canvas.ellipse(30, -30, 24 + 9 * beat, 20 + 7 * beat), BLOOD)
    canvas.paint(canvas.ellipse(-12, -36, 13, 17), BLOOD)
    canvas.paint(canvas.ellipse(24, 42, 12, 12), BLOOD)
    parting = 14 + 10 * np.sin(z / 45)
    for side in (-1, 1):
        airway = canvas.ellipse(side * parting, 18, 8, 8)
        canvas.paint(airway + 1.5, MUSCLE)
        canvas.paint(airway, AIR)


def _spine(canvas: Canvas, z: float) -> None:
    """Vertebral bodies with discs between them, arch, process and canal."""
    position = abs(z / VERTEBRA - np.round(z / VERTEBRA)) * VERTEBRA  # 0: the disc's middle
    bone = float(np.clip(position - 3, 0, 1))
    body = canvas.ellipse(0, 56, 19, 16)
    arch = np.maximum(canvas.ellipse(0, 76, 22, 7), canvas.ellipse(0, 86, 5, 14))
    trabeculae = TRABECULAR + 60 * np.sin(canvas.x * 1.1) * np.sin(canvas.y * 1.2 + z)
    canvas.paint(arch, CORTICAL)
    canvas.paint(arch - 2.5, TRABECULAR)
    canvas.paint(body, DISC + bone * (CORTICAL - DISC))
    canvas.paint(body - 2, DISC + bone * (trabeculae - DISC))
    canvas.paint(canvas.ellipse(0, 75, 9, 7), 30)


def vessels(seed: int, depth: float) -> list[Segment]:
    """Trees of vessels that reach slices between 0 and ``depth`` mm: roots every few mm along z."""
    first, last = (round(z / TREE_STEP) for z in (-TREE_REACH, depth + TREE_REACH))
    return [
        segment
        for number in range(first, last + 1)
        for segment in _tree(np.random.default_rng((seed, 2**16 + number)), number)
    ]


def _tree(random: np.random.Generator, number: int) -> list[Segment]:
    """A tree from one hilum, alternately the right and the left, that fills a part of the lung."""
    side = 1 if number % 2 else -1
    root = np.asarray([side * 30.0, 0.0, number * TREE_STEP])
    towards = np.asarray([side, *random.normal(0, 0.7, 2)])
    tips = [(root, towards / np.linalg.norm(towards), 5.0)]
    segments = []
    for generation in range(GENERATIONS):
        length = 24 * 0.86**generation
        grown = [Segment(start, start + length * d, r) for start, d, r in tips]
        segments += grown
        tips = [
            (segment.end, _turn(random, direction), radius * 0.76)
            for segment, (_, direction, radius) in zip(grown, tips, strict=True)
            for _ in range(2)
        ]
    return segments


def _turn(random: np.random.Generator, direction: Plane) -> Plane:
    """A direction about 30 degrees off."""
    turned = direction + random.normal(0, 0.42, 3)
    return np.asarray(turned / np.linalg.norm(turned))
