"""What holds of every page: one base, a policy that names what it runs, and names that stay names."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError

import passband
from made_dataset import made_dataset
from made_evaluations import made, with_intervals
from made_library import made_bundle, made_library
from passband.drawing.html import page
from passband.drawing.saving import ACCENT
from passband.drawing.thumbnails import picture_of
from passband.estimate.calibration import HeldOutScores
from passband.estimate.evaluation import page as evaluation_module
from passband.estimate.evaluation.page import evaluation_page
from passband.hrtem.dataset.contact_sheet import write_contact_sheet
from passband.hrtem.dataset.dataset import open_dataset
from passband.judge.report import Sheet, report_page
from passband.kinds import assess
from passband.particles.library.fit import classify_library
from passband.particles.library.page import library_page
from read_page import contents, read_page

SOURCE = Path(passband.__file__).parent
TEMPLATES = {p.relative_to(SOURCE).as_posix(): p.read_text("utf-8") for p in SOURCE.rglob("*.html")}
NASTY = "a\"'>{{ 7*7 }}<script>alert(1)</script></style>&amp;"
TAME = "tame"
FOLDERS = {NASTY: "b\"'>{{ 7*7 }}{% raw %}<script><img src=x onerror=alert(2)>&amp;", TAME: "mild"}


def _of_evaluation(name, _):
    """With two of its figures, which all are shown alike."""
    figures = evaluation_module._figures
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_module, "_figures", lambda e: figures(e)[:2])
        return evaluation_page(replace(with_intervals(made(60, odd=name)), model=name), subtitle=name)


def _of_dataset(name, folder):
    place = shutil.copytree(made_dataset(), folder / FOLDERS[name])
    return write_contact_sheet(open_dataset(place), folder / "out", count=3).read_text("utf-8")


def _of_library(name, folder):
    place = shutil.copytree(made_library(), folder / FOLDERS[name])
    found = classify_library(place, made_bundle())
    distance = np.where(np.arange(32) < 3, 2.5, 0.5).astype(np.float32)
    model = replace(
        found.model, name=name, classes=(name + "0", name + "1"), training={"about": {name: name}}
    )
    labels = np.array([name + "0"] * 4 + [""] * 28)
    library = replace(found.library, labels=labels)
    answer = replace(found.answer, distance=distance)
    return library_page(replace(found, library=library, model=model, answer=answer))


@pytest.fixture
def make_page(discs, bundle, fake_detector, tmp_path):
    """A page of a kind, on which a user has named all that can be named."""

    def of_report(name, _):
        micrograph, _ = discs(1003, name=name)
        verdict = assess(micrograph, bundle, thickness=1000.0)
        verdict = replace(verdict, reasons=(name, f"`{name}`"))
        sheet = Sheet(verdict=verdict, picture=picture_of(micrograph, verdict.detections))
        other = replace(sheet, verdict=replace(verdict, path="of no folder that both share"))
        scores = np.linspace(0, 1, 60).reshape(20, 3)
        held = HeldOutScores(estimated=scores, measured=scores)
        return report_page([sheet, other], errors=[(name, name)], subtitle=name, calibrated=held)

    kinds = {
        "report": of_report,
        "evaluation": _of_evaluation,
        "dataset": _of_dataset,
        "library": _of_library,
    }
    return lambda kind, name: kinds[kind](name, tmp_path / str(len(list(tmp_path.iterdir()))))


KINDS = ("report", "evaluation", "dataset", "library")
BESIDE = {"library": frozenset({"particles.csv", "crops.zip"})}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_named_so_as_to_break_a_page_stays_a_name(make_page, kind):
    texts = {name: make_page(kind, name) for name in (TAME, NASTY)}
    tame, nasty = (read_page(text, beside=BESIDE.get(kind, frozenset())) for text in texts.values())
    assert nasty.skeleton == tame.skeleton
    assert nasty.policy == tame.policy
    assert ("script-src" in tame.policy) == (kind in ("report", "library"))
    said = [nasty.words.count(n) for n in (NASTY, FOLDERS[NASTY])]
    assert said == [tame.words.count(n) for n in (TAME, FOLDERS[TAME])]
    assert sum(said) > 0
    for text in texts.values():
        (style,) = contents(text, "style")
        assert style.startswith((SOURCE / "drawing" / "page.css").read_text("utf-8"))


def test_every_template_has_the_one_base_and_escapes():
    pages = set(TEMPLATES) - {"drawing/base.html", "drawing/macros.html"}
    assert len(pages) == 7
    for name in pages:
        assert TEMPLATES[name].startswith('{% extends "drawing/base.html" %}\n')
        assert not re.search(
            r"<(html|head|meta|style|body|header|main)\b|<script(?! type=\"application/json\")",
            TEMPLATES[name],
        )
    for text in TEMPLATES.values():
        assert not re.search(r"\|\s*safe\b|autoescape| style=| on\w+=", text)


def test_no_module_writes_html():
    for module in SOURCE.rglob("*.py"):
        text = module.read_text("utf-8")
        assert not re.search(
            r"</(p|td|th|tr|div|span|li|dl|dt|dd|b|i|h\d|svg|figure|table|section)>", text
        ), module
        assert not re.search(r"from (html|string) import", text), module


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(UndefinedError, match="headline"):
        page("drawing/base.html", title="", subtitle="", footer="")


def test_figures_and_pages_share_their_accent():
    assert f"--accent: {ACCENT};" in (SOURCE / "drawing" / "page.css").read_text("utf-8")


def test_a_page_that_breaks_a_law_is_noticed():
    good = page("drawing/base.html", title="a", headline="a", subtitle="a", footer="a")
    read_page(good)
    for old, new in (
        ("</main>", ""),
        ("</main>", "<p style='color:red'>a</p></main>"),
        ("</main>", "<p onclick='a()'>a</p></main>"),
        ("</main>", "<script>a()</script></main>"),
        ("</main>", "<img alt='a' src='https://example.org/a.png'></main>"),
        ("</main>", "<a href='#nowhere'>a</a></main>"),
        ("</main>", "<i/></main>"),
        ("</main>", "https://example.org</main>"),
        ("</style>", "a{}</style>"),
        ("</style>", "</style><style></style>"),
        ("default-src 'none'", "default-src *"),
        ("; base-uri 'none'", ""),
    ):
        assert good.count(old) == 1
        with pytest.raises(AssertionError):
            read_page(good.replace(old, new))
