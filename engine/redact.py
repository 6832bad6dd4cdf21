"""What a server said, made fit for people to see and for logs to keep.

Owns the masking of addresses, tokens, links' queries and echoed commands, and the showing of control characters.
Must not decide what a text means (engine/providers/classify.py does, on the unredacted text).
Always: when in doubt it masks; what it returns is one line without control or direction-changing characters.
"""
from __future__ import annotations

import re

MASK = "***"
_MAX_SCANNED = 4000  # characters; the rest cannot reach the shown part

# Texts, compiled by `re` when the first is used and kept: most runs have nothing to redact.
# Direction-changing, invisible and line-breaking characters: they could make a shown text lie (Unicode TR 36).
_HIDDEN = (
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")

_ADDRESS = r"([^\s<>\"'(),:;\[\]{}@]{1,64})@([^\s<>\"'(),:;\[\]{}@]{1,255})"
_LINK = r"(?i)(https?://[^\s?#<>\"]{1,500})[?#][^\s<>\"]*"
_LINK_PLAIN = r"(?i)https?://[^\s?#<>\"]{1,500}"
# Letters and digits mixed, 16 or more: ids, app passwords, base64. Lower-case words of exactly 16: codes of QQ and Google.
_TOKEN = r"(?<![A-Za-z0-9])(?=[A-Za-z0-9+/_~-]{0,64}\d)(?=[A-Za-z0-9+/_~-]{0,64}[A-Za-z])[A-Za-z0-9+/_~-]{16,}={0,2}"
_CODE = r"\b(?:[a-z]{16}|[a-z]{4}(?:-[a-z]{4}){3})\b"
_MIXED = r"\b(?=[A-Za-z]*[a-z][A-Za-z]*[A-Z]|[A-Za-z]*[A-Z][A-Za-z]*[A-Z][A-Za-z]*[a-z])[A-Za-z]{24,}\b"

# A command that a server may echo. In capitals, what follows is shown only while it is a word that servers use about logins;
# in other writing only a quoted text, a literal or an address shows that it is an echo.
_COMMAND = r"\b(LOGIN|AUTHENTICATE|AUTH|PASS|USER|XOAUTH2)([ \t]+)(?=\S)"
_ECHO_ANY_CASE = (
    r"(?i)\b((?:login|authenticate|auth|pass)[ \t]+)(?:[\"{]|[^\s\"]{1,64}@|(?:plain|xoauth2|cram-md5)[ \t]+[^\s]).*")
_TAGGED = r"(?i)(?:^|[\s:\"'])[A-Za-z]{0,6}\d{1,9}[ \t]+(?:LOGIN|AUTHENTICATE|AUTH|PASS|USER)[ \t]+(?=\S)"
_WORD = r"[ \t]*([A-Za-z]+|[^\sA-Za-z0-9\"{}]+)"
_SAID_OF_LOGINS = frozenset("""
    a access account again allowed and are argument arguments as at attempts auth authenticate authentication bad be been
    but by cannot command connection connections contact credentials denied disabled domain error errors exceeded expired
    fail failed failure for frequency from groupwise has have here hit imap in incorrect internal invalid is it later limit
    limited locked login mechanism method missing must name no not of on only or parameters password permitted please pop
    provided rate refused rejected required response security server service smtp state supported syntax system temporarily temporary
    the this time timeout to token too try unable unavailable unknown unsuccessful unsupported use user username using was
    weixin with wrong you your
""".split())  # noqa: SIM905 - a list of 120 quoted words is harder to read and to extend


def visible(text: str) -> str:
    """The text with every control, invisible and direction-changing character written out (\\x0d, \\u202e)."""
    return re.sub(_HIDDEN, lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 0x100 else f"\\u{ord(m[0]):04x}", text)


def _without_echo(text: str) -> str:
    tagged = re.search(_TAGGED, text)
    if tagged:
        return text[:tagged.end()] + MASK
    text = re.sub(_ECHO_ANY_CASE, rf"\1{MASK}", text)
    command = re.search(_COMMAND, text)
    if not command:
        return text
    at, word_at = command.end(), re.compile(_WORD).match
    while (word := word_at(text, at)) and (not word[1].isalpha() or word[1].lower() in _SAID_OF_LOGINS):
        at = word.end()
    rest = text[at:].strip()
    return text if not rest else f"{text[:at].rstrip()} {MASK}"


def redact(text: str, *, limit: int = 300) -> str:
    """One line for display, at most `limit` characters: addresses as a***@d***; tokens, queries of links, echoed commands as ***."""
    text = text[:_MAX_SCANNED].strip()
    if not text:
        return ""
    text = _without_echo(text)
    text = re.sub(_LINK, rf"\1?{MASK}", text)
    text = re.sub(_ADDRESS, lambda m: f"{m[1][0]}{MASK}@{m[2][0]}{MASK}", text)
    text = _outside_links(text)
    text = visible(text)
    return text if len(text) <= limit else text[:limit - 1] + "…"


def _outside_links(text: str) -> str:
    """Masks tokens; in the path of a link part by part, so that the name of a help page stays readable."""
    parts: list[str] = []
    at = 0
    for link in re.finditer(_LINK_PLAIN, text):
        parts += [_tokens(text[at:link.start()]), "/".join(_tokens(part) for part in link[0].split("/"))]
        at = link.end()
    return "".join([*parts, _tokens(text[at:])])


def _tokens(text: str) -> str:
    for pattern in (_TOKEN, _CODE, _MIXED):
        text = re.sub(pattern, MASK, text)
    return text
