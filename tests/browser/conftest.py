"""What the browser suites share: the browser, and what a page on a phone is measured by."""
from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]
FINGER = 44  # CSS pixels (WCAG 2.2, 2.5.5)

# A box to tick is as large as its label; what is not shown, and the link that only the keyboard sees, are not pressed.
_PRESSED = """least => [...document.querySelectorAll('a, button, summary, select, textarea, input:not([type=hidden])')].map(e => {
  const shown = e.getBoundingClientRect(), label = ['checkbox', 'radio'].includes(e.type) && e.closest('label');
  const hidden = !shown.width || !shown.height || e.closest('.hidden, .skip') || getComputedStyle(e).visibility === 'hidden';
  const height = Math.round((label || e).getBoundingClientRect().height);
  return hidden ? null : [(e.innerText || e.name || e.type || '').trim().slice(0, 40), height];
}).filter(found => found && found[1] < least)"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail("Chromium is not installed, and REQUIRE_ALL=1", pytrace=False)
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def too_small(page: Page) -> list[str]:
    """What on a phone is too small for a finger, with its height."""
    return [f"{text!r} is {height} px high" for text, height in page.evaluate(_PRESSED, FINGER)]


def too_wide(page: Page) -> int:
    """By how many pixels the page scrolls sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
