"""All settings of a training run, their presets, and the YAML from which they are read.

Every section checks itself; an unknown name or an invalid value raises a `UsageError` with one
sentence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from pmtool.errors import InputError, PmtoolError, UsageError
from pmtool.models.hyperparameters import COARSEST, Hyperparameters
from pmtool.models.hyperparameters import PRESETS as NETWORKS
from pmtool.system.files import write_bytes
from pmtool.training.augment import STRICT, Augmentation, Probability

_NO_YAML = (yaml.YAMLError, ValueError, LookupError, RecursionError)
"""Errors from reading text that is not YAML; some tags and dates raise built-in errors."""
_Fraction = Annotated[float, Field(gt=0, lt=1)]
_BelowOne = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class CropSettings:
    """Settings of the triplets of slices that the network sees.

    Attributes
    ----------
    size
        Height and width of a crop in pixels.
    strides
        Probabilities of targets that lie 1, 2, 3 ... slices from their neighbours; a scan uses
        only those that are possible for it.
    thick
        Probability of a triplet of thick slices: each is the mean of two or more adjacent slices,
        at most as many as make the neighbours touch.
    max_spacing_mm
        Largest distance between a target and its neighbours; thicker slices cause a warning.
    body_share
        Smallest share of a target's crop that is body; 0 draws crops evenly from the whole scan.
    """

    size: Annotated[int, Field(ge=8, multiple_of=COARSEST)] = 64
    strides: Annotated[tuple[Probability, ...], Field(min_length=1)] = (0.6, 0.25, 0.15)
    thick: Probability = 0.35
    max_spacing_mm: PositiveFloat = 3.0
    body_share: Probability = 0.25

    def __post_init__(self) -> None:
        if not self.strides[0] > 0:
            raise UsageError(f"stride 1 needs a positive probability, not {self.strides[0]}")


@dataclass(frozen=True, config=STRICT)
class PhaseSettings:
    """Settings of a phase: Adam, and an average of the weights, which is the result.

    Attributes
    ----------
    steps
        Number of steps in the phase.
    patches
        Crops per step, over all devices together.
    learning_rate
        Learning rate after the warm-up, before the decay.
    betas
        Decay of Adam's first and second moment.
    warmup
        Steps in which the learning rate rises from 0.
    decay
        Decay of the learning rate: ``cosine`` to 0 at the last step, ``exponential`` by
        ``decay_rate`` per step, or ``constant``.
    clip_norm
        Largest norm of the gradient, or null for no limit.
    averaging
        Decay of the exponential average of the weights (Polyak).
    """

    steps: NonNegativeInt = 10_000
    patches: PositiveInt = 2
    learning_rate: PositiveFloat = 2e-3
    betas: tuple[_BelowOne, _BelowOne] = (0.95, 0.9995)
    warmup: NonNegativeInt = 200
    decay: Literal["cosine", "exponential", "constant"] = "cosine"
    decay_rate: Annotated[float, Field(gt=0, le=1)] = 0.999995
    clip_norm: PositiveFloat | None = 1.0
    averaging: _BelowOne = 0.999


@dataclass(frozen=True, config=STRICT)
class OptimiserSettings(PhaseSettings):
    """Settings of the phase that trains all but the encoder, and of the whole run.

    Attributes
    ----------
    joint
        Whether to train the encoder too, on the sum of its own losses and the network's bits.
    dropout
        Dropout probability in the gated layers.
    context_noise
        Largest noise on the pixels that precede a pixel, in standard deviations of the network's
        prediction for them. It teaches the network to cope with its own pixels, which are not the
        true ones.
    precision
        ``bf16-mixed`` or ``32-true``; validation is always in float32.
    compile
        Whether to compile the network; if null, on CUDA only.
    """

    joint: bool = False
    dropout: _BelowOne = 0.0
    context_noise: NonNegativeFloat = 0.0
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    compile: bool | None = None


@dataclass(frozen=True, config=STRICT)
class ValidationSettings:
    """Settings of the scans held back, and of the validation of the averaged weights on them.

    Attributes
    ----------
    share
        Share of the patients held back if no folder of validation scans is given.
    patches
        Number of fixed crops, without augmentation.
    every
        Number of steps between validations; each writes a picture of samples and a checkpoint.
    log_every
        Number of steps between lines of the log.
    """

    share: _Fraction = 0.1
    patches: PositiveInt = 32
    every: PositiveInt = 500
    log_every: PositiveInt = 50


@dataclass(frozen=True, config=STRICT)
class Settings:
    """Everything that determines the weights except the scans; defaults to preset ``compact``.

    ``encoder`` is the phase that trains the encoder, see `pmtool.training.phases`.
    """

    network: Hyperparameters = NETWORKS["compact"]
    crops: CropSettings = field(default_factory=CropSettings)
    augmentation: Augmentation = field(default_factory=Augmentation)
    encoder: PhaseSettings = PhaseSettings(
        steps=2_500, patches=8, betas=(0.9, 0.999), warmup=100, averaging=0.995
    )
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    def __post_init__(self) -> None:
        if not self.optimiser.steps and not (self.network.encoder and self.encoder.steps):
            raise UsageError("nothing is trained: optimiser.steps or encoder.steps must be above 0")

    def to_yaml(self) -> str:
        """Return the settings as YAML, which `load_settings` reads."""
        values = TypeAdapter(Settings).dump_python(self, mode="json")
        return yaml.safe_dump(values, sort_keys=False, default_flow_style=None)


PRESETS: dict[str, Settings] = {
    "compact": Settings(),
    # Paper, section 2.4; what it does not state is taken from PixelCNN++ (Salimans et al. 2017).
    "paper": Settings(
        network=NETWORKS["paper"],
        crops=CropSettings(strides=(1.0,), thick=0.0, body_share=0.0),
        augmentation=Augmentation(zoom=0, kernel=0, spectrum=0, noise=0, contrast=0),
        optimiser=OptimiserSettings(
            steps=200_000,
            patches=16,
            learning_rate=1e-3,
            warmup=0,
            decay="exponential",
            clip_norm=None,
            averaging=0.9995,
            dropout=0.5,
        ),
        validation=ValidationSettings(every=2000),
    ),
}


def load_settings(preset: str, path: Path | None, changes: Sequence[str] = ()) -> Settings:
    """Load a preset, changed by a YAML file and then by changes ``section.name=value``.

    Raises
    ------
    InputError
        If the file cannot be read.
    UsageError
        If a name is unknown or a value is not possible.
    """
    values = TypeAdapter(Settings).dump_python(PRESETS[preset])
    source = "the settings" if path is None or changes else str(path)
    if path is not None:
        _merge(values, _read(path))
    for change in changes:
        _merge(values, _parse(change))
    try:
        return TypeAdapter(Settings).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "the whole"
        if first["type"] == "unexpected_keyword_argument":
            raise UsageError(
                f"{source}: there is no setting {name}; docs/training.md lists them"
            ) from error
        raise UsageError(f"{source}: {name}: {first['msg']}; found {first['input']}") from error
    except PmtoolError as error:  # raised by the hyper-parameters
        raise UsageError(f"{source}: {error}") from error


def save_settings(settings: Settings, path: Path) -> None:
    """Write settings as YAML, all or nothing; raises `OutputError`."""
    write_bytes(settings.to_yaml().encode(), path)


def changed_settings(one: Settings, other: Settings) -> list[str]:
    """Names of the settings that differ."""

    def flat(settings: Settings) -> dict[str, Any]:
        sections = dataclasses.asdict(settings)
        seed = {"seed": sections.pop("seed")}
        return seed | {f"{s}.{n}": v for s, names in sections.items() for n, v in names.items()}

    first, second = flat(one), flat(other)
    return [name for name, value in first.items() if second[name] != value]


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give a YAML file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text: give a YAML file") from error
    except _NO_YAML as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no settings: give sections of names and values")
    return values


def _parse(change: str) -> dict[str, Any]:
    name, equals, text = change.partition("=")
    if not equals or not all(name.split(".")):
        raise UsageError(f"{change!r} is not a setting: write section.name=value")
    try:
        value = yaml.safe_load(text)
    except _NO_YAML as error:
        raise UsageError(f"the value of {change!r} is not YAML: correct it") from error
    for part in reversed(name.split(".")):
        value = {part: value}
    return dict(value)


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            _merge(values[name], value)
        else:
            values[name] = value
