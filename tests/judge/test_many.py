"""Many micrographs are judged alike by one process and by several, and the frames of a film one by one."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fake_workers import DiscsJudge
from passband.detections.given import DetectionsFile
from passband.engines.parcels import Failure, Outcome
from passband.engines.settings import EngineSettings
from passband.errors import BundleError, ParameterError, PassbandError, ReadError
from passband.judge import many
from passband.judge.many import Plan, assess_files
from passband.judge.verdict import json_pieces, verdict_json, verdicts_to_json
from passband.kinds import JudgeFile
from passband.micrographs.many import Reading, frames_from_text
from passband.micrographs.readers import count_frames
from passband.store import files as files_module

pytestmark = pytest.mark.usefixtures("fake_detector")
PROCESS = EngineSettings(engine="processes", workers=1)


@pytest.fixture
def folder(tmp_path: Path, discs) -> Path:
    """A film of five frames, images, one damaged."""
    images = tmp_path / "images"
    images.mkdir()
    for i in range(6):
        np.save(images / f"{i}.npy", discs(1000 + i, noise=0.2 + i)[0].pixels)
    np.save(images / "film.npy", np.stack([discs(2000 + i, noise=0.5)[0].pixels for i in range(5)]))
    (images / "3b.npy").write_bytes((images / "3.npy").read_bytes()[:200])
    return images


def files(report: Path) -> dict[str, bytes]:
    return {str(p.relative_to(report)): p.read_bytes() for p in report.rglob("*") if p.is_file()}


def test_a_process_judges_as_this_one_does_to_the_byte(folder, tmp_path, bundle_path, monkeypatch) -> None:
    plan = Plan(judge=DiscsJudge(bundle_path)(), reading=Reading(pixel_size=4.0), frames=slice(None))
    monkeypatch.chdir(folder.parent)
    told: list[tuple[str, int, int]] = []
    alone = assess_files(["images"], plan, report=tmp_path / "a")
    other = assess_files(
        ["images"], plan, report=tmp_path / "b", engine=PROCESS, progress=lambda *w: told.append(w)
    )
    assert [v.path for v in alone.verdicts][-5:] == [f"images/film.npy#{i}" for i in range(5)]
    assert alone.errors == other.errors and [path for path, _ in other.errors] == ["images/3b.npy"]
    assert alone.counts == other.counts and sum(alone.counts.values()) == 11
    assert [done for _, done, _ in told] == list(range(13)) and told[-1] == ("", 12, 12)
    assert files(tmp_path / "b") == files(tmp_path / "a")
    again = assess_files(["images"], plan, report=tmp_path / "b")
    assert again.reused == 11 and files(tmp_path / "b") == files(tmp_path / "a")


def test_verdicts_stand_in_order_and_a_death_is_told(folder, bundle_path, monkeypatch) -> None:
    def backwards(function, items, engine):
        for item in reversed(list(items)):
            if item.path.endswith("4.npy"):
                yield Outcome(task=item, failure=Failure(words="its worker died", killed=True))
            else:
                yield Outcome(task=item, value=function(item))

    monkeypatch.setattr(many, "run_tasks", backwards)
    plan = Plan(judge=DiscsJudge(bundle_path)(), reading=Reading(pixel_size=4.0, frame=0))
    alone = assess_files([str(folder)], plan)
    other = assess_files([str(folder)], plan, engine=PROCESS)
    kept = [v for v in alone.verdicts if not v.path.endswith("4.npy")]
    assert verdicts_to_json(other.verdicts) == verdicts_to_json(kept)
    assert other.errors == (*alone.errors, (str(folder / "4.npy"), "its worker died"))


def test_verdicts_that_are_taken_are_not_kept(folder, bundle_path) -> None:
    plan = Plan(judge=DiscsJudge(bundle_path)(), frames=frames_from_text("1:4:2"))
    taken = []
    outcome = assess_files([str(folder / "film.npy")], plan, take=taken.append)
    assert outcome.verdicts == () and sum(outcome.counts.values()) == 2
    assert [v.path.rpartition("#")[2] for v in taken] == ["1", "3"]
    text = "".join(json_pieces(map(verdict_json, taken), outcome.errors))
    assert text == verdicts_to_json(taken, outcome.errors)
    past = assess_files([str(folder / "film.npy")], Plan(judge=plan.judge, frames=slice(7, 9)))
    assert "it has no frame 5: it holds 5 frames" in past.errors[0][1]


def test_a_large_image_tells_how_far_it_is(folder, bundle_path) -> None:
    told = []

    def judge(micrograph, given, progress):
        progress("tile", 0, 4)
        progress("tile", 3, 4)
        return known.function(micrograph, given, None)

    known = DiscsJudge(bundle_path)()
    names = [str(folder / f"{i}.npy") for i in (0, 1)]
    assess_files(names, Plan(judge=replace(known, function=judge)), progress=lambda *w: told.append(w))
    tiles = [("tile 1 of 4", 0), ("tile 4 of 4", 0), ("tile 1 of 4", 1), ("tile 4 of 4", 1)]
    expected = [(f"{names[n]}, {words}", n, 2) for words, n in tiles]
    assert [t for t in told if "tile" in t[0]] == expected
    assert told[-1] == ("", 2, 2)


def test_a_report_says_so_where_nothing_could_be_judged_and_keeps_no_old_parts(
    folder, tmp_path, bundle_path
) -> None:
    plan, report = Plan(judge=DiscsJudge(bundle_path)()), tmp_path / "report"
    assess_files([str(folder / f"{i}.npy") for i in range(3)], plan, report=report)
    assert len(list((report / "parts").glob("*.json"))) == 3
    other = replace(plan, reading=Reading(pixel_size=9.0))
    assess_files([str(folder / "0.npy")], other, report=report)
    assert len(list((report / "parts").glob("*.json"))) == 1
    outcome = assess_files([str(folder / "3b.npy")], plan, report=report)
    page = outcome.page.read_text("utf-8")
    assert "3b.npy" in page and "0.npy" not in page and "Not finished" not in page
    with pytest.raises(PassbandError):
        assess_files([], replace(plan, detections=DetectionsFile(path=folder / "none.json")), report=report)
    assert "Not finished" in outcome.page.read_text("utf-8")


def test_on_a_full_disk_verdicts_are_told_all_the_same(folder, tmp_path, bundle_path, monkeypatch) -> None:
    plan = Plan(judge=DiscsJudge(bundle_path)())
    alone = assess_files([str(folder / "0.npy")], plan)
    for full in ("report.html", "", "results.csv"):  # the last file, all of them, the first
        report = tmp_path / f"report{full}"

        def write(path, content, full=full, real=files_module.write_whole):
            if str(path).endswith(full):
                error = OSError(errno.ENOSPC, "No space left on device")
                raise PassbandError(f"{path} cannot be written: {error.strerror}") from error
            return real(path, content)

        with monkeypatch.context() as patched:
            for module in ("judge.report", "store.parts"):
                patched.setattr(f"passband.{module}.write_whole", write)
            outcome = assess_files([str(folder / "0.npy")], plan, report=report)
        assert verdicts_to_json(outcome.verdicts) == verdicts_to_json(alone.verdicts)
        assert outcome.page is None
        ((path, words),) = outcome.errors
        assert path == str(report) and "the report was not written" in words and "No space left" in words
        assert any("could not be kept" in note for note in outcome.notes) == (full == "")


def test_a_film_says_how_many_frames_it_holds(folder) -> None:
    assert (count_frames(folder / "film.npy"), count_frames(folder / "0.npy")) == (5, 1)
    with pytest.raises(ReadError):
        count_frames(folder / "3b.npy")


def test_what_does_not_go_together_is_refused(folder, bundle_path) -> None:
    judge = JudgeFile(path=bundle_path)()
    with pytest.raises(ParameterError, match="neither with detections of a file nor with one frame"):
        Plan(judge=judge, frames=slice(None), reading=Reading(frame=0))
    for text in ("some", "3", "0:5:0", "-1:3", "10:0", "3:3", ":0"):
        with pytest.raises(ParameterError, match="frames are all, 0:100"):
            frames_from_text(text)
    with pytest.raises(ParameterError, match="only a judge that is in a file"):
        here = Plan(judge=replace(judge, source=None))
        assess_files([str(folder)], here, engine=PROCESS)
    assert judge.source is not None and judge.source().digest == judge.digest
    other = JudgeFile(path=bundle_path, digest="0" * 64)
    with pytest.raises(BundleError, match="is another bundle where a worker reads it"):
        other()
    assert judge.source.path.is_absolute()
