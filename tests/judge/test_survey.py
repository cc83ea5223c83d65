"""A folder is drawn from before anyone looks; its labels say what holds of all of it, or that they cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from passband.detections.detections import Detections
from passband.detections.files import read_detections, write_coco
from passband.detections.given import DetectionsFile
from passband.errors import DatasetError, DetectionsError, ParameterError, PassbandError, ReadError
from passband.judge.many import Plan
from passband.judge.survey import Drawing, draw_survey
from passband.judge.survey_result import NAMES, survey_result
from passband.judge.survey_task import IMAGES, Task, read_task
from passband.judge.survey_words import survey_in_words, survey_to_json
from passband.judge.verdict import detector_judge
from passband.kinds import JudgeFile
from passband.micrographs.many import Reading
from passband.micrographs.readers import read_micrograph

pytestmark = pytest.mark.usefixtures("fake_detector")
N = 12


@pytest.fixture
def folder(tmp_path: Path, discs) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(N):
        np.save(images / f"{i:02}.npy", discs(1000 + i, count=4 + i % 5, noise=0.2 + 0.1 * i)[0].pixels)
    return images


@pytest.fixture
def truth(discs) -> dict[str, Detections]:
    return {f"{i:02}.npy": discs(1000 + i, count=4 + i % 5, noise=0.2 + 0.1 * i)[1] for i in range(N)}


@pytest.fixture
def plan(bundle_path: Path) -> Plan:
    return Plan(judge=JudgeFile(path=bundle_path)(), reading=Reading(pixel_size=4.0))


def coco(path: Path, found: Mapping[str, Detections]) -> Path:
    write_coco(path, found)
    return path


def drawn(folder: Path, plan: Plan, out: Path, **how: int) -> Task:
    task, errors = draw_survey([str(folder)], plan, Drawing(out=out, **how))
    assert errors == ()
    return task


def boxes_only(found: Mapping[str, Detections]) -> dict[str, Detections]:
    return {name: replace(d, masks=None) for name, d in found.items()}


def nothing(shape: tuple[int, int]) -> Detections:
    return Detections(image_shape=shape, boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0))


def test_a_draw_is_random_by_its_seed_and_leaves_a_whole_task(folder, plan, tmp_path) -> None:
    told: list[tuple[str, int, int]] = []
    out = tmp_path / "task"
    task, errors = draw_survey(
        [str(folder)], plan, Drawing(out=out, count=4, seed=3), progress=lambda *w: told.append(w)
    )
    assert errors == () and told[-1] == ("", N, N)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    again = drawn(folder, plan, tmp_path / "again", count=4, seed=3)
    other = drawn(folder, plan, tmp_path / "other", count=4, seed=4)
    places = [[d.place for d in t.drawn] for t in (task, again, other)]
    assert places[0] == places[1] != places[2]
    assert sorted(p.name for p in out.iterdir()) == [
        "README.txt",
        "detections.coco.json",
        "draw.json",
        "images",
    ]
    # The annotator opens a picture on the same pixels, beside the original.
    for d in task.drawn:
        path = Path(task.members[d.place].path)
        assert (out / IMAGES / path.name).read_bytes() == path.read_bytes()
        assert d.name == f"{path.stem}.png"
        shown = np.asarray(Image.open(out / IMAGES / d.name))
        assert shown.dtype == np.uint8 and shown.shape == task.members[d.place].image_shape
        exact = read_micrograph(path).pixels
        assert np.corrcoef(shown.ravel(), exact.ravel())[0, 1] > 0.99
        assert d.name in (out / "README.txt").read_text()
    filled = read_detections(out / "detections.coco.json")
    assert set(filled) == {d.name for d in task.drawn}
    for d in task.drawn:
        assert filled[d.name].boxes_xyxy.tolist() == d.boxes_xyxy.tolist()
        assert len(d.boxes_xyxy) == len(task.members[d.place].diameters) > 0


def test_how_and_in_which_order_files_are_given_does_not_matter(folder, plan, tmp_path, monkeypatch) -> None:
    files = sorted(str(p) for p in folder.iterdir())
    a, _ = draw_survey(files, plan, Drawing(out=tmp_path / "a", count=3))
    b, _ = draw_survey(files[::-1], plan, Drawing(out=tmp_path / "b", count=3))
    assert [d.place for d in a.drawn] == [d.place for d in b.drawn]
    assert [m.path for m in a.members] == [m.path for m in b.members] == files
    monkeypatch.chdir(folder)
    c, _ = draw_survey(
        [f"./../images/{Path(f).name}" for f in files], plan, Drawing(out=tmp_path / "c", count=3)
    )
    assert [d.place for d in c.drawn] == [d.place for d in a.drawn]


def test_a_killed_draw_goes_on_and_leaves_no_task_before_it_is_whole(
    folder, plan, tmp_path, monkeypatch
) -> None:
    judge, asked = plan.judge, []

    def killed(micrograph, given, progress):
        asked.append(micrograph.name)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return judge.function(micrograph, given, progress)

    stopping = replace(plan, judge=replace(judge, function=killed))
    out = tmp_path / "task"
    with pytest.raises(KeyboardInterrupt):
        draw_survey([str(folder)], stopping, Drawing(out=out, count=4))
    assert not out.exists()
    task, _ = draw_survey([str(folder)], stopping, Drawing(out=out, count=4))
    assert len(asked) == N + 1  # four were kept, the fifth was asked again
    whole = drawn(folder, plan, tmp_path / "whole", count=4)
    assert [d.place for d in task.drawn] == [d.place for d in whole.drawn]
    assert (out / "draw.json").read_bytes() == (tmp_path / "whole" / "draw.json").read_bytes()


def test_a_task_that_cannot_be_written_leaves_nothing(folder, plan, tmp_path, monkeypatch) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("passband.judge.survey_task.shutil.copyfile", full)
    with pytest.raises(PassbandError, match="No space left on device; choose a folder"):
        draw_survey([str(folder)], plan, Drawing(out=tmp_path / "task"))
    assert not (tmp_path / "task").exists() and not (tmp_path / ".task.partial").exists()


def test_a_second_draw_into_a_task_is_refused(folder, plan, tmp_path) -> None:
    drawn(folder, plan, tmp_path / "task", count=2)
    with pytest.raises(DatasetError, match="holds a draw already"):
        drawn(folder, plan, tmp_path / "task", count=2, seed=1)
    with pytest.raises(DatasetError, match="no survey; choose a new folder"):
        drawn(folder, plan, folder, count=2)
    (tmp_path / "empty").mkdir()
    assert len(drawn(folder, plan, tmp_path / "empty", count=2).drawn) == 2
    for count, seed in ((0, 0), (3, -1)):
        with pytest.raises(ParameterError, match="count must be at least 1 and seed at least 0"):
            Drawing(out=tmp_path / "x", count=count, seed=seed)


def test_what_cannot_be_read_or_comes_twice_is_told_and_not_of_the_population(folder, plan, tmp_path) -> None:
    (folder / "03b.npy").write_bytes((folder / "03.npy").read_bytes()[:200])
    shutil.copy(folder / "05.npy", folder / "zz.npy")
    task, errors = draw_survey([str(folder), str(tmp_path / "none.tif")], plan, Drawing(out=tmp_path / "t"))
    assert [Path(path).name for path, _ in errors] == ["03b.npy", "none.tif"]
    assert len(task.members) == N
    assert [words for words in task.notes if "zz.npy has the content of" in words and "05.npy" in words]
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "a.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ReadError, match="not one image could be judged"):
        draw_survey([str(damaged)], plan, Drawing(out=tmp_path / "u"))
    assert not list(tmp_path.glob(".u*"))


def test_images_of_one_name_in_two_folders_keep_apart(folder, plan, tmp_path, discs) -> None:
    other = tmp_path / "more"
    other.mkdir()
    np.save(other / "00.npy", discs(5000)[0].pixels)
    tifffile.imwrite(other / "01.tif", discs(5001)[0].pixels)
    task, errors = draw_survey([str(folder), str(other)], plan, Drawing(out=tmp_path / "t", count=99))
    names = [d.name for d in task.drawn]
    assert errors == () and len(set(names)) == N + 2
    assert {"images_00.png", "more_00.png", "images_01.png", "more_01.png", "02.png"} <= set(names)


def test_pictures_that_tools_show_are_copied_alone(tmp_path, plan, discs) -> None:
    images = tmp_path / "images"
    images.mkdir()
    grey = (discs(1)[0].pixels * 40 + 100).clip(0, 255)
    Image.fromarray(grey.astype(np.uint8)).save(images / "a.png")
    Image.fromarray(grey.astype(np.uint16) * 200).save(images / "deep.png")
    task = drawn(images, plan, tmp_path / "t")
    assert {d.name: set(d.files) for d in task.drawn} == {
        "a.png": {"a.png"},
        "deep_8bit.png": {"deep.png", "deep_8bit.png"},
    }


def test_with_all_labelled_everything_is_what_it_is(folder, plan, truth, tmp_path) -> None:
    judge = JudgeFile(path=plan.judge.source.path, thickness=5000.0)()
    task = drawn(folder, replace(plan, judge=judge), tmp_path / "t", count=99)
    assert task.notes == (f"all {N} images are drawn: there are no 99",)
    result = survey_result(tmp_path / "t", coco(tmp_path / "truth.json", truth))
    assert result.valid and (result.n, result.drawn, result.labelled) == (N, N, N)
    assert list(result.quantities) == list(NAMES)
    count = sum(map(len, truth.values()))
    for told in result.quantities.values():
        for s in (told.corrected, told.labels_only):
            assert s.low == s.value == s.high
            assert s.value == pytest.approx(told.corrected.value)
    told = {name: t.corrected.value for name, t in result.quantities.items()}
    assert told["count_total"] == pytest.approx(count)
    area = N * 96 * 96 * 4.0**2
    assert told["density_per_um2"] == pytest.approx(count / (area / 1e8))
    pixels = sum(int(m.pixels.sum()) for d in truth.values() for m in d.masks)
    assert told["area_fraction"] == pytest.approx(pixels / (N * 96 * 96))
    from passband.detections.scores import equivalent_diameters, swelling_percent

    d = np.concatenate([equivalent_diameters(t.masks) for t in truth.values()])
    assert told["diameter_mean_px"] == pytest.approx(d.mean())
    assert told["diameter_mean_nm"] == pytest.approx(d.mean() * 0.4)
    assert told["diameter_median_px"] == pytest.approx(np.quantile(d, 0.5, method="inverted_cdf"))
    assert told["swelling_percent"] == pytest.approx(swelling_percent(d * 4.0, area, 5000.0))


def test_labels_of_images_that_were_not_drawn_change_nothing(folder, plan, truth, tmp_path) -> None:
    task = drawn(folder, plan, tmp_path / "t", count=5, seed=2)
    stems = {Path(d.name).stem for d in task.drawn}
    only = {name: d for name, d in truth.items() if Path(name).stem in stems}
    a = survey_result(tmp_path / "t", coco(tmp_path / "some.json", only))
    b = survey_result(tmp_path / "t", coco(tmp_path / "all.json", truth))
    assert a.quantities == b.quantities and a.invalid == b.invalid
    assert [n for n in b.notes if n not in a.notes] == [
        "all.json: it speaks of 7 more images than are given, passed over: "
        + ", ".join(repr(name) for name in [n for n in truth if Path(n).stem not in stems][:3])
        + ", ..."
    ]
    assert a.valid and a.labelled == 5
    f1 = a.quantities["f1_mean"].corrected
    assert 0 <= f1.low < f1.value <= f1.high <= 1
    assert "Valid: every drawn image is labelled" in survey_in_words(a)
    assert "7 more labels would narrow the intervals, F1, mean of images: " in survey_in_words(a)


def test_other_detections_are_taken_all_and_a_file_without_scores_is_told_by_the_labels(
    folder, plan, truth, tmp_path
) -> None:
    half = {
        name: replace(d, scores=np.full(len(d), 0.3), masks=None, scored=True) for name, d in truth.items()
    }
    given = replace(plan, detections=DetectionsFile(path=coco(tmp_path / "found.json", half)))
    task = drawn(folder, given, tmp_path / "t", count=3)
    # The bundle's threshold is .5, and not theirs.
    assert [len(m.diameters) for m in task.members] == [len(d) for d in half.values()]
    assert all(m.estimates for m in task.members)
    missed = {
        name: replace(d, boxes_xyxy=d.boxes_xyxy[i % 3 :], scores=d.scores[i % 3 :], scored=False)
        for i, (name, d) in enumerate(boxes_only(truth).items())
    }
    plain = replace(plan, detections=DetectionsFile(path=coco(tmp_path / "plain.json", missed)))
    task = drawn(folder, plain, tmp_path / "u", count=6)
    assert not any(m.estimates for m in task.members)
    assert "no estimate could be made: the labels alone tell the scores" in task.notes
    result = survey_result(tmp_path / "u", coco(tmp_path / "truth.json", truth))
    for name in ("f1_mean", "f1_pooled", "recall_pooled"):
        told = result.quantities[name]
        assert told.corrected.value == pytest.approx(told.labels_only.value)
        assert told.corrected.high - told.corrected.low == pytest.approx(
            told.labels_only.high - told.labels_only.low
        )
    # What was found everywhere still tells how much there is.
    count = result.quantities["count_total"]
    assert count.corrected.high - count.corrected.low < count.labels_only.high - count.labels_only.low


def test_without_a_calibration_there_is_no_estimate(folder, plan, uncalibrated, tmp_path) -> None:
    bare = Plan(judge=detector_judge(uncalibrated), reading=plan.reading)
    assert not any(m.estimates for m in drawn(folder, bare, tmp_path / "u", count=3).members)


def test_one_image_whose_detections_are_of_another_size_is_left_out(folder, plan, truth, tmp_path) -> None:
    wrong = {**truth, "04.npy": replace(boxes_only(truth)["04.npy"], image_shape=(128, 128))}
    given = replace(plan, detections=DetectionsFile(path=coco(tmp_path / "found.json", wrong)))
    task, errors = draw_survey([str(folder)], given, Drawing(out=tmp_path / "t", count=3))
    assert len(task.members) == N - 1
    ((path, words),) = errors
    assert path.endswith("04.npy") and "of another size" in words and "128 x 128" in words
    all_wrong = {name: replace(d, image_shape=(128, 128)) for name, d in boxes_only(truth).items()}
    with pytest.raises(DetectionsError, match="of another size"):
        draw_survey(
            [str(folder)],
            replace(plan, detections=DetectionsFile(path=coco(tmp_path / "wrong.json", all_wrong))),
            Drawing(out=tmp_path / "u"),
        )
    assert not (tmp_path / "u").exists()


def test_images_that_the_detections_do_not_speak_of_are_told(folder, plan, truth, tmp_path) -> None:
    some = {name: d for name, d in truth.items() if name != "07.npy"}
    given = replace(plan, detections=DetectionsFile(path=coco(tmp_path / "found.json", some)))
    task, errors = draw_survey([str(folder)], given, Drawing(out=tmp_path / "t", count=3))
    assert len(task.members) == N - 1
    assert [Path(path).name for path, _ in errors] == ["07.npy"] and "says nothing of this image" in errors[
        0
    ][1]


def test_missing_labels_make_it_invalid_but_are_told_and_counted(folder, plan, truth, tmp_path) -> None:
    task = drawn(folder, plan, tmp_path / "t", count=6)
    names = [f"{Path(d.name).stem}.npy" for d in task.drawn]
    some = {name: truth[name] for name in names[:4]}
    result = survey_result(tmp_path / "t", coco(tmp_path / "some.json", some))
    assert not result.valid and (result.drawn, result.labelled) == (6, 4)
    assert (
        "2 of 6 drawn images have no labels" in result.invalid[0] and task.drawn[5].name in result.invalid[0]
    )
    assert "Not valid: 2 of 6" in survey_in_words(result)
    wrong = {**{name: truth[name] for name in names[1:]}, names[0]: nothing((50, 50))}
    result = survey_result(tmp_path / "t", coco(tmp_path / "wrong.json", wrong))
    assert result.labelled == 5 and not result.valid
    assert any("another size" in words for words in result.invalid)
    one = survey_result(tmp_path / "t", coco(tmp_path / "one.json", {names[0]: truth[names[0]]}))
    f1 = json.loads(survey_to_json(one))["f1_mean"]
    assert f1["high"] - f1["low"] == pytest.approx((N - 1) / N)
    assert json.loads(survey_to_json(one))["count_total"]["high"] is None
    assert "any number" in survey_in_words(one) and "One label tells nothing" in survey_in_words(one)


def test_truth_for_other_images_is_refused(folder, plan, truth, tmp_path) -> None:
    drawn(folder, plan, tmp_path / "t", count=4)
    others = coco(tmp_path / "o.json", {f"x{name}": d for name, d in truth.items()})
    with pytest.raises(DetectionsError, match="images that are not among those given"):
        survey_result(tmp_path / "t", others)
    with pytest.raises(DetectionsError, match="does not exist"):
        survey_result(tmp_path / "t", tmp_path / "none.json")
    with pytest.raises(ParameterError, match="coverage must lie"):
        survey_result(tmp_path / "t", others, coverage=1.5)


def test_truth_without_an_object_is_doubted_where_something_was_found(folder, plan, truth, tmp_path) -> None:
    drawn(folder, plan, tmp_path / "t", count=4)
    empty = {name: nothing(d.image_shape) for name, d in truth.items()}
    annotations = coco(tmp_path / "empty.json", empty)
    result = survey_result(tmp_path / "t", annotations)
    assert not result.valid and "hold no object in any drawn image" in result.invalid[0]
    assert result.quantities["diameter_mean_px"].corrected is None
    told = json.loads(survey_to_json(result))
    assert told["diameter_mean_px"]["value"] is None and told["f1_mean"]["value"] == 0
    assert "the labels hold no object to measure" in survey_in_words(result)
    # Nothing there and nothing found is a perfect answer, and no doubt is cast on it.
    given = replace(plan, detections=DetectionsFile(path=coco(tmp_path / "found.json", empty)))
    drawn(folder, given, tmp_path / "u", count=4)
    result = survey_result(tmp_path / "u", annotations)
    assert result.valid
    f1 = result.quantities["f1_pooled"].corrected
    assert (f1.value, f1.low, f1.high) == (1, 0, 1)
    assert result.quantities["count_total"].corrected.high > 0


def test_a_task_edited_by_hand_is_told(folder, plan, truth, tmp_path) -> None:
    task = drawn(folder, plan, tmp_path / "t", count=4)
    annotations = coco(tmp_path / "truth.json", truth)
    (tmp_path / "t" / IMAGES / task.drawn[1].name).write_bytes(b"another")
    (tmp_path / "t" / IMAGES / task.drawn[2].name).unlink()
    result = survey_result(tmp_path / "t", annotations)
    assert result.invalid == (
        f"images/{task.drawn[1].name} is not the image that was drawn: it was changed by hand",
    )
    record = tmp_path / "t" / "draw.json"
    content = record.read_text()
    record.write_text(content.replace('"seed": 0', '"seed": 7'))
    with pytest.raises(DatasetError, match="was cut or edited"):
        survey_result(tmp_path / "t", annotations)
    record.write_text(content[: len(content) // 2])
    with pytest.raises(DatasetError, match="was cut or edited"):
        survey_result(tmp_path / "t", annotations)
    with pytest.raises(DatasetError, match="wanted the folder of a survey"):
        survey_result(folder, annotations)
    from passband.store.sealed import sealed

    record.write_text(sealed({"format": "passband-survey", "version": 1, "population": []}))
    with pytest.raises(DatasetError, match="is no draw's"):
        read_task(tmp_path / "t")


def test_the_filled_in_detections_are_no_labels(folder, plan, tmp_path) -> None:
    drawn(folder, plan, tmp_path / "t", count=4)
    result = survey_result(tmp_path / "t", tmp_path / "t" / "detections.coco.json")
    assert not result.valid and "is the file of detections that the draw filled in" in result.invalid[0]


def test_classes_are_told(folder, plan, truth, tmp_path) -> None:
    drawn(folder, plan, tmp_path / "t", count=4)
    kinds = {name: [int(i == 0) for i in range(len(d))] for name, d in truth.items()}
    two = tmp_path / "two.json"
    write_coco(two, truth, categories=({"name": "cavity"}, {"name": "precipitate"}), kinds=kinds)
    result = survey_result(tmp_path / "t", two)
    assert any("of 2 classes, cavity (" in words and "precipitate (4)" in words for words in result.notes)
    one = tmp_path / "one.json"
    write_coco(one, {name: replace(d, categories=("precipitate",) * len(d)) for name, d in truth.items()})
    result = survey_result(tmp_path / "t", one)
    assert "all annotations are of the class 'precipitate'" in result.notes and result.valid


def test_without_pixel_sizes_nothing_is_told_in_nm(folder, plan, truth, tmp_path) -> None:
    drawn(folder, replace(plan, reading=Reading()), tmp_path / "t", count=4)
    result = survey_result(tmp_path / "t", coco(tmp_path / "truth.json", boxes_only(truth)))
    assert not any("nm" in name or "um2" in name or "swelling" in name for name in result.quantities)
    assert any("have no pixel size" in words for words in result.notes)
    assert any("sizes are those of annotated boxes" in words for words in result.notes)


def test_from_twenty_images_on_the_draw_is_within_three_strata(tmp_path, plan, discs) -> None:
    images = tmp_path / "images"
    images.mkdir()
    truth = {}
    for i in range(36):
        micrograph, truth[f"{i:02}.npy"] = discs(3000 + i, count=4 + i % 6, noise=0.1 + 0.05 * i, side=72)
        np.save(images / f"{i:02}.npy", micrograph.pixels)
    task = drawn(images, plan, tmp_path / "t", count=20)
    assert np.bincount(task.strata).tolist() == [12, 12, 12]
    f1 = np.array([m.estimates["f1"] for m in task.members])
    assert f1[task.strata == 0].max() <= f1[task.strata == 2].min()
    assert sorted(np.bincount([task.strata[d.place] for d in task.drawn]).tolist()) == [6, 7, 7]
    result = survey_result(tmp_path / "t", coco(tmp_path / "truth.json", truth))
    assert result.valid and not any("stratum" in words for words in result.notes)


@pytest.mark.slow
def test_many_boxes_are_read_and_doubted(folder, plan, truth, tmp_path) -> None:
    task = drawn(folder, plan, tmp_path / "t", count=3)
    name = f"{Path(task.drawn[0].name).stem}.npy"
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 80, (100_000, 2))
    many_boxes = np.hstack([corners, corners + rng.uniform(2, 12, (100_000, 2))])
    full = {**truth, name: Detections(image_shape=(96, 96), boxes_xyxy=many_boxes, scores=np.ones(100_000))}
    result = survey_result(tmp_path / "t", coco(tmp_path / "many.json", full))
    assert any("has 100000 labelled objects" in words for words in result.notes)
    assert result.quantities["count_total"].corrected.low >= 100_000
