"""The employee's pages."""
from __future__ import annotations

from flask import Blueprint

bp = Blueprint("employee", __name__)
