"""What every answer carries, and which requests from other sites are refused.

Owns the Content-Security-Policy and its neighbours (reliability: P2, P5, P6, P13), and the check of where a POST comes from.
Must not: know a page. Always: nothing inline runs, nothing is loaded from elsewhere, no address (it may hold a token) leaves in a
Referer, personal pages are kept by no cache.
"""
from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, Response, abort, request

CONTENT_SECURITY_POLICY = "; ".join((
    "default-src 'self'", "img-src 'self' data:", "object-src 'none'", "base-uri 'none'", "form-action 'self'",
    "frame-ancestors 'none'"))

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "X-Robots-Tag": "noindex, nofollow",
}
ONE_YEAR = 365 * 86_400


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # http://[
        return ""


def init_headers(app: Flask, *, https: bool) -> None:
    """`https`: the portal is reached over HTTPS only, so browsers may be told to insist on it."""

    @app.before_request
    def refuse_other_sites() -> None:
        """Browsers say where a POST comes from. Beside the CSRF token, not instead of it. Our own forms send `Origin: null`,
        because of no-referrer (Fetch §3.2), so that value proves nothing either way."""
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        if site is not None and site not in ("same-origin", "none"):
            abort(403)
        if site is None and origin not in (None, "null") and _host_of(origin or "") != request.host:
            abort(403)

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if https:
            response.headers.setdefault("Strict-Transport-Security", f"max-age={ONE_YEAR}; includeSubDomains")
        if request.endpoint == "static" and response.status_code in (200, 304):
            lasting = "v" in request.args  # pages name a static file with the hash of its content
            response.headers["Cache-Control"] = f"public, max-age={ONE_YEAR}, immutable" if lasting else "public, max-age=300"
        else:
            response.headers.setdefault("Cache-Control", "no-store")
            response.vary.update(("Cookie", "Accept-Language"))
        return response
