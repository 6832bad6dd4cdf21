"""A company in the middle of its move, built once per process and copied for each test (building it takes a second)."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.desk_scene import DeskScene, build_desk_scene
from tests.support.portal_app import portal_in


@pytest.fixture(scope="session")
def built_scene(tmp_path_factory: pytest.TempPathFactory, instance_template: Path) -> DeskScene:
    with portal_in(tmp_path_factory.mktemp("scene") / "instance", instance_template) as portal:
        return build_desk_scene(portal)


@pytest.fixture
def scene(built_scene: DeskScene, tmp_path: Path) -> Iterator[DeskScene]:
    with portal_in(tmp_path / "instance", built_scene.portal.settings.instance_dir) as portal:
        yield replace(built_scene, portal=portal)
