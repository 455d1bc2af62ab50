"""The human trial in a real browser, where Chromium is installed."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pmtool.trial.database import Database
from pmtool.trial.folder import Trial, load_secrets

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("uvicorn")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
Serve = Callable[[Path], tuple[str, subprocess.Popen[str]]]

LAPTOP, TABLET = {"width": 1366, "height": 768}, {"width": 768, "height": 1024}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    playwright.expect.set_options(timeout=30_000)  # milliseconds, of a busy machine
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages as different people do; an error on any of them fails the test."""
    contexts, errors = [], []

    def open_at(address: str, **device: Any) -> Page:
        context = browser.new_context(**{"viewport": LAPTOP, **device})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda told: errors.append(told.text) if is_error(told) else None)
        page.goto(address)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert errors == []


def is_error(told: ConsoleMessage) -> bool:
    """Whether something is wrong with the page, and not with a response."""
    return told.type == "error" and "Failed to load resource" not in told.text


def begin(page: Page, speciality: str = "Radiology") -> None:
    page.get_by_label("Speciality").select_option(speciality)
    page.get_by_label("Years of experience").fill("12")
    page.get_by_label("agree").check()
    page.get_by_role("button", name="Begin").click()
    wait(page, 1)


def wait(page: Page, number: int) -> None:
    """Until a slice is shown and can be answered."""
    playwright.expect(page.get_by_text(f"Slice {number} of 12")).to_be_visible()
    playwright.expect(page.locator("#left[aria-disabled=false]")).to_be_visible()


def sides(folder: Path, participant: int) -> list[str]:
    with sqlite3.connect(folder / "answers.sqlite") as database:
        query = "SELECT side FROM answers WHERE participant = ? ORDER BY item"
        rows = [side for (side,) in database.execute(query, (participant,))]
    database.close()
    return rows


def test_from_consent_to_the_last_slice(
    open_page: Callable[..., Page], trial_folder: Path, serve_trial: Serve
) -> None:
    """By keyboard alone, with undo, a stop, and another browser that goes on."""
    address, _ = serve_trial(trial_folder)
    page = open_page(address)
    begin(page)
    for number in range(1, 5):
        wait(page, number)
        page.keyboard.press("ArrowLeft")
    wait(page, 5)
    page.keyboard.press("u")
    wait(page, 4)
    page.keyboard.press("ArrowRight")
    wait(page, 5)
    assert sides(trial_folder, 1) == ["left"] * 3 + ["right"]
    page.get_by_text("Stop and go on later").click()
    link = page.get_by_label("personal link").input_value()
    page.get_by_role("button", name="Leave").click()
    playwright.expect(page.get_by_label("Speciality")).to_be_visible()

    page = open_page(link, viewport=TABLET, has_touch=True)
    for number in range(5, 13):
        wait(page, number)
        page.locator("#right" if number % 2 else "#left").tap()
    playwright.expect(page.get_by_role("heading", name="Thank you")).to_be_focused()
    page.get_by_role("button", name="Undo the last answer").click()
    wait(page, 12)
    page.keyboard.press("ArrowRight")
    playwright.expect(page.get_by_text("All 12 slices answered")).to_be_visible()
    expected = ["left"] * 3 + ["right"] + ["right", "left"] * 3 + ["right", "right"]
    assert sides(trial_folder, 1) == expected
    database = Database(Trial.load(trial_folder).database)
    assert database.undone() == 2
    assert all(350 < answer.milliseconds < 60_000 for answer in database.answers())
    database.close()

    page = open_page(f"{address}admin")
    page.get_by_label("Token").fill(load_secrets(trial_folder).administration)
    page.get_by_role("button", name="Open").click()
    playwright.expect(page.get_by_text("of 12 answers")).to_be_visible()


def test_two_participants_at_once(
    open_page: Callable[..., Page], trial_folder: Path, serve_trial: Serve
) -> None:
    address, _ = serve_trial(trial_folder)
    one, two = open_page(address), open_page(address)
    begin(one)
    begin(two, "Student")
    for number in range(1, 13):
        for page, key in ((one, "ArrowLeft"), (two, "ArrowRight")):
            wait(page, number)
            page.keyboard.press(key)
    for page in (one, two):
        playwright.expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    assert sides(trial_folder, 1) == ["left"] * 12
    assert sides(trial_folder, 2) == ["right"] * 12


def test_two_tabs_of_one_participant(
    open_page: Callable[..., Page], trial_folder: Path, serve_trial: Serve
) -> None:
    """The second tab's answer to the same slice does not count; the tab goes on with the next."""
    address, _ = serve_trial(trial_folder)
    page = open_page(address)
    begin(page)
    page.get_by_text("Stop and go on later").click()
    other = open_page(page.get_by_label("personal link").input_value())
    wait(other, 1)
    page.keyboard.press("ArrowLeft")
    wait(page, 2)
    with other.expect_response(lambda response: response.status == 409):
        other.keyboard.press("ArrowRight")
    wait(other, 2)
    assert sides(trial_folder, 1) == ["left"]


def test_an_answer_that_does_not_arrive_can_be_given_again(
    open_page: Callable[..., Page], trial_folder: Path, serve_trial: Serve
) -> None:
    page = open_page(serve_trial(trial_folder)[0])
    begin(page)
    page.route("**/trial/answers", lambda route: route.abort())
    page.keyboard.press("ArrowRight")
    playwright.expect(page.get_by_text("The server cannot be reached")).to_be_visible()
    page.unroute("**/trial/answers")
    page.keyboard.press("ArrowRight")
    wait(page, 2)
    assert sides(trial_folder, 1) == ["right"]


def test_after_an_early_undo_a_choice_does_not_count_at_once(
    open_page: Callable[..., Page], trial_folder: Path, serve_trial: Serve
) -> None:
    """Milliseconds from the slice's appearance to the first choice that counts."""
    page = open_page(serve_trial(trial_folder)[0])
    begin(page)
    page.evaluate("""() => {
        let appeared;
        const told = document.getElementById("status");
        const [left, undo] = ["left", "undo"].map((id) => document.getElementById(id));
        new MutationObserver(() => {
            appeared = performance.now();
            if (told.textContent.startsWith("Slice 2")) setTimeout(() => undo.click(), 100);
        }).observe(told, { childList: true });
        window.waited = new Promise((resolve) => new MutationObserver(() => {
            const free = left.getAttribute("aria-disabled") === "false";
            const back = told.textContent.startsWith("Slice 1 ");
            if (free && back) resolve(performance.now() - appeared);
        }).observe(left, { attributes: true }));
    }""")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("window.waited") > 390
    assert sides(trial_folder, 1) == []


def shown(page: Page) -> list[NDArray[np.uint8]]:
    """Grey levels of the true slice and the candidates, ``(H, W)`` each, as they are drawn."""
    page.wait_for_timeout(100)  # for the next frame
    canvases = [page.locator(f"canvas[data-image='{number}']") for number in range(3)]
    pngs = [canvas.evaluate("canvas => canvas.toDataURL().split(',')[1]") for canvas in canvases]
    return [np.asarray(Image.open(BytesIO(b64decode(png))).convert("L")) for png in pngs]


@pytest.mark.parametrize(("key", "low", "width"), [("1", -1350, 1500), ("2", -160, 400)])
def test_what_is_drawn_are_the_slices_in_the_window(
    open_page: Callable[..., Page],
    trial_folder: Path,
    serve_trial: Serve,
    key: str,
    low: int,
    width: int,
) -> None:
    page = open_page(serve_trial(trial_folder)[0])
    begin(page)
    page.keyboard.press(key)
    trial = Trial.load(trial_folder)
    for drawn, values in zip(shown(page), trial.images(trial.plan(1)[0]), strict=True):
        rows, columns = values.shape
        scale = min(drawn.shape[0] / rows, drawn.shape[1] / columns)
        places = [
            np.floor(total / 2 + (np.arange(number) + 0.5 - number / 2) * scale).astype(int)
            for total, number in zip(drawn.shape, values.shape, strict=True)
        ]
        expected = np.clip((values - low) * (255 / width), 0, 255)
        assert np.abs(drawn[np.ix_(*places)] - expected).max() <= 0.5 + 1e-6


def test_zoom_place_and_window_are_linked(
    open_page: Callable[..., Page], trial_folder: Path, serve_trial: Serve
) -> None:
    """With three equal slices all three stay equal whatever is done to one of them."""
    trial = Trial.load(trial_folder)
    for path in (trial_folder / "images").iterdir():
        np.save(path, np.load(trial.image_path(0, "reference")))
    page = open_page(serve_trial(trial_folder)[0])
    begin(page)
    before = [shown(page)[0]]

    def check() -> None:
        drawn = shown(page)
        assert all(np.array_equal(one, drawn[0]) for one in drawn)
        assert not any(np.array_equal(drawn[0], known) for known in before)
        before.append(drawn[0])

    def drag(image: int, button: Literal["left", "right"]) -> None:
        box = page.locator(f"canvas[data-image='{image}']").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 200, box["y"] + 200)
        page.mouse.down(button=button)
        page.mouse.move(box["x"] + 240, box["y"] + 170)
        page.mouse.up(button=button)

    page.locator("canvas[data-image='1']").hover()
    page.mouse.wheel(0, -300)
    check()
    drag(2, "left")
    check()
    drag(0, "right")
    check()
    page.get_by_role("button", name="Window by drag").click()
    drag(1, "left")
    check()
    page.get_by_label("Level").fill("-200")
    page.get_by_label("Level").press("Enter")
    check()
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("Shift+ArrowDown")
    check()
    page.keyboard.press("1")
    page.keyboard.press("0")
    assert np.array_equal(shown(page)[1], before[0])
    assert sides(trial_folder, 1) == []
