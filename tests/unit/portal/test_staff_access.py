"""Who may open which staff page: read from the URL map, so that a new page without a rule, or with the wrong one, fails here."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select
from werkzeug.routing import Rule

from portal.models import AuditEvent, Role, Staff
from portal.security.access import rule_of
from tests.support.desk_scene import DeskScene, build_desk_scene, send, text_of
from tests.support.portal_app import portal_in

GUARDED = ("auth", "desk", "admin")
FOR_EMPLOYEES_AND_MACHINES = ("public", "employee", "static")
TO_SIGN_IN = ("auth.sign_in", "auth.take_sign_in", "auth.sign_out", "auth.invitation", "auth.take_invitation")

# What each page takes, written down once more, so that loosening a rule in the code does not go unnoticed.
HELPDESK = {"auth.account", "auth.change_password", "auth.choose_language"}
OPERATOR = {"admin.relays", "admin.add_relay", "admin.remove_relay", "admin.staff_list", "admin.invite_staff", "admin.invite_again",
            "admin.set_staff_active"}


def expected(endpoint: str) -> Role | None:
    if endpoint in TO_SIGN_IN:
        return None
    if endpoint in OPERATOR:
        return Role.OPERATOR
    return Role.HELPDESK if endpoint in HELPDESK or endpoint.startswith("desk.") else Role.ADMIN


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, instance_template: Path) -> Iterator[DeskScene]:
    with portal_in(tmp_path_factory.mktemp("access") / "instance", instance_template) as portal:
        yield build_desk_scene(portal)


def staff_routes(app: Flask) -> list[tuple[Rule, str]]:
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.split(".")[0] in GUARDED]
    return [(rule, method) for rule in rules for method in sorted(rule.methods or ()) if method in ("GET", "POST")]


def path_of(app: Flask, rule: Rule, scene: DeskScene) -> str:
    with scene.look() as session:
        newcomer = session.scalars(select(Staff.id).where(Staff.email == "new@moves.example")).one()
    values: dict[str, Any] = {"project_id": scene.main, "move_id": scene.moves["yangfan"], "check_id": scene.failed_test, "side": "source",
                              "relay_id": scene.relay_id, "staff_id": newcomer, "token": "x" * 43, "form": "html"}
    with app.test_request_context():
        return app.url_map.bind("localhost").build(rule.endpoint, {name: values[name] for name in rule.arguments})


def test_every_page_belongs_to_an_audience(scene: DeskScene) -> None:
    """Nothing is served outside the known blueprints."""
    served = {rule.endpoint.split(".")[0] for rule in scene.portal.app.url_map.iter_rules()}
    assert served == {*GUARDED, *FOR_EMPLOYEES_AND_MACHINES}


def test_every_staff_page_says_which_role_it_takes(scene: DeskScene) -> None:
    app = scene.portal.app
    for rule, _ in staff_routes(app):
        found = rule_of(app.view_functions[rule.endpoint])
        assert found is not None, f"{rule.endpoint} has no rule: put needs(Role.…) or open_to_anyone(…) above it"
        assert found.role is expected(rule.endpoint), rule.endpoint
        assert found.role is not None or found.reason, f"{rule.endpoint}: why may anyone?"


def test_a_view_without_a_rule_answers_nobody(scene: DeskScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given somebody adds a view and forgets the rule, then even an operator gets 403."""
    app = scene.portal.app
    monkeypatch.setitem(app.view_functions, "desk.today", lambda: "open to all")
    answer = scene.signed_in(Role.OPERATOR).get("/desk")
    assert answer.status_code == 403
    assert "open to all" not in answer.text


@pytest.mark.parametrize("role", [None, *Role], ids=lambda role: role.value if role else "anonymous")
def test_every_route_answers_exactly_those_who_may(scene: DeskScene, role: Role | None) -> None:
    """Every staff route, GET and POST, with every role. Whoever may not gets the sign-in page or 403, and nothing is done."""
    app = scene.portal.app
    client = scene.signed_in(role)
    for rule, method in staff_routes(app):
        path, needed = path_of(app, rule, scene), expected(rule.endpoint)
        if rule.endpoint == "auth.sign_out":
            client = scene.signed_in(role)
        answer = client.get(path) if method == "GET" else send(client, path)
        if rule.endpoint in ("auth.sign_out", "auth.change_password"):
            client = scene.signed_in(role)
        told = f"{role} {method} {path}: {answer.status_code}"
        assert answer.status_code < 500, told
        if needed is not None and role is None:
            silent = rule_of(app.view_functions[rule.endpoint]).keeps_awake is False  # type: ignore[union-attr]
            assert answer.status_code == (401 if silent else 303), told
            assert silent or answer.location.startswith("/login"), told
        elif needed is not None and role is not None and not role.covers(needed):
            assert answer.status_code == 403, told
        else:
            assert answer.status_code not in (401, 403), told
            assert not (answer.location or "").startswith("/login") or needed is None, told


def test_a_refusal_is_recorded_and_says_where_to_go(scene: DeskScene) -> None:
    """Given a helpdesk person who opens the staff list, then the page names the role it takes, and the audit has it."""
    answer = scene.signed_in(Role.HELPDESK).get("/staff")
    assert "运维" in text_of(answer.text)
    assert 'href="/desk"' in answer.text
    with scene.look() as session:
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "refuse.page").order_by(AuditEvent.id.desc())).first()
        assert event is not None
        assert (event.actor, event.detail["page"], event.detail["needs"]) == ("staff:li@moves.example", "admin.staff_list", "operator")


def test_the_navigation_offers_only_what_may_be_opened(scene: DeskScene) -> None:
    for role, offered in ((Role.HELPDESK, set()), (Role.ADMIN, {"/projects", "/audit"}),
                          (Role.OPERATOR, {"/projects", "/audit", "/relays", "/staff"})):
        page = scene.signed_in(role).get("/desk").text
        nav = page[page.index("<nav"):page.index("</nav>")]
        assert {path for path in ("/projects", "/audit", "/relays", "/staff") if f'href="{path}"' in nav} == offered


def test_a_form_of_another_site_changes_nothing(scene: DeskScene) -> None:
    """Given a POST without the token, or one that the browser marks as cross-site, then it is refused before the view."""
    client = scene.signed_in(Role.OPERATOR)
    assert client.post("/projects/new", data={"name": "forged", "days": "3"}).status_code == 400
    marked = client.post("/projects/new", data={"name": "forged", "days": "3"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert marked.status_code in (400, 403)
    assert "forged" not in client.get("/projects").text
