from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fake_workers
from made_dataset import in_pairs, made_dataset, made_pairs, tree, write_study
from passband.errors import DatasetError, ParameterError, PassbandError
from passband.hrtem.dataset import simulate as simulation
from passband.hrtem.dataset.check import check_dataset
from passband.hrtem.dataset.dataset import open_dataset
from passband.hrtem.dataset.store import scenes_per_shard
from passband.hrtem.dataset.study_file import read_study
from passband.store import folders

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
KILLER = Path(__file__).parent / "killed_simulation.py"


def run(study: Path, folder: Path, **options: object) -> simulation.SimulationOutcome:
    return simulation.simulate_dataset(
        read_study(study), folder, study_text=study.read_text(), **{"workers": 1, **options}
    )


def command(study: Path, folder: Path, *words: str) -> list[str]:
    code = "from passband.cli import main; main()"
    return [sys.executable, "-c", code, "simulate", "hrtem", str(study), "--out", str(folder), *words]


def workers_of(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("times", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_nothing_is_lost_doubled_or_torn(tmp_path, times) -> None:
    studies = [str(write_study(tmp_path, scenes=n)) for n in (32, 2)]
    words = [sys.executable, str(KILLER), *studies, str(tmp_path / "sets"), str(times), "1"]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"killed {times}" in done.stdout
    assert tree(tmp_path / "sets" / "random") == tree(made_dataset(32))
    folders = list((tmp_path / "sets" / "steps").iterdir())
    # manifest, study, two descriptions of arrays, and waves, labels and record of both shards; one run whole
    assert len(folders) == 4 + 3 * 2 + 1
    wanted = tree(made_dataset(2))
    assert all(tree(folder) == wanted for folder in folders)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks processes up in /proc")
def test_killed_with_two_workers_none_works_on_and_the_end_is_the_same(tmp_path) -> None:
    study, folder = write_study(tmp_path, scenes=32), tmp_path / "set"
    parent = subprocess.Popen(
        command(study, folder, "--workers", "2"), env=ENVIRONMENT, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not list(folder.glob("records/*.json")):
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = workers_of(parent.pid)
    assert len(workers) >= 2  # and what keeps account of them
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 300
    while any(alive(w) for w in workers):
        assert time.monotonic() < deadline, "workers outlive the run that started them"
        time.sleep(0.01)
    found = check_dataset(folder)
    assert found.faults == ()
    assert 0 < found.whole < 32
    outcome = run(study, folder, workers=1)
    assert (outcome.kept, outcome.made) == (found.whole, 32 - found.whole)
    assert tree(folder) == tree(made_dataset(32))


def test_each_scene_follows_from_seed_and_number_alone() -> None:
    few, many = (open_dataset(made_dataset(n)) for n in (4, 32))
    for number in range(4):
        assert few.record(number) == many.record(number)


def test_labels_are_of_the_kind_that_the_study_says(tmp_path: Path) -> None:
    path = write_study(tmp_path, scenes=4)
    disc = simulation.simulate_scene(read_study(path), 0)
    path.write_text('labels = "phase"\n' + path.read_text())
    phase = simulation.simulate_scene(read_study(path), 0)
    assert phase.specimen == disc.specimen
    assert (phase.labels > 0).any() and (phase.labels != disc.labels).any()
    path.write_text(path.read_text().replace('"phase"', '"outline"'))
    with pytest.raises(ParameterError, match=r"labels.*disc"):
        read_study(path)


def test_progress_counts_every_scene_and_what_is_kept(tmp_path, monkeypatch) -> None:
    in_pairs(monkeypatch)
    study, seen = write_study(tmp_path, scenes=8), []
    first = run(study, tmp_path / "set", progress=lambda *words: seen.append(words))
    assert [done for _, done, _ in seen] == list(range(1, 9))
    assert seen[-1] == ("scene 7", 8, 8)
    assert (first.made, first.kept) == (8, 0)
    (tmp_path / "set" / "records" / "shard_00002.json").unlink()
    again = run(study, tmp_path / "set")
    assert (again.made, again.kept) == (2, 6)


def test_a_stop_keeps_what_is_finished(tmp_path, monkeypatch) -> None:
    in_pairs(monkeypatch)

    def stop(now: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    study = write_study(tmp_path, scenes=8)
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path / "set", progress=stop)
    assert check_dataset(tmp_path / "set").whole == 4
    run(study, tmp_path / "set")
    assert tree(tmp_path / "set") == tree(made_pairs())


def test_a_full_disk_is_told_and_the_folder_can_be_resumed(tmp_path, monkeypatch) -> None:
    in_pairs(monkeypatch)
    study, folder = write_study(tmp_path, scenes=8), tmp_path / "set"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # under the size of a shard's waves
    try:
        with pytest.raises(
            DatasetError, match=r"scenes 0 to 1 cannot be written: File too large.* make room"
        ):
            run(study, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    found = check_dataset(folder)
    assert (found.faults, found.whole, found.notes) == ((), 0, ())

    full = False

    def write(path: Path, content: str) -> Path:
        if full:
            raise PassbandError(f"{path} cannot be written: No space left on device")
        return write_whole(path, content)

    write_whole = folders.write_whole
    monkeypatch.setattr(folders, "write_whole", write)

    def fill(now: str, done: int, total: int) -> None:
        nonlocal full
        full = done >= 4

    with pytest.raises(DatasetError, match=r"scenes 4 to 5 cannot be written.*No space left.*is kept"):
        run(study, folder, progress=fill)
    found = check_dataset(folder)
    assert (found.faults, found.whole) == ((), 4)
    full = False
    run(study, folder)
    assert tree(folder) == tree(made_pairs())


@pytest.mark.parametrize(
    ("worker", "error", "said"),
    [
        (fake_workers.dies, PassbandError, r"died each time it was tried.*is kept.*fewer --workers"),
        (fake_workers.has_no_room, ParameterError, "^no room for a particle$"),
        (fake_workers.has_no_memory, PassbandError, r"memory ran out.*is kept.*fewer --workers"),
        (fake_workers.has_a_fault, RuntimeError, "KeyError: 3"),
    ],
)
def test_a_worker_that_dies_or_fails_is_told(tmp_path, monkeypatch, worker, error, said) -> None:
    monkeypatch.setattr(simulation, "_make_shard_of", worker)
    study = write_study(tmp_path, scenes=32)
    with pytest.raises(error, match=said):
        run(study, tmp_path / "set", workers=2)
    assert check_dataset(tmp_path / "set").whole == 0


def test_workers_share_all_shards_and_what_they_do_is_added_up(tmp_path, monkeypatch) -> None:
    folder = Path(shutil.copytree(made_dataset(), tmp_path / "set"))
    monkeypatch.setattr(simulation, "_make_shard_of", fake_workers.makes_odd_ones)
    seen: list[int] = []
    study = write_study(tmp_path, scenes=32)
    outcome = run(study, folder, workers=3, progress=lambda now, done, total: seen.append(done))
    assert seen == list(range(2, 33, 2))
    assert (outcome.kept, outcome.made) == (16, 16)


def test_a_worker_that_sees_another_folder_is_told(tmp_path) -> None:
    folder = shutil.copytree(made_dataset(4), tmp_path / "set")
    with pytest.raises(DatasetError, match="is another dataset where a worker sees it"):
        simulation._make_shard_of(str(folder), "0" * 64, 0)


def test_a_cell_that_pixels_do_not_divide_is_refused_before_it_is_begun(tmp_path) -> None:
    study = tmp_path / "study.toml"
    text = write_study(tmp_path, scenes=8).read_text()
    study.write_text(text.replace("cell = [25.6, 19.2]", "cell = [25.6, 19.3]"))
    with pytest.raises(
        ParameterError, match=r"no whole number of image pixels of 0.4 Å; take .*\[25.6, 19.2\]"
    ):
        run(study, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_specimen_that_cannot_be_drawn_names_its_scene(tmp_path) -> None:
    study = tmp_path / "study.toml"
    text = write_study(tmp_path, scenes=8).read_text().replace("count = [1, 1]", "count = [6, 6]")
    study.write_text(text)
    with pytest.raises(ParameterError, match=r"scene 0 \(seed \d+\) cannot be simulated: .* no room"):
        run(study, tmp_path / "set")
    study.write_text(text.replace("count = [6, 6]", "count = [1, 1]"))
    assert run(study, tmp_path / "set").made == 8  # the mistake mended, the same folder will do
    assert (tmp_path / "set" / "study.toml").read_text() == study.read_text()
    with pytest.raises(ParameterError, match=r"workers must be 1 to 10,000"):
        run(study, tmp_path / "set", workers=0)
    with pytest.raises(ParameterError, match=r"either workers or a scheduler"):
        run(study, tmp_path / "set", workers=2, scheduler="tcp://nowhere:8786")


def test_few_scenes_still_make_shards_for_many_workers() -> None:
    assert [scenes_per_shard(n) for n in (1, 12, 32, 255, 256, 100_000)] == [1, 1, 2, 15, 16, 16]


def test_the_manifest_is_strict_json_with_every_value() -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    content = json.loads((made_dataset() / "manifest.json").read_text(), parse_constant=refuse)
    assert content["study"]["imaging"]["aperture"] == "inf"
    assert content["study"]["specimen"]["near_zone_share"] == 0.3
    assert content["version"] == 3
