"""A person's browser in a few lines: pages, links, forms with their hidden fields, cookies, redirects. No JavaScript, on purpose:
what works here works for everybody."""
from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar

TIMEOUT = 30.0


class NotOnPage(AssertionError):
    """A form or link that the journey needs is not there; the text shows where we are."""


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    choices: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Page:
    url: str
    status: int
    html: str
    forms: list[Form]
    text: str

    @property
    def path(self) -> str:
        return urllib.parse.urlsplit(self.url).path


class _Reader(HTMLParser):
    """Collects forms (with what a browser would send) and the visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.words: list[str] = []
        self._form: Form | None = None
        self._select = ""
        self._area = ""
        self._hidden = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag in ("script", "style"):
            self._hidden += 1
        elif tag == "form":
            self._form = Form(given.get("action", ""), given.get("method", "get").lower())
            self.forms.append(self._form)
        elif self._form is not None:
            self._control(tag, given)

    def _control(self, tag: str, given: dict[str, str]) -> None:
        assert self._form is not None
        name, value = given.get("name", ""), given.get("value", "")
        kind = given.get("type", "text")
        if tag == "select":
            self._select = name
        elif tag == "textarea" and name:
            self._area = name
            self._form.fields[name] = ""
        elif tag == "option" and self._select:
            self._form.choices.setdefault(self._select, []).append(value)
            if "selected" in given or self._select not in self._form.fields:
                self._form.fields[self._select] = value
        elif tag == "input" and name and kind in ("radio", "checkbox"):
            self._form.choices.setdefault(name, []).append(value or "on")
            if "checked" in given:
                self._form.fields[name] = value or "on"
        elif tag == "input" and name and kind not in ("submit", "button", "file", "image"):
            self._form.fields[name] = value
        elif tag == "button" and name:
            self._form.choices.setdefault(name, []).append(value)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._hidden -= 1
        elif tag == "form":
            self._form = None
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._area = ""

    def handle_data(self, data: str) -> None:
        if self._area and self._form is not None:
            self._form.fields[self._area] += data
        elif not self._hidden and data.strip():
            self.words.append(data.strip())


class Browser:
    """One person's. `page` is where they are."""

    def __init__(self, base_url: str, language: str = "zh") -> None:
        self.base_url = base_url
        self.language = language
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self.page = Page(base_url, 0, "", [], "")

    def open(self, url: str) -> Page:
        return self._go(urllib.request.Request(urllib.parse.urljoin(self.page.url, url)))  # noqa: S310  our own portal

    def submit(self, action: str, values: Mapping[str, str] | None = None) -> Page:
        """Sends the form whose action ends in `action`, with the values that stand in it and those given (None: none)."""
        form = self.form(action)
        data = {**form.fields, **(values or {})}
        url = urllib.parse.urljoin(self.page.url, form.action)
        coded = urllib.parse.urlencode(data)
        if form.method == "get":
            return self.open(f"{url}?{coded}")
        origin = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url))
        return self._go(urllib.request.Request(url, coded.encode(), {"Origin": origin, "Referer": self.page.url}))  # noqa: S310

    def form(self, action: str) -> Form:
        for form in self.page.forms:
            target = urllib.parse.urlsplit(urllib.parse.urljoin(self.page.url, form.action)).path
            if target.endswith(action):
                return form
        raise NotOnPage(f"no form to {action} on {self.page.path} ({self.page.status}); there are "
                        f"{[f.action for f in self.page.forms]}. The page says: {self.page.text[:800]}")

    def _go(self, request: urllib.request.Request) -> Page:
        request.add_header("Accept-Language", self.language)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                url, status, html = answer.url, answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                url, status, html = error.url, error.code, error.read().decode(errors="replace")
        reader = _Reader()
        reader.feed(html)
        self.page = Page(url or "", status, html, reader.forms, " ".join(reader.words))
        return self.page
