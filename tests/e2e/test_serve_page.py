"""The page of `unroll serve` in a real browser: what a person sees, with the mouse, the keyboard and a phone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.serving import make_registry, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
REVIEW = "The music was superb 😀 and the plot felt warm. I loved it."


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_registry(tmp_path_factory.mktemp("page"), "--small", "--steps", "300")


@pytest.fixture(scope="module")
def url(environment: dict[str, str]) -> Iterator[str]:
    with serving(environment) as server:
        yield server.url
        # a browser asks again by itself after some of these, and only seconds are lost
        # a server that is getting ready says so; who started it asked until it was
        failed = r'route="(?!/readyz)[^"]*",status="(?:4|5)(?!99|01)\d\d"'
        assert not re.findall(failed, httpx.get(f"{server.url}/metrics").text)


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    yield from open_page(browser, url, viewport=DESKTOP)


@pytest.fixture
def phone_page(browser: Any, url: str) -> Iterator[Any]:
    yield from open_page(browser, url, viewport=PHONE, has_touch=True, color_scheme="dark", reduced_motion="reduce")


def open_page(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """The page when it has answered its first review and written its first text; nothing may be said on the console."""
    context = browser.new_context(**options)
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    complaints: list[str] = []
    elsewhere: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: request.url.startswith(url) or elsewhere.append(request.url))
    opened.goto(url)
    opened.locator("#sentiment-model", has_text="version").wait_for()
    wait_for_text(opened)
    yield opened
    context.close()
    assert complaints == []
    assert elsewhere == []


def wait_for_text(page: Any) -> str:
    """The text, once it is written whole."""
    page.locator("#text[aria-busy=false]").wait_for()
    text: str = page.locator("#text").inner_text()
    return text


def keep(page: Any, name: str) -> None:
    """Keep a screenshot where UNROLL_SCREENSHOTS asks for it, for people to look at."""
    folder = os.environ.get("UNROLL_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(400)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def probability(page: Any) -> str:
    text: str = page.locator("#verdict").inner_text()
    return text


def test_the_probability_moves_while_one_types_and_words_are_marked(page: Any) -> None:
    before = probability(page)
    assert re.search(r"\d %\s+(negative|positive)", before)
    review = page.get_by_label("Review", exact=True)
    review.fill(REVIEW)
    page.locator("#marks mark").first.wait_for()
    page.locator("#words tr").first.wait_for()
    assert page.locator("#marks").text_content().rstrip("\u200b") == REVIEW
    marked = page.locator("#marks mark").all_text_contents()
    assert all(word in REVIEW for word in marked)
    first = page.locator("#words tr").first.locator("td").all_text_contents()
    assert first[0] in REVIEW
    assert first[1] in ("negative", "positive")
    assert "%" in first[2]
    page.locator("#spoken", has_text="Moved most by:").wait_for(state="attached")
    keep(page, "serve-review")
    review.press("End")
    review.type(" At first I thought that it was dreadful throughout.")
    page.locator("#verdict", has_not_text=before).wait_for()


def test_an_example_takes_the_reviews_place(page: Any) -> None:
    page.get_by_role("button", name="The critics found it moving. I found it dull.").click()
    assert page.get_by_label("Review", exact=True).input_value() == "The critics found it moving. I found it dull."
    page.locator("#words tr, #words-note:not(:empty)").first.wait_for()


def test_an_empty_review_is_told_of(page: Any) -> None:
    page.get_by_label("Review", exact=True).fill("")
    page.get_by_role("alert").get_by_text("The review is empty.").wait_for()
    assert page.locator("#review").get_attribute("aria-invalid") == "true"
    assert page.locator("#moved").is_hidden()
    keep(page, "serve-empty")
    page.get_by_label("Review", exact=True).fill("good")
    page.locator("#review-error", has_text="empty").wait_for(state="detached")
    assert page.locator("#review").get_attribute("aria-invalid") == "false"


def test_the_slider_writes_the_text_anew_from_the_same_seed(page: Any) -> None:
    slider = page.get_by_label("Temperature")
    first = wait_for_text(page)
    assert first.startswith("The ")
    slider.fill("0")
    page.locator("#text[aria-busy=true]").wait_for()
    likeliest = wait_for_text(page)
    assert likeliest != first
    assert page.locator("#temperature-value").inner_text() == "0.00"
    slider.fill("0.8")
    page.locator("#text[aria-busy=true]").wait_for()
    assert wait_for_text(page) == first
    page.get_by_role("button", name="Another").click()
    assert wait_for_text(page) != first
    assert page.get_by_label("Seed").input_value() == "2"


def test_a_text_is_written_from_the_prompt_and_can_be_stopped(page: Any) -> None:
    page.get_by_label("Beginning").fill("ж A crab")
    page.get_by_label("Characters").select_option("1000")
    page.get_by_role("button", name="Write").click()
    page.get_by_role("button", name="Stop").click()
    text = wait_for_text(page)
    assert text.startswith("ж A crab")
    assert len(text) < 1_000
    page.get_by_label("Characters").select_option("100")
    page.get_by_role("button", name="Write").click()
    assert len(wait_for_text(page)) == len("ж A crab") + 100
    page.get_by_text("It never saw ж").wait_for()
    page.get_by_role("status").get_by_text("100 characters written.").wait_for()


def test_each_character_tells_how_likely_it_was_by_mouse_and_keyboard(page: Any) -> None:
    page.locator("#text span[data-at='3']").hover()
    told = page.locator("#character")
    by_mouse = told.inner_text()
    assert re.match(r".+ [<>]? ?[\d.]+ %", by_mouse)
    page.locator("#text").focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    assert page.locator("#text .chosen").count() == 1
    assert "%" in told.inner_text()
    keep(page, "serve-text")
    page.keyboard.press("Home")
    assert page.locator("#text .chosen").get_attribute("data-at") == "0"


def test_everything_is_reached_with_the_keyboard_in_the_order_of_the_page(page: Any) -> None:
    wanted = ["review", "chip", "chip", "prompt", "temperature", "length", "seed", "write", "another", "text"]
    page.locator("#review").focus()
    reached = []
    for _ in wanted:
        focused = page.locator(":focus")
        reached.append(focused.get_attribute("id") or focused.get_attribute("class"))
        page.keyboard.press("Tab")
    assert reached == wanted


def test_on_a_phone_nothing_is_wider_than_the_screen(phone_page: Any) -> None:
    page = phone_page
    page.get_by_label("Review", exact=True).fill(REVIEW + " " + "verylongwordwithoutanyspace" * 5)
    page.locator("#marks mark").first.wait_for()
    boxes = [element.bounding_box() for element in page.locator("body *:visible").all()[:120]]
    assert max(box["x"] + box["width"] for box in boxes if box) <= PHONE["width"]
    small = [button.inner_text() for button in page.get_by_role("button").all() if button.bounding_box()["height"] < 40]
    assert small == []
    keep(page, "serve-phone")


def test_a_server_with_a_token_asks_for_it_once(browser: Any, environment: dict[str, str]) -> None:
    with serving(environment | {"SERVE_TOKEN": "a secret"}, "--token-env", "SERVE_TOKEN") as server:
        page = browser.new_page(viewport=DESKTOP)
        page.set_default_timeout(60_000)
        page.goto(server.url)
        field = page.get_by_label("This server asks for a token")
        field.fill("wrong")
        field.press("Enter")
        page.get_by_text("The server refuses this token.").wait_for()
        keep(page, "serve-token")
        field.fill("a secret")
        field.press("Enter")
        page.locator("#sentiment-model", has_text="version").wait_for()
        wait_for_text(page)
        page.reload()
        page.locator("#sentiment-model", has_text="version").wait_for()
        page.close()
