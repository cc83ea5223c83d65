"""The page of an evaluation is whole, needs nothing else, and says the numbers."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

import pytest

from made_evaluations import abstaining, made, missing, with_intervals
from passband.drawing.parts import Chart
from passband.errors import PassbandError
from passband.estimate.evaluation import page as module
from passband.estimate.evaluation.page import evaluation_page, write_evaluation
from read_page import read_page


@pytest.fixture(scope="module")
def evaluation():
    return with_intervals(made(60))


@pytest.fixture(scope="module")
def page(evaluation):
    return evaluation_page(evaluation, subtitle="rows <i>.csv")


def test_the_page_is_whole_and_needs_nothing_else(page):
    seen = read_page(page)
    sources = [a["src"] for a in seen.all("img")]
    assert len(sources) == 12
    assert all(s.startswith("data:image/svg+xml;base64,") for s in sources)
    assert not seen.all("a") and "<script" not in page
    assert all(len(a["alt"]) > 10 for a in seen.all("img"))
    assert {a["scope"] for a in seen.all("th")} == {"col", "row"}
    assert "<b>&" not in page.replace("<b>&nbsp", "") and "<i>" not in page


def test_its_figures_follow_light_and_dark(page):
    for a in read_page(page).all("img"):
        svg = base64.b64decode(a["src"].partition(",")[2]).decode()
        ElementTree.fromstring(svg)
        assert "prefers-color-scheme:dark" in svg and "currentColor" in svg and "#000000" not in svg
        assert not re.search(r'(href|src)="(?!#|data:)', svg)


def test_it_says_the_numbers(evaluation, page):
    words = read_page(page).words
    f1 = evaluation.overall["f1"]
    assert f"F1 estimated without labels to {f1.mae:.3f}" in words
    for m in (*evaluation.overall.values(), *evaluation.domains["f1"].values()):
        assert f"{m.mae:.3f}" in words and f"{m.coverage:.3f}" in words
    assert "meant 0.9" in words and "B <b>&" in words and "60 rows of 3 domains" in words
    assert "It abstained on 0 % of the rows" in words and "could not be estimated" not in words


@pytest.fixture
def undrawn(monkeypatch):
    """Pages whose figures are laid out but not drawn."""

    def empty(figure, heading, caption):
        title = figure.axes[0].get_title()
        return Chart(heading=heading, caption=caption, title=title, address="data:image/svg+xml;base64,")

    monkeypatch.setattr("passband.estimate.evaluation.page.embed", empty)


def test_without_intervals_it_does_not_speak_of_them(undrawn):
    seen = read_page(evaluation_page(made(60)))
    words = seen.words
    assert (
        "abstained" not in words
        and "Coverage" not in words
        and "intervals hold" not in words
        and "nan" not in words
    )
    assert len(seen.all("img")) == 10


def test_what_is_missing_or_abstained_on_is_said(undrawn):
    page = evaluation_page(abstaining(missing(with_intervals(made(60)), [1]), [5, 6, 7]))
    words = read_page(page).words
    assert "It abstained on 5 % of the rows" in words and "1 row could not be estimated" in words


def test_nothing_estimated_is_a_page_too(undrawn):
    assert "nan" not in read_page(evaluation_page(missing(made(12), list(range(12))))).words


def test_it_is_written_whole_and_always_the_same(evaluation, tmp_path, monkeypatch):
    figures = module._figures  # the first three: the last of them draws rows by chance
    monkeypatch.setattr(module, "_figures", lambda e: figures(e)[:3])
    page = evaluation_page(evaluation, subtitle="rows <i>.csv")
    path = write_evaluation(tmp_path / "new", evaluation, subtitle="rows <i>.csv")
    assert path == tmp_path / "new" / "evaluation.html"
    assert path.read_text("utf-8") == page
    (tmp_path / "file").write_text("")
    with pytest.raises(PassbandError, match="cannot be written"):
        write_evaluation(tmp_path / "file", evaluation)
