"""What a start makes and refuses before the first process runs."""
from __future__ import annotations

from pathlib import Path

import pytest

from config import load_settings
from portal.launcher import CannotStart, prepare_instance


@pytest.mark.parametrize("name", ["secret.key", "vault.private"])
def test_a_key_file_that_others_may_read_is_named_with_its_mode_and_the_command_that_mends_it(tmp_path: Path, name: str) -> None:
    settings = load_settings({"INSTANCE_DIR": str(tmp_path)}, dotenv=None)
    prepare_instance(settings)
    key = tmp_path / name
    key.chmod(0o644)
    with pytest.raises(CannotStart) as refused:
        prepare_instance(settings)
    zh, en = str(refused.value).splitlines()
    for words in (zh, en):
        assert "0644" in words and words.endswith(f"chmod 600 {key}")
    key.chmod(0o600)
    prepare_instance(settings)
