"""The card in a bundle: the figures that people decide by, its limits, and the way back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from components.champion import Champion
from components.errors import ConfigError
from components.packing import Bundle
from tests.bundle_world import PACK_PARAMS, World, shared_world

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return shared_world(tmp_path_factory)


@pytest.fixture(scope="module")
def bundle(world: World) -> Bundle:
    return world.pack()


def test_the_card_holds_the_figures_and_the_limits(world: World, bundle: Bundle) -> None:
    card = bundle.files["card.md"].decode()
    challenger = world.evaluation.challenger
    for words in (
        f"{challenger.auc.value:.4f}",
        f"{challenger.log_loss.value:.4f}",
        f"{challenger.calibration_error:.4f}",
        f"{world.splits.span('test').num_rows:,}",
        PACK_PARAMS.intended_use,
        PACK_PARAMS.unintended_use,
        "device = tablet",
        "device = desk \\| top",
        "ctr-ranker-market",
        *(check.name for check in world.verdict.checks),
    ):
        assert words in card
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_the_card_says_why_this_calibrator(world: World) -> None:
    facts = world.evaluation.facts
    gain = dataclasses.replace(facts.calibration, method="platt", reason="the spline gains less than asked")
    evaluation = dataclasses.replace(world.evaluation, facts=dataclasses.replace(facts, calibration=gain))
    card = dataclasses.replace(world, evaluation=evaluation).pack().files["card.md"].decode()
    assert "Calibrator: platt (the spline gains less than asked). Expected" in card


def test_the_card_says_of_several_networks_how_many_are_averaged(world: World, bundle: Bundle) -> None:
    ranker = dataclasses.replace(world.ranker, members=world.ranker.members * 3)
    assert (
        "networks whose logits are averaged | 3 |"
        in dataclasses.replace(world, ranker=ranker).pack().files["card.md"].decode()
    )
    assert "averaged" not in bundle.files["card.md"].decode()


def test_card_and_runbooks_name_the_command_that_goes_back(bundle: Bundle) -> None:
    """As the command line has it: each option that they name is one of `rollback`'s."""
    from typer.testing import CliRunner

    from pipeline.promotion_cli import promotion_app

    said = CliRunner().invoke(promotion_app, ["rollback", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    assert "--hold" in said
    assert "--to" in said
    texts = {path.name: path.read_text() for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    ways_back = {name: text.partition("## Rollback")[2].partition("## Meaning")[0] for name, text in texts.items()}
    ways_back["card.md"] = bundle.files["card.md"].decode().partition("## Going back")[2]
    for name, way in ways_back.items():
        assert "tag -a" not in way, name
        assert "gto assign" not in way, name
        assert "python -m pipeline rollback --hold" in way or "```" not in way, name
    assert "```" in ways_back["CtrAucDrop.md"]


def test_the_card_says_what_a_champion_scored_on_the_same_rows(world: World, bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path)
    champion = Champion.from_bundle(tmp_path, "v1.0.0")
    earlier = dataclasses.replace(champion, train_last_time=world.splits.span("test").first_time)
    card = world.against(earlier).pack().files["card.md"].decode()
    assert "Against champion v1.0.0" in card
    assert "0.0000 (0.0000 to 0.0000)" in card  # the same scorer differs from itself by nothing


def test_the_card_warns_of_a_quick_look_and_of_downsampling(world: World) -> None:
    ranker = dataclasses.replace(world.ranker, limit_batches=3, negative_keep_rate=0.25)
    card = dataclasses.replace(world, ranker=ranker).pack().files["card.md"].decode()
    assert "A QUICK LOOK" in card
    assert "25 % of the other rows" in card


def test_a_table_on_the_card_needs_a_row() -> None:
    with pytest.raises(ConfigError, match="card_slices"):
        dataclasses.replace(PACK_PARAMS, card_slices=0)
