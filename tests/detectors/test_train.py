"""The loop learns, resumes to the same weights, and augments truly."""

import itertools
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torchvision.models.detection import MaskRCNN

from passband.cavities.domains import DOMAINS
from passband.cavities.draws import draw_set
from passband.cavities.files import truth_of
from passband.cavities.image import simulate_cavities
from passband.detections.detections import Detections
from passband.detectors.bundle import SHIPPED, default_bundle, read_bundle, write_bundle
from passband.detectors.config import PAPER, SLIM
from passband.detectors.crops import draw_crops
from passband.detectors.infer import detect
from passband.detectors.loop import schedule
from passband.detectors.train import (
    TrainConfig,
    _batches,
    _by_all_cores,
    _simulated,
    _simulated_origin,
    train_detector,
)
from passband.errors import ParameterError
from passband.micrographs.micrograph import Micrograph
from passband.types import InstanceMask

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("simulated_once")]

TINY = TrainConfig(images=2, batch=1, steps=4, crop=64, domains=("B:under",), seed=3)


def scene(seed=0):
    (record,) = draw_set(["B:under"], 1, seed=seed)
    image = simulate_cavities(record)
    return Micrograph(pixels=image.pixels, name=f"scene {seed}", pixel_size=4.0), truth_of(image)


def log_of(folder):
    return [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_a_killed_run_goes_on_to_the_same_weights_and_the_same_log(tmp_path, monkeypatch):
    monkeypatch.setattr("passband.detectors.train.LOG_STEPS", 3)  # the checkpoint is within a line,
    whole = train_detector(TINY, tmp_path / "whole")
    monkeypatch.setattr("passband.detectors.train.CHECKPOINT_STEPS", 2)

    class Killed(BaseException):
        pass

    calls = []
    real = draw_crops

    def dies(*args, **settings):
        calls.append(1)
        if len(calls) == 4:
            raise Killed
        return real(*args, **settings)

    monkeypatch.setattr("passband.detectors.train.draw_crops", dies)
    with pytest.raises(Killed):
        train_detector(TINY, tmp_path / "parts")
    monkeypatch.setattr("passband.detectors.train.draw_crops", real)
    resumed = train_detector(TINY, tmp_path / "parts")
    for key, value in whole.weights.items():
        torch.testing.assert_close(resumed.weights[key], value, rtol=1e-4, atol=1e-6, msg=key)
    one, other = log_of(tmp_path / "whole"), log_of(tmp_path / "parts")
    assert one[0] == other[0] and [line[0] for line in one[1:]] == ["3", "4"]
    for a, b in zip(one[1:], other[1:], strict=True):
        assert a[0] == b[0] and [float(v) for v in a[2:]] == pytest.approx(
            [float(v) for v in b[2:]], rel=1e-3
        )
    assert float(other[1][1]) <= float(other[2][1])
    (tmp_path / "parts" / "log.csv").unlink()  # the checkpoint holds it whole
    train_detector(TINY, tmp_path / "parts")
    assert log_of(tmp_path / "parts") == other


def test_another_configuration_does_not_go_on_from_a_checkpoint(tmp_path):
    config = replace(TINY, steps=1)
    train_detector(config, tmp_path)
    with pytest.raises(
        ParameterError, match=r'another configuration .*domains: \["B:under"\], \["A:under"\]; seed: 3, 0$'
    ):
        train_detector(replace(config, domains=("A:under",), seed=0), tmp_path)


def test_the_loss_falls_on_one_image(tmp_path, monkeypatch):
    monkeypatch.setattr("passband.detectors.train.LOG_STEPS", 5)
    config = TrainConfig(images=1, batch=1, steps=20, crop=64, domains=("B:under",), average=0.0)
    train_detector(config, tmp_path)
    lines = (tmp_path / "log.csv").read_text().splitlines()[1:]
    first, last = (sum(float(v) for v in line.split(",")[2:]) for line in (lines[0], lines[-1]))
    assert last < first


def test_training_can_start_from_a_bundle_of_the_same_detector(tmp_path):
    first = tmp_path / "first.safetensors"
    bundle = train_detector(replace(TINY, steps=1), tmp_path / "a")
    write_bundle(bundle, first)
    still = replace(TINY, start=str(first), steps=1, learning_rate=1e-12, average=0.0)
    again = train_detector(still, tmp_path / "b")
    name = "backbone.stem.0.weight"
    torch.testing.assert_close(again.weights[name], bundle.weights[name].half().float(), rtol=0, atol=1e-6)
    assert again.training["refined"] and not bundle.training["refined"]
    with pytest.raises(ParameterError, match=r"another network \(Mask R-CNN, slim\)"):
        train_detector(replace(still, detector=PAPER), tmp_path / "c")


def test_a_start_gives_all_that_fits_another_networks_outputs(tmp_path):
    """Other classes and no outlines: the body and the proposals stay what they were learnt to be."""
    shipped = default_bundle()
    other = replace(SLIM, classes=("a", "b"), masks=False)
    config = replace(TINY, detector=other, start=str(SHIPPED), steps=1, learning_rate=1e-12, average=0.0)
    weights = train_detector(config, tmp_path).weights
    same = {k for k, v in weights.items() if k in shipped.weights and v.shape == shipped.weights[k].shape}
    for key in same:
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(weights[key], shipped.weights[key], rtol=0, atol=1e-6, msg=key)
    assert {k.split(".")[0] for k in same} == {"backbone", "rpn", "roi_heads"}
    assert set(weights) - same == {
        f"roi_heads.box_predictor.{layer}.{kind}"
        for layer in ("cls_score", "bbox_pred")
        for kind in ("weight", "bias")
    }


def test_labelled_images_train_as_the_same_simulated_ones_do(tmp_path):
    config = replace(TINY, batch=2, steps=2)
    records = list(draw_set(TINY.domains, TINY.images, seed=TINY.seed))
    simulated = [simulate_cavities(r) for r in records]
    samples = [
        (Micrograph(pixels=i.pixels, name=str(n), pixel_size=3.0 + n), truth_of(i))
        for n, i in enumerate(simulated)
    ]
    given = train_detector(config, tmp_path / "given", samples=samples)
    drawn = train_detector(config, tmp_path / "drawn")
    for key, value in drawn.weights.items():
        torch.testing.assert_close(given.weights[key], value, rtol=0, atol=0, msg=key)
    assert drawn.training["simulated"] and not given.training["simulated"]
    assert given.training["pixel_size"] == [3.0, 4.0] and given.training["images"] == 2
    assert "domains" not in given.training  # they were not read
    unknown = replace(samples[0][0], pixel_size=None)
    again = train_detector(config, tmp_path / "unknown", samples=[(unknown, samples[0][1])])
    assert "pixel_size" not in again.training  # and so nothing is rescaled


def test_other_images_do_not_go_on_from_a_checkpoint(tmp_path):
    config = replace(TINY, steps=1)
    first, second = scene(1), scene(2)
    train_detector(config, tmp_path, samples=[first])
    train_detector(config, tmp_path, samples=[first])  # the same do
    brighter = replace(first[0], pixels=first[0].pixels + 1)
    for others in ([second], [first, second], [(first[0], second[1])], [(brighter, first[1])], None):
        with pytest.raises(ParameterError, match=r"other data.*labelled_images"):
            train_detector(config, tmp_path, samples=others)


def test_the_checkpoint_of_a_simulated_run_is_known_by_its_configuration_alone(tmp_path, monkeypatch):
    kept = []
    keep = lambda path, depends, checkpoint: kept.append(depends)  # noqa: E731
    monkeypatch.setattr("passband.detectors.train.write_checkpoint", keep)
    train_detector(replace(TINY, steps=1), tmp_path)
    assert kept == [asdict(replace(TINY, steps=1))]


def test_labelled_images_that_cannot_be_used_are_named_together(tmp_path):
    micrograph, truth = scene()
    small = Micrograph(pixels=micrograph.pixels[:48, :80], name="small")
    bare = replace(truth, masks=None)
    samples = [(small, truth), (replace(micrograph, name="bare"), bare)]
    with pytest.raises(ParameterError, match=r"small is .* but its truth .*; bare has boxes without masks$"):
        train_detector(TINY, tmp_path, samples=samples)
    with pytest.raises(ParameterError, match="no labelled image"):
        train_detector(TINY, tmp_path, samples=[])
    named = replace(truth, categories=("void",) * (len(truth) - 1) + ("loop",))
    told = replace(TINY, detector=replace(SLIM, classes=("void",)))
    with pytest.raises(ParameterError, match="scene 0 has objects of loop, which the detector does not"):
        train_detector(told, tmp_path, samples=[(micrograph, named)])


def test_of_many_faults_ten_are_shown(tmp_path):
    micrograph, truth = patch()
    bare = replace(truth, masks=None)
    with pytest.raises(ParameterError) as ten:
        train_detector(TINY, tmp_path, samples=[(micrograph, bare)] * 10)
    assert str(ten.value).count("patch") == 10 and "more" not in str(ten.value)
    with pytest.raises(ParameterError, match=r"and 2 more$") as twelve:
        train_detector(TINY, tmp_path, samples=[(micrograph, bare)] * 12)
    assert str(twelve.value).count("patch") == 10


def test_an_image_smaller_than_a_crop_and_one_without_an_object_are_trained_on(tmp_path):
    micrograph, truth = patch()
    nothing = replace(truth, boxes_xyxy=np.zeros((0, 4)), scores=np.zeros(0), masks=None)
    config = replace(TINY, crop=96, steps=1, batch=2)
    bundle = train_detector(config, tmp_path, samples=[(micrograph, truth), (micrograph, nothing)])
    assert bundle.training["images"] == 2


def test_a_network_is_looked_at_on_the_way_and_a_killed_run_looks_no_place_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("passband.detectors.train.CHECKPOINT_STEPS", 4)
    monkeypatch.setattr("passband.detectors.train.LOOKS", 4)
    seen = []

    def look(bundle):
        seen.append(bundle.weights["backbone.stem.0.weight"].clone())
        if len(seen) == 3:  # the checkpoint behind it is of step 4, with two looks
            raise KeyboardInterrupt
        return {"f1": len(seen) / 10}

    config = replace(TINY, steps=8)
    with pytest.raises(KeyboardInterrupt):
        train_detector(config, tmp_path, samples=[patch()], look=look)
    last = train_detector(config, tmp_path, samples=[patch()], look=look)
    lines = (tmp_path / "looks.csv").read_text().splitlines()
    assert lines == ["step,f1", "2,0.1", "4,0.2", "6,0.4", "8,0.5"]
    assert not torch.equal(seen[0], seen[1])  # each is what the weights were then
    torch.testing.assert_close(seen[-1], last.weights["backbone.stem.0.weight"], rtol=0, atol=0)


def test_boxes_alone_train_a_network_without_outlines_and_classes_keep_their_names(tmp_path):
    micrograph, _ = patch()
    both = Detections(
        image_shape=(64, 64),
        boxes_xyxy=np.array([[5.0, 5, 15, 15], [20, 30, 40, 50]]),
        scores=np.ones(2),
        categories=("dark", "bright"),
    )
    detector = replace(SLIM, classes=("bright", "dark"), masks=False)
    config = replace(TINY, detector=detector, steps=1)
    bundle = train_detector(config, tmp_path / "boxes", samples=[(micrograph, both)])
    write_bundle(bundle, tmp_path / "b.safetensors")
    again = read_bundle(tmp_path / "b.safetensors")
    assert again.detector == detector and not any("mask" in key for key in again.weights)
    found = detect(micrograph, replace(again, score_threshold=0.01))
    assert found.masks is None and set(found.categories or ()) <= {"bright", "dark"} and len(found)


def test_bad_settings_are_named_together():
    with pytest.raises(ParameterError, match=r"images.*crop"):
        TrainConfig(images=0, crop=16)


def test_the_learning_rate_warms_up_and_falls():
    rates = [schedule(i, 100) for i in range(100)]
    assert rates[0] < rates[3] == max(rates)
    assert rates[-1] < 0.02
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))


class Slope(MaskRCNN):
    """Two weights whose losses are known slopes, and what each step saw of them."""

    def __init__(self, slope=(1.0, 2.0)):
        torch.nn.Module.__init__(self)
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
        self.register_buffer("count", torch.tensor(0))
        self.slope = torch.tensor(slope)
        self.weights, self.slopes, self.batches = [], [], []

    def forward(self, images, targets):
        if self.weights:
            self.slopes.append(self.weight.grad.clone())
        self.weights.append(self.weight.detach().clone())
        self.batches.append(images)
        self.count += 1
        first, second = self.slope * self.weight
        return {"first": first, "second": second}


def patch(pixel_size=4.0):
    """One square of 20 pixels in noise, 64 pixels wide."""
    pixels = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    mask = InstanceMask(y=30, x=20, pixels=np.ones((20, 20), bool))
    truth = Detections(
        image_shape=(64, 64), boxes_xyxy=np.array([mask.box_xyxy]), scores=np.ones(1), masks=(mask,)
    )
    return Micrograph(pixels=pixels, name="patch", pixel_size=pixel_size), truth


def trained_slope(folder, monkeypatch, slope=(1.0, 2.0), **changes):
    """A training of two weights: the model, the weights before each step and after the last, the bundle."""
    model = Slope(slope)
    monkeypatch.setattr("passband.detectors.train.build_detector", lambda config, coco_weights: model)
    config = TrainConfig(**{"crop": 64, "batch": 1, "steps": 6, "learning_rate": 0.1, **changes})
    bundle = train_detector(config, folder, samples=[patch()])
    return model, [*model.weights, model.weight.detach().clone()], bundle


def test_the_average_forgets_the_first_weights_soon_and_then_moves_at_its_own_pace(tmp_path, monkeypatch):
    """Of the weights that a network begins with, the average must hold nothing after a short training.

    So step n (from 0) keeps (n + 1) / (n + 10) of the average, a tenth at first, until that is more than
    the set share; here a quarter, reached at the third step. What is counted is copied.
    """
    _, weights, bundle = trained_slope(tmp_path, monkeypatch, average=0.25)
    expected = weights[0]
    for kept, new in zip((1 / 10, 2 / 11, 3 / 12, 1 / 4, 1 / 4, 1 / 4), weights[1:], strict=True):
        expected = kept * expected + (1 - kept) * new
    torch.testing.assert_close(bundle.weights["weight"], expected)
    assert bundle.weights["count"] == 6


def test_a_step_follows_the_sum_of_the_losses_with_a_slope_of_10_at_most(tmp_path, monkeypatch):
    model, weights, _ = trained_slope(tmp_path / "gentle", monkeypatch, slope=(3.0, 4.0))
    assert all(s.tolist() == pytest.approx([3, 4], rel=1e-5) for s in model.slopes)
    # A slope that stays the same moves AdamW by its rate, whatever its size; its decay takes 1e-4 of that.
    rates = [0.1 * schedule(step, 6) for step in range(6)]
    for rate, before, after in zip(rates, weights, weights[1:], strict=False):
        torch.testing.assert_close(after, before - rate * (1 + 1e-4 * before), rtol=0, atol=4e-7)
    steep, _, _ = trained_slope(tmp_path / "steep", monkeypatch, slope=(30.0, 40.0))
    assert all(s.tolist() == pytest.approx([6, 8], rel=1e-5) for s in steep.slopes)


def test_the_log_holds_the_mean_of_each_loss_since_the_line_before(tmp_path, monkeypatch):
    _, weights, _ = trained_slope(tmp_path, monkeypatch, steps=45)
    lines = [line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert lines[0] == ["step", "seconds", "first", "second"]
    assert [line[0] for line in lines[1:]] == ["20", "40", "45"]
    for line, part in zip(lines[1:], (slice(0, 20), slice(20, 40), slice(40, 45)), strict=True):
        seen = torch.stack(weights[part]).mean(dim=0) * torch.tensor([1.0, 2.0])
        assert [float(v) for v in line[2:]] == pytest.approx(seen.tolist(), abs=1e-5)
        assert 0 <= float(line[1]) < 60
    assert trained_slope(tmp_path, monkeypatch, steps=45)[0].weights == []  # nothing was left to do


def test_progress_is_told_with_each_line_and_the_last_step_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("passband.detectors.train.build_detector", lambda config, coco_weights: Slope())
    told = []
    config = TrainConfig(crop=64, batch=1, steps=25)
    train_detector(config, tmp_path, samples=[patch()], progress=lambda *what: told.append(what))
    assert told == [("train", 20, 25), ("train", 25, 25)]


def test_every_step_draws_its_own_crops_and_a_seed_draws_them_again(tmp_path, monkeypatch):
    def batches(name, **changes):
        model, _, _ = trained_slope(tmp_path / name, monkeypatch, batch=2, steps=3, **changes)
        assert [len(images) for images in model.batches] == [2, 2, 2]
        return torch.stack([image for images in model.batches for image in images])

    first, again, other = batches("a"), batches("b"), batches("c", seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # Of few crops there are, some come again; the steps are not one another's copies.
    assert len({image.numpy().tobytes() for image in first}) > 2


def test_a_checkpoint_is_kept_every_so_many_steps_and_at_the_end(tmp_path, monkeypatch):
    """A killed run loses 200 steps at most."""
    kept = []
    keep = lambda path, depends, checkpoint: kept.append(checkpoint.state["step"])  # noqa: E731
    monkeypatch.setattr("passband.detectors.train.write_checkpoint", keep)
    trained_slope(tmp_path, monkeypatch, steps=201)
    assert kept == [200, 201]


def test_a_training_makes_its_folder_and_begins_its_log_anew(tmp_path, monkeypatch):
    """A log without a checkpoint is of a run that was lost; its lines would be read as this one's."""
    folder = tmp_path / "new" / "run"
    folder.mkdir(parents=True)
    (folder / "log.csv").write_text("of another run")
    assert trained_slope(folder, monkeypatch)[2].score_threshold == 0.5
    assert (folder / "log.csv").read_text().startswith("step,seconds,first,second")
    trained_slope(tmp_path / "a" / "b", monkeypatch)
    assert (tmp_path / "a" / "b" / "checkpoint.safetensors").exists()


def test_the_shipped_bundle_is_the_default_network_trained_on_both_sides_of_focus_and_empty_foils():
    """First from nothing, as the defaults say; then on other foils, each time from the weights before."""
    shipped, config = default_bundle(), TrainConfig()
    looked_at = {n: getattr(shipped.detector, n) for n in ("objectness", "proposals", "max_detections")}
    assert shipped.detector == replace(config.detector, **looked_at) and shipped.name == config.name
    assert shipped.training["crop"] == config.crop and shipped.training["batch"] == config.batch
    domains = tuple(shipped.training["domains"])
    assert {f"{s}:{f}" for s in "ABC" for f in ("under", "over", "in")} < set(domains)
    assert any("empty" in name for name in domains)
    assert shipped.training["pixel_size"] == _simulated_origin(replace(config, domains=domains))["pixel_size"]
    assert (config.steps, config.learning_rate, config.average, config.seed) == (2300, 1.5e-3, 0.998, 0)
    assert not config.coco_weights and config.start is None


def test_simulated_training_says_the_whole_range_of_its_domains_pixel_sizes():
    a, b = DOMAINS["A"].pixel_size, DOMAINS["B"].pixel_size
    said = _simulated_origin(replace(TINY, domains=("A:under", "B:over")))
    assert said["pixel_size"] == [min(a[0], b[0]), max(a[1], b[1])]
    assert said["images"] == TINY.images and said["domains"] == ["A:under", "B:over"]


@pytest.mark.parametrize("name", ["images", "batch", "steps"])
def test_there_is_one_image_crop_and_step_at_least(name):
    assert getattr(TrainConfig(**{name: 1}), name) == 1
    with pytest.raises(ParameterError, match=f"{name} must be at least 1"):
        TrainConfig(**{name: 0})


def test_a_crop_fits_the_network():
    assert (TrainConfig(crop=64).crop, TrainConfig(crop=1024).crop) == (64, 1024)
    for crop in (63, 1025):
        with pytest.raises(ParameterError, match=f"64 to 1024 pixels, got {crop}"):
            TrainConfig(crop=crop)


@pytest.mark.parametrize("wrong", [{"on_objects": 1.1}, {"zoom": (0.2, 1.0)}, {"zoom": (1.2, 1.1)}])
def test_how_crops_are_drawn_is_checked(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_the_rate_rises_by_equal_steps_and_falls_as_a_cosine_to_a_hundredth():
    rates = [schedule(i, 1000) for i in range(1001)]
    np.testing.assert_allclose(rates[:40], np.arange(1, 41) / 40)
    turn_of_wave = np.linspace(0, np.pi, 961)
    np.testing.assert_allclose(rates[40:], 0.01 + 0.99 * (1 + np.cos(turn_of_wave)) / 2)
    assert schedule(0, 1) == 1 and schedule(0, 24) == 1  # of few steps the first is a full one


@pytest.mark.parametrize("count", [8, 9])
def test_what_all_cores_make_comes_in_order(count):
    done = []
    assert list(_by_all_cores(abs, range(-count, 0), done.append)) == list(range(count, 0, -1))
    assert done == list(range(1, count + 1))


def test_a_little_is_done_here_and_much_in_other_processes(monkeypatch):
    """To start a process takes longer than to simulate a few images."""
    pools = []

    class Pool:
        def __init__(self, workers):
            pools.append(workers)
            self.map = lambda call, records, chunksize: map(call, records)

        def shutdown(self, *, cancel_futures):
            pools.append(cancel_futures)

    monkeypatch.setattr("passband.detectors.train.ProcessPoolExecutor", Pool)
    for cores, jobs in ((2, 8), (1, 9), (2, 9)):
        assert pools == []
        monkeypatch.setattr("passband.detectors.train.core_count", lambda cores=cores: cores)
        assert len(list(_by_all_cores(abs, range(jobs), lambda done: None))) == jobs
    assert pools == [2, True]


def test_other_processes_cut_the_same_crops_for_a_gpu():
    config = TrainConfig(images=2, batch=2, steps=5, crop=64, domains=("B:under", "B:over"))
    samples = list(_simulated(config, lambda what, done, total: None))
    here = list(_batches(samples, config, 2))
    object.__setattr__(config, "device", "cuda")  # which is refused where there is none
    there = list(_batches(samples, config, 2))
    assert len(here) == len(there) == 3
    for (seed, images, targets), (other_seed, others, other_targets) in zip(here, there, strict=True):
        assert seed == other_seed
        for a, b in zip(images, others, strict=True):
            assert torch.equal(a, b)
        for one, other in zip(targets, other_targets, strict=True):
            assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_device_that_is_not_there_is_told_before_work_begins():
    with pytest.raises(ParameterError, match="device must be cpu or cuda, got 'tpu'"):
        TrainConfig(device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ParameterError, match="torch sees no CUDA device"):
            TrainConfig(device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_trains_and_goes_on(tmp_path):
    config = TrainConfig(images=2, batch=2, steps=4, crop=64, domains=("B:under",), device="cuda")
    bundle = train_detector(config, tmp_path)
    assert all(torch.isfinite(v).all() and v.device.type == "cpu" for v in bundle.weights.values())
    again = train_detector(config, tmp_path)
    assert all(torch.equal(v, again.weights[k]) for k, v in bundle.weights.items())
