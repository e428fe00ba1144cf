"""The report says what the artifacts say, needs nothing but itself, and lets no value of a log become markup."""

from __future__ import annotations

import dataclasses
import html.parser
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from components.autopi.architecture import Collapse, EpochRecord, FoundArchitecture
from components.champion import Champion
from components.errors import IntegrityError
from components.evaluating.evaluation import Oracle
from components.log import CheckResult
from components.splitting import SplitSpan
from components.training import EpochRecord as TrainingEpoch
from components.training import Member
from components.watching import Drift
from components.watching.drift import DriftFacts, Finding
from pipeline.report import render_report, summary_lines
from pipeline.report.charts import Axes, Scale, Series, nothing_under, number, round_ticks, xy_chart
from pipeline.report.strips import Stretch, time_line
from tests.bundle_world import LINE, World, shared_world

ARTIFACTS = ("clean_log", "splits", "encoded", "architecture", "ranker", "evaluation", "verdict")
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return shared_world(tmp_path_factory)


@pytest.fixture(scope="module")
def full(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world against its own champion, with a search's course and an oracle."""
    folder = tmp_path_factory.mktemp("champion")
    world.pack().save(folder)
    champion = dataclasses.replace(
        Champion.from_bundle(folder, "v3.1.4"), train_last_time=world.splits.span("test").first_time
    )
    compared = world.against(champion)
    facts = dataclasses.replace(compared.evaluation.facts, oracle=Oracle(997, 0.7777, 0.4444, 0.8888, 0.05, 0.06))
    return dataclasses.replace(
        compared,
        architecture=searched(world.architecture),
        evaluation=dataclasses.replace(compared.evaluation, facts=facts),
    )


def searched(architecture: FoundArchitecture) -> FoundArchitecture:
    even = (1 / 3, 1 / 3, 1 / 3)
    history = tuple(
        EpochRecord(
            epoch, 1.0, 0.6, 0.61, 0.62 - 0.01 * epoch, 0.7, (even,) * 3, (0.5,) * 3, (even,) * 5, (0.5,) * 5, LINE
        )
        for epoch in range(4)
    )
    return dataclasses.replace(
        architecture, strategy="darts", history=history, best_epoch=3, collapse=Collapse(0.25, 0.9), rows_seen=12_345
    )


def save(world: World, folder: Path, names: tuple[str, ...] = ARTIFACTS) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        getattr(world, name).save(folder / name)
    return folder


def page_of(artifacts: Path, drift: Path | None = None) -> str:
    output = artifacts.parent / "report" / "index.html"
    render_report(artifacts, drift, "log: market # a knob", output)
    return output.read_text(encoding="utf-8")


class Tags(html.parser.HTMLParser):
    """Collects tags, addresses and whether every element is closed."""

    VOID = ("meta", "br", "img", "link", "hr", "input")

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("href", "src", "action", "data", "xlink:href")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"


def read(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


def test_several_networks_are_drawn_side_by_side_and_said_to_be_averaged(full: World, tmp_path: Path) -> None:
    members = tuple(
        Member(
            seed,
            9_000,
            kept,
            tuple(
                TrainingEpoch(epoch, 0.001, 0.7 - 0.02 * epoch, 0.6 + 0.01 * epoch + seed / 1e6, 0.65 - 0.01 * epoch)
                for epoch in range(5)
            ),
        )
        for seed, kept in ((1, 4), (1001, 3), (2001, 4))
    )
    ranker = dataclasses.replace(full.ranker, members=members, tune_auc=0.71234, tune_log_loss=0.54321)
    page = page_of(save(dataclasses.replace(full, ranker=ranker), tmp_path / "artifacts"))
    assert read(page).open == []
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert (
        "3 networks learned apart and their logits are averaged (seeds 1, 1001, 2001; epochs 4, 3, 4 were kept)" in text
    )
    assert "together they have 0.71234 AUC and 0.54321 log loss on tune" in text
    assert "AUC over the epochs of the trainings of 3 networks" in page
    assert page.count("train (as learned from)</span>") == 1, "the legend says each colour once"
    assert "was kept" not in page.split("AUC over the epochs")[1].split("</svg>")[0], "no epoch is that of all three"


def test_the_page_holds_what_the_artifacts_say(full: World, tmp_path: Path) -> None:
    page = page_of(save(full, tmp_path / "artifacts"))
    comparison = full.evaluation.comparison
    assert comparison is not None
    for words in (
        f"{full.evaluation.challenger.auc.value:.4f}",
        f"{comparison.champion.log_loss.value:.4f}",
        "0.7777",
        "v3.1.4",
        "2026-01-01",
        "click is 2",
        "desk | top",
        LINE.split(" | ")[0],
        "log: market # a knob",
        *(check.name for check in full.verdict.checks),
    ):
        assert words in page
    assert page.count("<svg") >= 8


def test_the_page_needs_no_script_and_no_other_host(full: World, tmp_path: Path) -> None:
    page = page_of(save(full, tmp_path / "artifacts"))
    tags = read(page)
    assert not set(tags.tags) & {"script", "link", "iframe", "object", "embed", "img", "form"}
    assert all(address.startswith("#") for address in tags.addresses)
    assert not re.search(r"url\((?!#)|@import", page)
    hosts = set(re.findall(r"https?://[^\s\"'<)]+", page)) - {"http://www.w3.org/2000/svg"}
    assert not hosts


def test_every_element_is_closed_and_every_drawing_is_well_formed(full: World, tmp_path: Path) -> None:
    page = page_of(save(full, tmp_path / "artifacts"))
    assert read(page).open == []
    for drawing in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        root = ElementTree.fromstring(drawing)
        numbers = [
            value for element in root.iter() for name, value in element.items() if name in ("x", "y", "cx", "cy")
        ]
        assert all(math.isfinite(float(value)) for value in numbers)


def test_every_link_inside_the_page_leads_somewhere(full: World, tmp_path: Path) -> None:
    page = page_of(save(full, tmp_path / "artifacts"))
    targets = set(re.findall(r'id="([^"]+)"', page))
    assert {address[1:] for address in read(page).addresses} <= targets


@pytest.mark.parametrize("present", [(), *((name,) for name in ARTIFACTS), ARTIFACTS[:4]], ids=len)
def test_a_section_without_its_artifact_says_so(world: World, tmp_path: Path, present: tuple[str, ...]) -> None:
    (tmp_path / "artifacts").mkdir()
    page = page_of(save(world, tmp_path / "artifacts", present))
    makers = {"clean_log": "check", "splits": "split", "architecture": "search", "ranker": "train"}
    makers |= {"evaluation": "evaluate", "verdict": "judge"}
    for name, maker in makers.items():
        assert (f"pipeline run {maker}<" in page) == (name not in present)
    assert read(page).open == []


def test_no_value_of_a_log_becomes_markup(full: World, tmp_path: Path) -> None:
    report = dataclasses.replace(
        full.clean_log.report,
        quarantine_reasons={HOSTILE: 3},
        results=(CheckResult(HOSTILE, HOSTILE, 1.0, 2.0, False, True),),
    )
    slices = tuple(dataclasses.replace(part, field=HOSTILE, value=HOSTILE) for part in full.evaluation.slices)
    gain = dataclasses.replace(full.evaluation.facts.calibration, reason=HOSTILE)
    facts = dataclasses.replace(full.evaluation.facts, calibration=gain)
    hostile = dataclasses.replace(
        full,
        clean_log=dataclasses.replace(
            full.clean_log, report=report, request=dataclasses.replace(full.clean_log.request, log=HOSTILE)
        ),
        splits=dataclasses.replace(full.splits, note=HOSTILE),
        evaluation=dataclasses.replace(full.evaluation, facts=facts, slices=slices),
        verdict=dataclasses.replace(full.verdict, reasons=(HOSTILE,), champion_version=HOSTILE),
    )
    page = page_of(save(hostile, tmp_path / "artifacts"))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 7
    assert f"Why {gain.method}: &lt;script&gt;" in page


def test_a_split_that_is_not_by_time_is_drawn_by_rows(world: World, tmp_path: Path) -> None:
    spans = tuple(SplitSpan(span.name, span.num_rows, span.num_clicks, None, None) for span in world.splits.spans)
    published = dataclasses.replace(world, splits=dataclasses.replace(world.splits, rule="published", spans=spans))
    page = page_of(save(published, tmp_path / "artifacts"))
    drawing = re.search(r'<svg[^>]*aria-label="the splits.*?</svg>', page, flags=re.DOTALL)
    assert drawing is not None
    assert "2026" not in drawing[0]
    widths = {name: float(wide) for name, wide in re.findall(r'stretch (\w+)"[^>]*width="([\d.]+)"', drawing[0])}
    assert widths["train"] / widths["test"] == pytest.approx(1781 / 997, rel=0.01)


def test_drift_of_another_workspace_is_shown(world: World, tmp_path: Path) -> None:
    finding = Finding(
        "field_drift",
        "device",
        "ticket",
        "data",
        0.4,
        0.2,
        500,
        "PSI 0.4",
        "2026-01-20T00:00",
        "all rows",
        "it moved",
        "look",
    )
    figures = {"mean_score": 0.21, "reference_mean_score": 0.22, "auc": None, "reference_auc": 0.71}
    facts = DriftFacts(
        "drift",
        "",
        "v1.0.0",
        "d" * 64,
        "2026-01-20",
        "2026-01-21",
        500,
        0,
        figures,
        (),
        ("clicks come later",),
        (),
        (finding,),
        (),
    )
    monitor = tmp_path / "monitor"
    (monitor / "drift").mkdir(parents=True)
    Drift(facts, None).save(monitor / "drift")
    artifacts = save(world, tmp_path / "artifacts", ("clean_log",))
    page = page_of(artifacts, monitor)
    for words in ("PSI 0.4", "it moved", "clicks come later", "0.2100", "0.7100"):
        assert words in page
    lines = summary_lines(artifacts, monitor, tmp_path / "absent.html")
    assert any("drift" in line and "1 finding" in line for line in lines)


def test_a_damaged_artifact_is_an_error_and_leaves_the_earlier_report(world: World, tmp_path: Path) -> None:
    artifacts = save(world, tmp_path / "artifacts")
    before = page_of(artifacts)
    (artifacts / "verdict" / "verdict.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"verdict\.json"):
        page_of(artifacts)
    output = tmp_path / "report" / "index.html"
    assert output.read_text(encoding="utf-8") == before
    assert [path.name for path in output.parent.iterdir()] == ["index.html"]


def test_the_same_artifacts_give_the_same_page(world: World, tmp_path: Path) -> None:
    artifacts = save(world, tmp_path / "artifacts")
    assert page_of(artifacts) == page_of(artifacts)


def test_the_summary_says_rows_figures_verdict_and_where_to_look(full: World, tmp_path: Path) -> None:
    artifacts = save(full, tmp_path / "artifacts")
    (artifacts / "bundle").mkdir()
    full.pack().save(artifacts / "bundle")
    report = tmp_path / "report" / "index.html"
    page_of(artifacts)
    text = "\n".join(summary_lines(artifacts, None, report))
    comparison = full.evaluation.comparison
    assert comparison is not None
    for words in (
        "4,000 of 4,005",
        f"{100 * full.clean_log.report.num_clicks / 4_000:.3g} %",
        full.architecture.architecture.to_text(),
        f"{full.evaluation.challenger.auc.value:.4f}",
        f"{comparison.champion.calibration_error:.4f}",
        "v3.1.4",
        "0.7777",
        *full.verdict.reasons,
        str(report),
        "drawing.svg",
    ):
        assert words in text


def test_an_empty_workspace_has_an_empty_summary(tmp_path: Path) -> None:
    assert summary_lines(tmp_path, None, tmp_path / "absent.html") == []


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (0.0, 1.0, 5, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.031, 0.068, 4, [0.04, 0.05, 0.06]),
        (-5.0, 5.0, 2, [-5.0, 0.0, 5.0]),
        (3.0, 3.0, 5, [3.0]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, count: int, expected: list[float]) -> None:
    assert round_ticks(low, high, count) == pytest.approx(expected)


def test_a_scale_puts_ends_at_ends_and_a_log_scale_tens_at_equal_steps() -> None:
    linear = Scale(2.0, 4.0, 100.0, 0.0, False)
    assert [linear(2.0), linear(3.0), linear(4.0)] == pytest.approx([100.0, 50.0, 0.0])
    logarithmic = Scale(0.001, 1.0, 0.0, 300.0, True)
    assert [logarithmic(value) for value in (0.001, 0.01, 0.1, 1.0)] == pytest.approx([0.0, 100.0, 200.0, 300.0])
    assert logarithmic.ticks(5) == pytest.approx([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])


def test_numbers_have_no_more_digits_than_they_need() -> None:
    assert [number(value) for value in (0.0, 0.1, 12.5, 1e-5, 123_456.0)] == ["0", "0.1", "12.5", "1e-05", "123,456"]


def test_a_chart_draws_a_line_through_its_points() -> None:
    axes = Axes("x", "y", None, None, False, False, 200)
    drawing = xy_chart("t", axes, [Series("s", "first", [(0.0, 1.0), (1.0, 2.0)], "line+points")], nothing_under)
    root = ElementTree.fromstring(drawing)
    line = next(element for element in root.iter() if element.tag == "polyline")
    (x0, y0), (x1, y1) = (map(float, place.split(",")) for place in line.attrib["points"].split())
    assert x0 < x1
    assert y0 > y1  # larger values stand higher
    assert xy_chart("t", axes, [Series("s", "first", [], "line")], nothing_under) == ""


@pytest.mark.parametrize("hours", [1, 10, 30, 24 * 5, 24 * 60, 24 * 900])
def test_a_time_line_of_any_length_has_a_few_dates(hours: int) -> None:
    start = 1_767_225_600.0 * 1e6
    drawing = time_line("t", [Stretch("all", "train", start, start + hours * 3.6e9, "w")], True)
    assert 1 <= drawing.count('class="tick"') <= 11
