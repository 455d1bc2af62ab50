"""Settings of training: presets, YAML, changes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pmtool.errors import InputError, OutputError, PmtoolError, UsageError
from pmtool.training.folder import SETTINGS, agreed_settings
from pmtool.training.schedule import learning_rate
from pmtool.training.settings import (
    PRESETS,
    OptimiserSettings,
    Settings,
    changed_settings,
    load_settings,
    save_settings,
)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_yaml(preset: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    save_settings(PRESETS[preset], path)
    for start in PRESETS:
        assert load_settings(start, path) == PRESETS[preset]


def test_paper_preset_is_the_papers() -> None:
    """Section 2.4, and what the authors' settings are known to be."""
    paper = load_settings("paper", None)
    assert (paper.network.channels, paper.network.encoder) == (128, 0)
    assert (paper.optimiser.betas[0], paper.optimiser.dropout) == (0.95, 0.5)
    assert (paper.optimiser.averaging, paper.optimiser.decay) == (0.9995, "exponential")
    assert (paper.crops.size, paper.crops.strides) == (64, (1.0,))


def test_file_and_changes_are_laid_over_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "changes.yaml"
    path.write_text("optimiser: {steps: 7, learning_rate: 1e-3}\nnetwork: {channels: 4}\n")
    changes = ["optimiser.steps=9", "crops.strides=[1, 1]", "seed=3"]
    found = load_settings("compact", path, changes)
    compact = PRESETS["compact"]
    assert found == replace(
        compact,
        network=replace(compact.network, channels=4),
        crops=replace(compact.crops, strides=(1.0, 1.0)),
        optimiser=replace(compact.optimiser, steps=9, learning_rate=1e-3),
        seed=3,
    )
    assert changed_settings(compact, found) == [
        "seed",
        "network.channels",
        "crops.strides",
        "optimiser.steps",
        "optimiser.learning_rate",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("optimiser.step=3", "there is no setting optimiser.step"),
        ("colour=red", "there is no setting colour"),
        ("network.depth=3", "there is no setting network.depth"),
        ("augmentation.blur=1", "there is no setting augmentation.blur"),
        ("network.channels=0", "channels, blocks and mixtures must be positive"),
        ("optimiser.steps=-1", "optimiser.steps: .* greater than or equal to 0; found -1"),
        ("optimiser.steps=many", "optimiser.steps: .* integer"),
        ("optimiser.betas=[0.9, 1.0]", "optimiser.betas.1: .* less than 1; found 1.0"),
        ("optimiser.decay=linear", "optimiser.decay: .* 'cosine'"),
        ("optimiser.precision=16-mixed", "optimiser.precision"),
        ("augmentation.zoom=2", "augmentation.zoom"),
        ("crops.size=30", "crops.size: .* multiple of 4"),
        ("crops.strides=[0, 1]", "stride 1 needs a positive probability"),
        ("crops=3", "crops: .* dictionary"),
        ("seed", "'seed' is not a setting"),
        ("seed=[", "is not YAML"),
        ("seed=2024-13-45", "is not YAML"),
        ("seed=!!bool x", "is not YAML"),
        (f"seed={'[' * 3000}", "is not YAML"),
        ("optimiser.learning_rate=.inf", "finite number"),
        ("augmentation.noise_hu=.inf", "augmentation.noise_hu: .* finite number"),
        ("augmentation.zoom_range=.inf", "augmentation.zoom_range: .* finite number"),
        ("augmentation.contrast_range=.inf", "augmentation.contrast_range: .* finite number"),
        ("augmentation.kernel_range=[.nan, 1]", "augmentation.kernel_range.0: .* finite number"),
        ("augmentation.kernel_range=[2, -0.8]", "kernel_range falls from 2.0 to -0.8"),
    ],
)
def test_what_is_refused(change: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        load_settings("compact", None, [change])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("others", [["encoder.steps=0"], ["network.encoder=0"]])
def test_no_steps_at_all(others: list[str]) -> None:
    with pytest.raises(UsageError, match=r"nothing is trained: optimiser\.steps or"):
        load_settings("compact", None, ["optimiser.steps=0", *others])


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, InputError), (b"\xff\xfe\xff", InputError), (b"a: [", InputError), (b"3", UsageError)],
)
def test_files_that_are_no_settings(
    content: bytes | None, error: type[PmtoolError], tmp_path: Path
) -> None:
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=str(path)) as caught:
        load_settings("compact", path)
    assert "\n" not in str(caught.value)


def test_learning_rate() -> None:
    cosine = OptimiserSettings(steps=100, learning_rate=1.0, warmup=10)
    assert [learning_rate(step, cosine) for step in (0, 50, 100)] == pytest.approx(
        [0.1, 0.5, 0.0], abs=1e-12
    )
    exponential = replace(cosine, warmup=0, decay="exponential", decay_rate=0.5)
    assert [learning_rate(step, exponential) for step in (0, 1, 3)] == [1, 0.5, 0.125]
    constant = replace(cosine, decay="constant")
    assert [learning_rate(step, constant) for step in (4, 9, 99)] == [0.5, 1, 1]


class TestFolder:
    def test_begun_where_there_is_nothing(self, tmp_path: Path) -> None:
        wanted = replace(Settings(), seed=4)
        for folder in (tmp_path / "none", tmp_path):
            for resume in (False, True):
                assert agreed_settings(folder, wanted, resume=resume) == wanted
                assert agreed_settings(folder, None, resume=resume) == PRESETS["compact"]
        (tmp_path / "cache").mkdir()
        assert agreed_settings(tmp_path, wanted, resume=False) == wanted

    def test_gone_on_with(self, tmp_path: Path) -> None:
        begun = replace(Settings(), seed=4)
        save_settings(begun, tmp_path / SETTINGS)
        assert agreed_settings(tmp_path, None, resume=True) == begun
        assert agreed_settings(tmp_path, begun, resume=True) == begun
        with pytest.raises(OutputError, match="go on with --resume"):
            agreed_settings(tmp_path, begun, resume=False)
        with pytest.raises(UsageError, match="was begun with another seed: "):
            agreed_settings(tmp_path, Settings(), resume=True)

    def test_other_folders(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").touch()
        for resume in (False, True):
            with pytest.raises(OutputError, match="holds no run"):
                agreed_settings(tmp_path, None, resume=resume)
        with pytest.raises(OutputError, match="is a file"):
            agreed_settings(tmp_path / "thesis.tex", None, resume=False)
