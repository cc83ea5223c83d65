"""A stop at any write leaves whole files; going on ends as if there had been none; damage never passes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from passband.detections.detections import Detections
from passband.detectors.bundle import Bundle
from passband.detectors.train import TrainConfig, train_detector
from passband.errors import ParameterError, PassbandError
from passband.judge.many import Plan, assess_files
from passband.judge.verdict import Judge, Verdict, measure_sizes
from passband.micrographs.micrograph import Micrograph
from passband.particles.networks.objective import Sampling
from passband.particles.networks.rvae import RVAE, RVAESettings
from passband.particles.networks.train_rvae import RVAETraining, train_rvae
from passband.store.parts import key, read_part, write_part
from passband.store.runs import Checkpoint, read_checkpoint, write_checkpoint, write_log
from passband.store.tensors import write_sealed
from passband.types import Progress
from stopping import StoppedError, stopped_at_each_rename

VALUES = {"name": "Å", "numbers": [1 / 3, 1e-300, -0.0], "none": None, "deep": {"a": [True]}}
DEPENDS = {"config": {"steps": 3, "rate": 0.1, "domains": ("a", "b")}, "data": "c0ffee"}
KEPT = Checkpoint(
    {"step": 2, "log": [[1, 0.5]]}, {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(4)}
)


def test_a_part_is_read_back_to_the_last_bit_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "parts" / "one.json"
    assert read_part(path) is None
    write_part(path, VALUES)
    assert read_part(path) == VALUES
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert read_part(path) is None, at
        path.write_bytes(whole[:at])
        assert read_part(path) is None, at


def test_a_checkpoint_is_gone_on_with_only_where_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "run" / "kept.safetensors"
    assert read_checkpoint(path, DEPENDS) is None
    write_checkpoint(path, DEPENDS, KEPT)
    back = read_checkpoint(path, DEPENDS)
    assert back is not None and back.state == KEPT.state
    assert all(torch.equal(back.tensors[k], v) for k, v in KEPT.tensors.items())
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        for broken in (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], whole[:at]):
            path.write_bytes(broken)
            with pytest.raises(ParameterError, match=r"kept\.safetensors cannot be gone on with.*remove it"):
                read_checkpoint(path, DEPENDS)
    write_sealed({"kind": "detector"}, {}, path)
    with pytest.raises(ParameterError, match=r"no checkpoint, but a bundle"):
        read_checkpoint(path, DEPENDS)


def test_a_checkpoint_of_another_run_is_refused_saying_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "kept.safetensors"
    write_checkpoint(path, DEPENDS, KEPT)
    for changed, words in (
        ({"config": {**DEPENDS["config"], "rate": 0.2}}, r"here: config\.rate: 0\.1, 0\.2$"),
        ({"data": "beef", "more": 1}, r'here: data: "c0ffee", "beef"; more: nothing, 1$'),
        (
            {"config": {**DEPENDS["config"], "domains": ("a",)}},
            r'here: config\.domains: \["a", "b"\], \["a"\]$',
        ),
    ):
        with pytest.raises(ParameterError, match=words):
            read_checkpoint(path, {**DEPENDS, **changed})


@pytest.mark.parametrize("what", ["part", "checkpoint", "log"])
@pytest.mark.parametrize("where", ["os.fdopen", "pathlib.Path.replace", "pathlib.Path.chmod"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch, what: str, where: str) -> None:
    path = tmp_path / "file"
    write = {
        "part": lambda n: write_part(path, {"n": n}),
        "checkpoint": lambda n: write_checkpoint(path, DEPENDS, Checkpoint({"n": n}, {})),
        "log": lambda n: write_log(path, [{"n": n}]),
    }[what]
    write(1)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        with pytest.raises(PassbandError, match="No space left"):
            write(2)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_log_without_a_row_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    write_log(path, [{"step": 1, "loss": 0.25}, {"step": 2, "loss": 0.125}])
    assert path.read_text().split() == ["step,loss", "1,0.25", "2,0.125"]
    write_log(path, [])
    assert not path.exists()


def test_a_key_is_of_all_its_values() -> None:
    one = {"a": 1, "b": {"c": [2, None]}}
    assert len({key(one), key({**one, "a": 2}), key({**one, "b": {"c": [2]}}), key({**one, "d": None})}) == 4


def parts_of(folder: Path) -> dict[str, str]:
    """All files of a run that say the same at each run: without times."""
    return {str(p.relative_to(folder)): p.read_text("utf-8") for p in sorted(folder.rglob("*.json"))}


def columns(path: Path, *left_out: str) -> list[list[str]]:
    """Rows of a log without what time says."""
    rows = [line.split(",") for line in path.read_text("utf-8").splitlines()]
    kept = [i for i, name in enumerate(rows[0]) if name not in left_out]
    return [[row[i] for i in kept] for row in rows]


@pytest.mark.usefixtures("simulated_once")
def test_a_detector_stopped_at_any_write_trains_on_to_the_same_weights(tmp_path, monkeypatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("passband.detectors.train.CHECKPOINT_STEPS", 1)
    monkeypatch.setattr("passband.detectors.train.LOG_STEPS", 1)
    config = TrainConfig(images=1, batch=1, steps=2, crop=64, domains=("B:under",))

    def run(folder: Path) -> Bundle:
        return train_detector(config, folder)

    whole, stops = run(tmp_path / "whole"), 0
    for folder in stopped_at_each_rename(run, tmp_path, monkeypatch):
        again = run(folder)
        for name, value in whole.weights.items():
            torch.testing.assert_close(again.weights[name], value, rtol=1e-4, atol=1e-6, msg=name)
        logs = [columns(f / "log.csv", "seconds") for f in (folder, tmp_path / "whole")]
        assert [row[0] for row in logs[0]] == [row[0] for row in logs[1]] == ["step", "1", "2"]
        assert sorted(p.name for p in folder.iterdir()) == ["checkpoint.safetensors", "log.csv"]
        stops += 1
    assert stops == 4  # a line and a checkpoint for each step
    monkeypatch.setattr(
        "passband.detectors.train.draw_crops", None
    )  # a run that has ended takes no step more
    run(tmp_path / "whole")


def test_an_autoencoder_stopped_at_any_write_trains_on_to_the_same_weights(tmp_path, monkeypatch) -> None:
    torch.set_num_threads(1)
    training = RVAETraining(epochs=2, batch=4, sampling=Sampling(stride=2, thinning=0.05), seed=7)
    crops = torch.rand(7, 16, 16, generator=torch.Generator().manual_seed(1))

    def run(folder: Path) -> dict[str, torch.Tensor]:
        model = RVAE(RVAESettings(size=16, classes=3, hidden=6, own_classifier=True))
        train_rvae(model, crops, torch.arange(7) % 3, crops, training, folder=folder)
        return model.state_dict()

    whole, stops = run(tmp_path / "whole"), 0
    for folder in stopped_at_each_rename(run, tmp_path, monkeypatch):
        again = run(folder)
        assert all(torch.equal(again[name], value) for name, value in whole.items())
        logs = [columns(f / "rvae.csv", "seconds") for f in (folder, tmp_path / "whole")]
        assert logs[0] == logs[1]
        stops += 1
    assert stops == 4  # a checkpoint and the log for each pass


class Counted:
    """A judge that counts what it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self, micrograph: Micrograph, given: Detections | None, progress: Progress | None
    ) -> Verdict:
        self.calls += 1
        found = Detections(
            image_shape=micrograph.shape,
            boxes_xyxy=np.array([[1, 2, 9, 28 / 3]]),
            scores=np.array([0.7]),
        )
        return Verdict(
            path=micrograph.name,
            verdict="review",
            reasons=("it is a test",),
            detections=found,
            estimates={},
            novelty=None,
            sizes=measure_sizes(found, 2.0, None),
        )

    @property
    def plan(self) -> Plan:
        return Plan(judge=Judge(function=self, name="made", digest="d" * 64, settings={}, calibration=None))


def test_a_report_stopped_at_any_write_judges_the_rest_and_ends_the_same(tmp_path, monkeypatch) -> None:
    (tmp_path / "images").mkdir()
    for i in range(3):
        np.save(tmp_path / "images" / f"{i}.npy", np.random.default_rng(i).random((48, 48), np.float32))
    judge = Counted()

    def run(folder: Path) -> None:
        outcome = assess_files([str(tmp_path / "images")], judge.plan, report=folder)
        if outcome.errors:  # a stop while a part is written is told of that file
            raise StoppedError

    run(tmp_path / "whole")
    assert judge.calls == 3
    run(tmp_path / "whole")
    assert judge.calls == 3  # a second start adds nothing
    wanted = parts_of(tmp_path / "whole")
    for folder in stopped_at_each_rename(run, tmp_path, monkeypatch):
        before, there = judge.calls, len(list(folder.glob("parts/*.json")))
        run(folder)
        assert judge.calls - before == 3 - there
        assert parts_of(folder) == wanted
    before, parts = judge.calls, sorted((tmp_path / "whole" / "parts").glob("*.json"))
    for anew, damaged in enumerate(parts, 1):
        text = damaged.read_text("utf-8")
        damaged.write_text(text.replace("0.7", "0.9"), "utf-8")  # still JSON, of another score
        run(tmp_path / "whole")
        assert judge.calls == before + anew
        assert parts_of(tmp_path / "whole") == wanted
    assert json.loads(damaged.read_text("utf-8"))["scores"] == [0.7]
