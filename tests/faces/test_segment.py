"""`passband train segmenter` and `passband segment`, as a user calls them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from made_dataset import made_dataset
from passband.cli import app
from passband.cli.shell import SHIPPED_BUNDLES
from passband.detections.files import read_detections
from passband.detectors.bundle import SHIPPED_NAMES, named_bundle, read_bundle, write_bundle
from passband.detectors.segment import segment
from passband.detectors.train_segmenter import SegmenterConfig, train_segmenter
from passband.detectors.unet import UNetConfig
from passband.detectors.vary import Variation, vary
from passband.hrtem.dataset.simulate import simulate_dataset
from passband.hrtem.dataset.study import SimulationStudy, Splits
from passband.hrtem.specimen.specimen import SpecimenRanges
from passband.hrtem.wave.scattering import WaveSettings
from passband.micrographs.micrograph import Micrograph
from passband.optics.conditions import ConditionRanges, Uniform


@pytest.fixture
def call():
    def run(*words):
        done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
        assert "Traceback" not in done.output
        return SimpleNamespace(status=done.exit_code, out=done.stdout, err=done.stderr)

    return run


def square(rng):
    labels = np.zeros((48, 64), np.int32)
    labels[8:28, 8:28], labels[30:44, 40:60] = 1, 2
    return (4 * (labels > 0) + rng.standard_normal(labels.shape)).astype(np.float32), labels


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    config = SegmenterConfig(network=UNetConfig(widths=(4, 8)), crop=32, batch=4, steps=40, stock=4)
    path = tmp_path_factory.mktemp("bundle") / "squares.safetensors"
    write_bundle(train_segmenter(config, square), path)
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "in" / "a.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, square(np.random.default_rng(1))[0])
    return path


def test_each_frame_of_a_film_has_its_mask(call, bundle, image, tmp_path):
    """As the same images by themselves have; a file of one image stays what it is."""
    frames = [square(np.random.default_rng(seed))[0] for seed in (1, 2, 3)]
    film = image.with_name("film.tif")
    tifffile.imwrite(film, np.stack(frames), photometric="minisblack")
    done = call(
        "segment", image.parent, "--bundle", bundle, "--out", tmp_path / "out", "--frame", "all", "--json"
    )
    assert done.status == 0, done.err
    told = json.loads(done.out)["images"]
    assert [i["path"] for i in told] == [str(image), *(f"{film}#{i}" for i in range(3))]
    for seed, frame in enumerate(frames, 1):
        tifffile.imwrite(image.with_name(f"one{seed}.tif"), frame)
    call("segment", image.parent, "--bundle", bundle, "--out", tmp_path / "alone")
    for i in range(3):
        frame, alone = tmp_path / "out" / f"film_{i}_mask.png", tmp_path / "alone" / f"one{i + 1}_mask.png"
        assert frame.read_bytes() == alone.read_bytes()
    refused = call("segment", film, "--bundle", bundle, "--out", tmp_path / "none")
    assert refused.status == 2 and "--frame 0 to 2 or mean" in refused.err
    words = ("segment", film, "--bundle", bundle, "--out", tmp_path / "none", "--frame")
    assert "frame is a number from 0, mean or all, got 'some'" in call(*words, "some").err


def test_a_mask_is_written_for_every_image(call, bundle, image, tmp_path):
    tifffile.imwrite(image.with_name("b.tif"), square(np.random.default_rng(2))[0])
    out = tmp_path / "out"
    done = call("segment", image.parent, "--bundle", bundle, "--out", out, "--labels", "--json")
    assert done.status == 0, done.err
    told = json.loads(done.out)
    assert [i["objects"] for i in told["images"]] == [2, 2]
    truth = square(np.random.default_rng(1))[1] > 0
    for name in ("a", "b"):
        mask = np.asarray(Image.open(out / f"{name}_mask.png"))
        assert mask.shape == truth.shape and set(np.unique(mask)) == {0, 255}
        assert ((mask > 0) == truth).mean() > 0.95
        labels = tifffile.imread(out / f"{name}_labels.tif")
        np.testing.assert_array_equal(labels > 0, mask > 0)
        assert labels.max() == 2
    page = (out / "segments.html").read_text()
    assert page.count("<figure") == 2 and "2 objects" in page
    coco = json.loads((out / "detections.coco.json").read_text())
    assert len(coco["annotations"]) == 4
    known = {str(image): truth.shape, str(image.with_name("b.tif")): truth.shape}
    assert sum(map(len, read_detections(out / "detections.coco.json", images=known).values())) == 4


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(call, bundle, image, tmp_path):
    image.with_name("text.dm4").write_text("no micrograph")
    done = call("segment", image.parent, tmp_path / "gone.tif", "--bundle", bundle, "--out", tmp_path / "out")
    assert done.status == 2
    assert "text.dm4" in done.err and "gone.tif" in done.err
    assert (tmp_path / "out" / "a_mask.png").exists()
    assert "text.dm4" in (tmp_path / "out" / "segments.html").read_text()


def test_images_of_the_same_name_do_not_overwrite_each_other(call, bundle, image, tmp_path):
    other = tmp_path / "other" / "a.tif"
    other.parent.mkdir()
    tifffile.imwrite(other, square(np.random.default_rng(3))[0])
    done = call("segment", image, other, "--bundle", bundle, "--out", tmp_path / "out")
    assert done.status == 0
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"in_a_mask.png", "other_a_mask.png"}


@pytest.mark.parametrize(("name", "words"), [("cavities", "Mask R-CNN"), ("gone.safetensors", "gone")])
def test_a_bundle_that_does_not_segment_is_refused(call, image, tmp_path, name, words):
    done = call("segment", image, "--bundle", name, "--out", tmp_path / "out")
    assert done.status == 2
    assert words in done.err
    assert not list(tmp_path.glob("out/*.png"))


def test_assess_takes_a_segmenter_and_says_that_it_is_not_calibrated(call, bundle, image):
    done = call("assess", image, "--bundle", bundle, "--json")
    assert done.status == 0, done.err
    (verdict,) = json.loads(done.out)["micrographs"]
    assert verdict["verdict"] != "trust"
    assert "U-Net 4-8" in call("info", bundle).out


def test_bundles_that_ship_go_by_their_names_everywhere(call, image, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = [call("assess", image, "--bundle", "hrtem", "--json", *words) for words in ((), ("--workers", 1))]
    assert [done.status for done in found] == [0, 0] and found[0].out == found[1].out
    assert json.loads(found[0].out)["micrographs"]
    assert "U-Net" in call("info", "hrtem").out and "Mask R-CNN" in call("info", "cavities").out


@pytest.fixture
def discs(tmp_path):
    rng, (y, x) = np.random.default_rng(4), np.mgrid[:256, :256]
    dark = sum(((y - a) ** 2 + (x - b) ** 2 < 24**2) for a, b in ((60, 70), (150, 190), (200, 60)))
    path = tmp_path / "discs.tif"
    tifffile.imwrite(path, (100 - 45 * dark + 15 * rng.standard_normal(dark.shape)).clip(0).astype(np.uint8))
    return path


def test_the_generalists_answer_is_estimated_as_any_detectors_is(call, discs):
    done = call("assess", discs, "--bundle", "hrtem", "--pixel-size-nm", 0.05, "--json")
    assert done.status == 0, done.err
    (verdict,) = json.loads(done.out)["micrographs"]
    for name in ("f1", "precision", "recall"):
        e = verdict["estimates"][name]
        assert 0 <= e["low"] <= e["value"] <= e["high"] <= 1 and e["coverage"] == 0.9
    assert verdict["detections"]["count"] >= 3
    assert any("of pixels, not of objects" in r for r in verdict["reasons"])
    assert (verdict["pixel_size_nm"], verdict["pixel_size_source"]) == (0.05, "given by the caller")
    assert verdict["extra_passes"] == 4 and verdict["novelty"] >= 0


def test_a_focus_that_is_given_is_placed_in_the_training(call, discs):
    words = ("assess", discs, "--bundle", "hrtem", "--pixel-size-nm", 0.05, "--json", "--defocus-nm")
    inside, beyond = (json.loads(call(*words, at).out)["micrographs"][0] for at in (80, 320))
    assert any("80 nm under focus, as it was given" in r for r in inside["reasons"])
    assert any("60 nm beyond the training (-200 to 260 nm)" in r for r in beyond["reasons"])
    assert beyond["verdict"] != "trust" and inside["estimates"] == beyond["estimates"]
    assert call(*words, "nan").status == 2


def test_the_generalist_tells_where_it_can_be_trusted(call, tmp_path):
    done = call("info", "hrtem", "--plot", tmp_path / "map.png")
    assert done.status == 0 and "underfocus, nm" in done.out and (tmp_path / "map.png").exists()
    assert "1188 labelled images of 33 domains" in done.out


def test_a_dataset_trains_a_segmenter_by_command(call, tmp_path):
    words = ("--network", "tiny", "--steps", 2, "--crop", 32, "--batch", 2, "--instances", "--seed", 4)
    done = call("train", "segmenter", "--data", made_dataset(4), "--out", tmp_path / "mine", *words)
    assert done.status == 0, done.err
    bundle = read_bundle(tmp_path / "mine" / "bundle.safetensors")
    assert (bundle.name, bundle.detector.output, bundle.training["seed"]) == ("mine", "instances", 4)
    refused = call("train", "segmenter", "--data", tmp_path, "--out", tmp_path / "mine")
    assert refused.status == 2


def test_the_bundles_that_ship_are_small_and_there():
    for path in SHIPPED_NAMES.values():
        assert path.stat().st_size < 10e6
    assert SHIPPED_NAMES["hrtem"].stat().st_size <= 3e6
    assert set(SHIPPED_BUNDLES) == set(SHIPPED_NAMES)
    generalist = named_bundle("hrtem")
    assert generalist.training["pixel_size"] == [0.2, pytest.approx(1.2)]  # finer ones are brought there


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    """Gold and cadmium selenide of another seed, under conditions that the generalist was trained for."""
    study = SimulationStudy(
        scenes=4,
        seed=987_654,
        labels="phase",
        splits=Splits(train=1, validation=0, test=0),
        specimen=SpecimenRanges(materials=("Au", "CdSe"), cell=(76.8, 76.8), count=(2, 4)),
        wave=WaveSettings(pixel_size=0.2),
        imaging=ConditionRanges(C10=Uniform(low=-700, high=-400)),
    )
    return simulate_dataset(study, tmp_path_factory.mktemp("particles") / "d", workers=1).dataset


def test_the_generalist_finds_particles_that_it_was_never_shown(particles, tmp_path, call):
    common = found = there = 0
    for number in range(4):
        scene = particles.scene(number)
        tifffile.imwrite(tmp_path / f"{number}.tif", scene.image(0))
        done = call("segment", tmp_path / f"{number}.tif", "--out", tmp_path / "out")
        assert done.status == 0
        mask = np.asarray(Image.open(tmp_path / "out" / f"{number}_mask.png")) > 0
        common += (mask & (scene.labels > 0)).sum()
        found, there = found + mask.sum(), there + (scene.labels > 0).sum()
    assert 2 * common / (found + there) > 0.7


def test_the_generalist_finds_more_in_fine_pixels_that_it_is_told(particles):
    """At a twentieth of a nanometre a crystal fills more than the network sees at once."""
    ranges = ConditionRanges(C10=-1000.0, pixel_size=0.05)
    reached = []
    for told in (None, 0.05):
        common = both = 0
        for number in range(2):
            scene = particles.scene(number)
            image = scene.draw_images(1, seed=1, ranges=ranges)[0][0].numpy()
            image, labels = vary(
                image, np.kron(scene.labels, np.ones((4, 4), np.int32)), Variation(absorption=0.3)
            )
            mask = (
                segment(Micrograph(pixels=image, name="a", pixel_size=told), named_bundle("hrtem"))[0] > 0.5
            )
            common, both = common + (mask & (labels > 0)).sum(), both + mask.sum() + (labels > 0).sum()
        reached.append(2 * common / both)
    assert reached[1] > 0.8
    assert reached[1] > reached[0] + 0.1
