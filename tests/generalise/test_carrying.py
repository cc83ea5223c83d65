"""What a study's networks reached goes through one file to another machine, and nothing is done twice."""

from __future__ import annotations

import json
import lzma
import shutil
from dataclasses import replace

import pytest
from made_study import made_study, options, run, table

from passband.errors import DatasetError
from passband.generalise.carrying import pack
from passband.generalise.export import study_rows
from passband.generalise.run import run_study


@pytest.fixture
def done(tmp_path):
    run(made_study(), tmp_path / "here")
    return tmp_path / "here"


def go_on(study, folder, *packs, task="trivial"):
    return run_study(study, folder, replace(options(task), packs=packs))


def test_a_packed_study_is_whole_elsewhere_without_a_run(done, tmp_path):
    assert pack(done, tmp_path / "a.xz") == 12
    status = go_on(made_study(), tmp_path / "there", tmp_path / "a.xz", task="must_not_run")
    assert (status.done, status.pending, status.failed) == (12, 0, 0)
    assert not (tmp_path / "there" / "prepared.json").exists()
    here, there = study_rows(done), study_rows(tmp_path / "there")
    scores = ("f1", "loss")
    for one, other in zip(here, there, strict=True):
        assert {k: v for k, v in one.items() if k not in scores} == {
            k: v for k, v in other.items() if k not in scores
        }
        assert [other[k] for k in scores] == pytest.approx([one[k] for k in scores], rel=1e-4)


def test_what_a_pack_lacks_is_run_and_what_it_holds_is_not(tmp_path):
    run(made_study(range(10, 13)), tmp_path / "some")
    everything = made_study()
    go_on(everything, tmp_path / "all")
    for path in list((tmp_path / "all" / "results").glob("*.json"))[::2]:
        path.unlink()
    (tmp_path / "all" / "ledger.sqlite").unlink()
    assert pack(tmp_path / "all", tmp_path / "half.xz") == 6
    status = go_on(everything, tmp_path / "there", tmp_path / "half.xz")
    assert (status.done, status.failed) == (12, 0)


def test_later_packs_hold_what_came_since(done, tmp_path):
    half = list((done / "results").glob("*.json"))[::2]
    for path in half:
        shutil.move(path, tmp_path / path.name)
    assert pack(done, tmp_path / "a.xz") == 6
    for path in half:
        shutil.move(tmp_path / path.name, path)
    assert pack(done, tmp_path / "b.xz", earlier=[tmp_path / "a.xz"]) == 6
    packs = tmp_path / "a.xz", tmp_path / "b.xz"
    assert go_on(made_study(), tmp_path / "there", *packs, task="must_not_run").done == 12
    with pytest.raises(DatasetError, match="12 are in the earlier packs"):
        pack(done, tmp_path / "c.xz", earlier=packs)
    assert not (tmp_path / "c.xz").exists()


def test_a_result_that_is_there_stays(done, tmp_path):
    pack(done, tmp_path / "a.xz")
    before = table(done)
    go_on(made_study(), done, tmp_path / "a.xz")
    assert table(done) == before


def test_failures_are_not_packed(tmp_path):
    study = made_study([1.0, 8.0], seeds=1)
    assert run(study, tmp_path / "some", "sometimes").failed == 1
    assert pack(tmp_path / "some", tmp_path / "a.xz") == 1
    with pytest.raises(DatasetError, match="no network to pack that is done"):
        run(made_study([1.0], seeds=1), tmp_path / "bad", "sometimes")
        pack(tmp_path / "bad", tmp_path / "b.xz")


def test_the_pack_of_another_study_is_refused(done, tmp_path):
    pack(done, tmp_path / "a.xz")
    with pytest.raises(DatasetError, match="another study"):
        go_on(made_study(seeds=3), tmp_path / "there", tmp_path / "a.xz")
    assert not list((tmp_path / "there").glob("results/*"))


def _changed(change):
    def make(good):
        lines = lzma.decompress(good).decode().splitlines()
        change(lines)
        return lzma.compress("\n".join(lines).encode())

    return make


def _row(lines, edit):
    values = json.loads(lines[1])
    edit(values)
    lines[1] = json.dumps(values)


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: good[: len(good) // 2],
        lambda good: b"",
        lambda good: b"run,f1\n1,2\n",
        lambda good: lzma.compress(b"hello\n"),
        lambda good: lzma.compress(b"[]\n"),
        lambda good: lzma.compress(b"\xff\xfe\n"),
        _changed(lambda lines: lines.__setitem__(0, '{"format": "passband study results", "version": 1}')),
        _changed(lambda lines: lines.__setitem__(1, "[" * 100_000)),
        _changed(lambda lines: _row(lines, lambda v: v.__setitem__(0, "../../x"))),
        _changed(lambda lines: _row(lines, lambda v: v[2].pop())),
        _changed(lambda lines: _row(lines, lambda v: v[2][0].pop())),
        _changed(lambda lines: _row(lines, lambda v: v[2][0].__setitem__(0, None))),
        _changed(lambda lines: _row(lines, lambda v: v.pop())),
        _changed(lambda lines: _row(lines, lambda v: v.__setitem__(1, "long"))),
    ],
)
def test_a_damaged_pack_is_refused_in_words_and_nothing_is_taken(done, tmp_path, damage):
    pack(done, tmp_path / "a.xz")
    (tmp_path / "a.xz").write_bytes(damage((tmp_path / "a.xz").read_bytes()))
    with pytest.raises(DatasetError, match="no pack of a study's results, or damaged"):
        go_on(made_study(), tmp_path / "there", tmp_path / "a.xz")
    assert not list((tmp_path / "there").glob("results/*"))


def test_a_pack_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "none.xz", tmp_path):
        with pytest.raises(DatasetError, match="cannot be read"):
            go_on(made_study(), tmp_path / "there", path)
