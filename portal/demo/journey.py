"""The ways of people through the pages, as `make demo-check` walks them: the employee's from link to report, the desk's from the list
of those who are stuck to a relaunch. Only what a browser without JavaScript can do; every wait has a deadline."""
from __future__ import annotations

import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from engine.causes import Cause, explain
from portal.demo.browser import Browser, NotOnPage

CHECK_SECONDS = 60.0
MOVE_SECONDS = 120.0
STUCK_SECONDS = 60.0
POLL_SECONDS = 0.3


def wait_until(arrived: Callable[[], bool], seconds: float, what: str, browser: Browser) -> None:
    """Looks again three times a second. Raises NotOnPage with what the page says instead."""
    deadline = time.monotonic() + seconds
    while not arrived():
        if time.monotonic() > deadline:
            raise NotOnPage(f"{what}: not within {seconds:.0f} s; {browser.page.path} says: {browser.page.text[:800]}")
        time.sleep(POLL_SECONDS)


class Employee:
    """One person with a personal link."""

    def __init__(self, base_url: str, link: str) -> None:
        self.browser = Browser(base_url)
        self.link = link

    def arrive(self, provider: str) -> None:
        """From the link to the page that asks for the code. A scanner's GET comes first, as in life: it must change nothing."""
        Browser(self.browser.base_url).open(self.link)
        self.browser.open(self.link)
        page = self.browser.submit(urlsplit(self.link).path)
        if page.path not in ("/move/provider", "/move/prepare", "/move/progress"):
            raise NotOnPage(f"the link led to {page.path}: {page.text[:400]}")
        if page.path == "/move/progress":
            self.browser.open("/move/credentials")
            return
        self.browser.open("/move/provider")
        self.browser.submit("/move/provider", {"provider": provider})
        self._expect("/move/prepare")
        self.browser.open("/move/credentials")
        self._expect("/move/credentials")

    def enter(self, code: str, password: str) -> None:
        """Types the secrets and waits for the live check to find folders."""
        asked = self.browser.form("/move/credentials").fields
        typed = {"source_secret": code} | ({"destination_secret": password} if "destination_secret" in asked else {})
        page = self.browser.submit("/move/credentials", typed)
        if not page.path.startswith("/move/check/"):
            raise NotOnPage(f"no check began; {page.path} ({page.status}) says: {page.text[:800]}")
        wait_until(lambda: self.browser.open("/move/review").path == "/move/review", CHECK_SECONDS, "the check", self.browser)

    def start(self) -> None:
        self.browser.open("/move/review")
        self.browser.submit("/move/start")

    def wait_for_the_report(self) -> str:
        """Watches the progress until the report; its text. Does not wait for a move that needs somebody."""
        def arrived() -> bool:
            page = self.browser.open("/move/progress")
            if page.path != "/move/done" and "需要处理" in page.text:
                raise NotOnPage(f"the move stopped: {page.text[:800]}")
            return page.path == "/move/done"
        wait_until(arrived, MOVE_SECONDS, "the move", self.browser)
        return self.browser.page.text

    def _expect(self, path: str) -> None:
        if self.browser.page.path != path:
            raise NotOnPage(f"{path} was expected, this is {self.browser.page.path}: {self.browser.page.text[:400]}")


class Desk:
    """A member of staff who is signed in."""

    def __init__(self, base_url: str, email: str, password: str) -> None:
        self.browser = Browser(base_url)
        self.browser.open("/login")
        self.browser.submit("/login", {"email": email, "password": password})
        if self.browser.page.path != "/desk":
            raise NotOnPage(f"signing in led to {self.browser.page.path}: {self.browser.page.text[:400]}")

    def find_stuck(self, address: str, cause: Cause) -> int:
        """Waits until the person is listed under that cause; the number of their move."""
        found: list[str] = []

        def listed() -> bool:
            page = self.browser.open(f"/desk/moves?state=stuck&cause={cause}&q={address}")
            found[:] = re.findall(r'<input[^>]*name="id"[^>]*value="(\d+)"', page.html)
            return bool(found) and explain(cause).title.zh in page.text
        wait_until(listed, STUCK_SECONDS, f"{address} under {cause}", self.browser)
        return int(found[0])

    def relaunch(self, move_id: int) -> None:
        self.browser.open(f"/desk/moves/{move_id}")
        page = self.browser.submit(f"/desk/moves/{move_id}/relaunch")
        if page.status != 200:
            raise NotOnPage(f"the relaunch was refused: {page.text[:400]}")
