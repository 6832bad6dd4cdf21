"""Tables show medians of calm runs, and ratios within one cell."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.runs import AGAIN, CHANGE, FULL, Result, load, save
from bench.table import put_into, render

ENGINE = Result("small", 0.0, "sdbox", 5000, 30 << 20, "engine", FULL, 2.0, 1.0, 40 << 20, 0.1, 0, False, "exact")
RAW = replace(ENGINE, candidate="raw4", seconds=1.0)


def row(text: str, name: str) -> list[str]:
    return [cell.strip() for cell in next(line for line in text.splitlines() if line.startswith(f"| {name} ")).split("|")[1:-1]]


def test_ratios_are_of_medians_of_one_cell() -> None:
    text = render([ENGINE, replace(ENGINE, seconds=9.0), replace(ENGINE, seconds=1.5), RAW, replace(RAW, rtt=50.0, seconds=4.0)])
    assert row(text, "small, RTT 0 ms")[1:] == ["2.00", "-", "-", "-", "-"]
    assert row(text, "small, RTT 50 ms")[1:] == ["-"] * 5
    assert row(text, "engine")[:3] == ["engine", "3", "2.00 s (1.50-9.00)"]


def test_runs_beside_other_work_are_left_out_where_calmer_ones_are_and_marked_where_not() -> None:
    noisy = replace(ENGINE, seconds=8.0, others=0.9)
    assert row(render([ENGINE, noisy]), "engine")[2] == "2.00 s"
    assert row(render([noisy]), "engine")[2] == "8.00 s~"


def test_a_capped_run_gives_no_ratio() -> None:
    text = render([ENGINE, replace(RAW, candidate="imapsync", seconds=60.0, capped=True, verdict="capped")])
    assert row(text, "imapsync")[2] == "over 60 s" and row(text, "imapsync")[-1] == "capped"
    assert row(text, "small, RTT 0 ms")[-1] == "-"


def test_what_was_wrong_is_told_by_phase() -> None:
    runs = [ENGINE, replace(ENGINE, phase=AGAIN), replace(ENGINE, phase=CHANGE, verdict="1 missing")]
    assert row(render(runs), "engine")[-1] == "full, again: exact; 1 %: 1 missing"


def test_another_order_is_told() -> None:
    assert row(render([replace(RAW, disorder=3)]), "raw4")[-1] == "exact (order differs in 3 folders)"


def test_results_are_kept_as_they_were(tmp_path: Path) -> None:
    for result in (ENGINE, RAW):
        save(result, tmp_path / "results")
    assert load([tmp_path / "results"]) == [ENGINE, RAW]


def test_tables_go_to_their_place_in_a_document_and_nowhere_else() -> None:
    document = "intro\n<!-- results -->\nold\n<!-- /results -->\nend\n"
    once = put_into(document, "results", "new\n")
    assert once == "intro\n<!-- results -->\n\nnew\n\n<!-- /results -->\nend\n" == put_into(once, "results", "new")
    with pytest.raises(ValueError):
        put_into(document, "other", "new")


def test_the_document_has_every_place() -> None:
    document = (Path(__file__).resolve().parents[3] / "docs" / "bench.md").read_text(encoding="utf-8")
    for place in ("results", "many messages", "huge message"):
        assert put_into(document, place, "x") != document
