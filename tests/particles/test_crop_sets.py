"""Crops are written and read back whole, or refused in words; nothing of a file is ever run."""

import json
import zipfile

import jaxtyping
import numpy as np
import pytest

from passband.errors import ParameterError, ReadError
from passband.particles.crop_sets import CropSet, crop_faults, read_crop_set, scaled, write_crop_set

SIZE = 12


@pytest.fixture(autouse=True)
def as_in_the_product(monkeypatch):
    """Without the tests' checker of shapes: what is refused here must be refused by the package itself."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def grey(count, seed=0):
    """Crops that bytes hold exactly."""
    values = np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE))
    return values.astype(np.float32) / np.float32(255)


def full(**changed):
    values = {
        "classes": ("disc", "Stäbchen", "ö"),
        "labelled": grey(4, 1),
        "labels": np.array([0, 2, 1, 1]),
        "unlabelled": grey(5, 2),
        "test": grey(3, 3),
        "unlabelled_truth": np.array([-1, 0, 1, 2, -1]),
        "test_truth": np.array([2, -1, 0]),
        "about": {"from": "é", "numbers": [1, 2.5, None]},
    }
    return CropSet(**(values | changed))


def same(a, b):
    assert a.classes == b.classes and a.about == b.about
    for name in ("labelled", "labels", "unlabelled", "test", "unlabelled_truth", "test_truth"):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.dtype == other.dtype, name
            np.testing.assert_array_equal(one, other, err_msg=name)


def test_write_then_read_is_identity(tmp_path):
    path = write_crop_set(full(), tmp_path / "new" / "crops.npz")
    same(read_crop_set(path), full())


def test_parts_that_are_not_there_stay_away(tmp_path):
    few = full(unlabelled=None, unlabelled_truth=None, test=None, test_truth=None, about={})
    same(read_crop_set(write_crop_set(few, tmp_path / "a.npz")), few)
    unknown = full(unlabelled_truth=None, test_truth=None)
    same(read_crop_set(write_crop_set(unknown, tmp_path / "b.npz")), unknown)
    empty = full(labelled=grey(0), labels=np.zeros(0, int))
    same(read_crop_set(write_crop_set(empty, tmp_path / "c.npz")), empty)


def test_values_beyond_0_and_1_are_kept_as_they_are(tmp_path):
    noisy = np.random.default_rng(0).normal(size=(4, SIZE, SIZE)).astype(np.float32) * 1e4
    path = write_crop_set(full(labelled=noisy), tmp_path / "a.npz")
    same(read_crop_set(path), full(labelled=noisy))


def test_crops_in_0_to_1_are_bytes_to_within_half_a_grey_level(tmp_path):
    values = np.random.default_rng(0).random((4, SIZE, SIZE), np.float32)
    path = write_crop_set(full(labelled=values), tmp_path / "a.npz")
    with np.load(path, allow_pickle=False) as file:
        assert file["X_lab"].dtype == np.uint8
    assert np.abs(read_crop_set(path).labelled - values).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_integers_are_scaled_by_the_range_of_their_type(kind, tmp_path):
    top = np.iinfo(kind).max
    values = np.zeros((2, SIZE, SIZE), kind)
    values[0, 3, 4], values[1, 5, 6] = top, top // 2
    np.savez(tmp_path / "a.npz", X_lab=values, y_lab=[0, 1])
    read = read_crop_set(tmp_path / "a.npz").labelled
    assert read.dtype == np.float32 and read[0, 3, 4] == 1 and read.min() == 0
    assert read[1, 5, 6] == pytest.approx((top // 2) / top)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, bool])
def test_other_numbers_stay_as_they_are(kind):
    values = np.array([0, 1], kind)
    assert scaled(values).tolist() == [0, 1] and scaled(values).dtype == np.float32


def test_classes_without_names_are_numbers_and_one_hot_labels_are_classes(tmp_path):
    np.savez(tmp_path / "a.npz", X_lab=grey(3), y_lab=np.eye(3)[[2, 0, 1]])
    crops = read_crop_set(tmp_path / "a.npz")
    assert crops.classes == ("0", "1", "2") and crops.labels.tolist() == [2, 0, 1]


def test_crops_without_labels_are_enough_to_be_classified(tmp_path):
    np.savez(tmp_path / "a.npz", X_unl=grey(3))
    crops = read_crop_set(tmp_path / "a.npz")
    assert crops.labelled.shape == (0, SIZE, SIZE) and len(crops.unlabelled) == 3


def with_nan(crops):
    crops[1, 2, 3] = np.nan
    return crops


FAULTS = {
    "not finite": {"labelled": with_nan(grey(4))},
    "numbers 1": {"test": with_nan(grey(3))},
    "turn RGB to grey": {"labelled": np.zeros((4, SIZE, SIZE, 3), np.float32)},
    "square": {"labelled": np.zeros((4, SIZE, SIZE + 1), np.float32)},
    "different sizes": {"test": np.zeros((3, 20, 20), np.float32)},
    "4 crops but 5 labels": {"labels": np.array([0, 1, 2, 0, 1])},
    "5 crops but 4 labels": {"unlabelled_truth": np.array([0, 1, 2, 0])},
    "labels must be 0 to 2": {"labels": np.array([0, 1, 2, 3])},
    "labelled: labels must": {"labels": np.array([0, 1, 2, -1])},
    "test: labels must": {"test_truth": np.array([0, 1, -2])},
    "8 to 512": {
        "labelled": np.zeros((4, 5, 5), np.float32), "unlabelled": None, "unlabelled_truth": None,
        "test": None, "test_truth": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("words", list(FAULTS))
def test_crops_that_cannot_be_learnt_from_are_refused_in_words(words):
    with pytest.raises(ParameterError, match=words):
        full(**FAULTS[words])


def test_every_fault_is_named_at_once():
    with pytest.raises(ParameterError) as e:
        full(labelled=with_nan(grey(4)), labels=np.array([0, 1, 9, 0]), test=grey(2))
    for words in ("not finite", "labelled: labels must be 0 to 2", "2 crops but 3 labels"):
        assert words in str(e.value)
    assert crop_faults(grey(2)) == []


def arrays(**changed):
    values = {"X_lab": grey(3), "y_lab": np.array([0, 1, 1])} | changed
    return lambda path: np.savez(path, **{k: v for k, v in values.items() if v is not None})


def cut(path, keep=0.5):
    np.savez(path, X_lab=grey(3), y_lab=[0, 1, 1])
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


class Trap:
    """Unpickling it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def trap(path):
    objects = np.empty(3, object)
    objects[:] = [Trap(path.parent / "sprung")] * 3
    np.savez(path, X_lab=objects, y_lab=[0, 1, 1])


def bare_pickle(path):
    import pickle

    path.write_bytes(pickle.dumps(Trap(path.parent / "sprung")))


def foreign_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")


FILES = {
    "missing": (lambda path: None, "no such file"),
    "folder": (lambda path: path.mkdir(), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "text": (lambda path: path.write_text("X_lab, y_lab"), "cannot be read"),
    "half": (cut, "cannot be read"),
    "short": (lambda path: cut(path, 0.99), "cannot be read"),
    "single": (lambda path: np.save(path.open("wb"), grey(3)), "cannot be read"),
    "objects": (trap, "cannot be read"),
    "pickle": (bare_pickle, "cannot be read"),
    "zip": (foreign_zip, "readme.txt"),
    "others": (arrays(X_lab=None, y_lab=None, images=grey(3)), "holds images"),
    "unlabelled": (arrays(y_lab=None), "holds X_lab"),
    "nan": (arrays(X_lab=with_nan(grey(3))), "not finite"),
    "rgb": (arrays(X_lab=np.zeros((3, SIZE, SIZE, 3), np.uint8)), "turn RGB to grey"),
    "flat": (arrays(X_lab=np.float32(1.0)), "wanted"),
    "sizes": (arrays(X_unl=np.zeros((3, 20, 20), np.uint8)), "different sizes"),
    "range": (arrays(classes=np.array(["only"])), "labels must be 0 to 0"),
    "negative": (arrays(y_lab=np.array([0, 1, -1])), "labels must be"),
    "more": (arrays(y_lab=np.array([0, 1, 1, 0])), "3 crops but 4 labels"),
    "halves": (arrays(y_lab=np.array([0, 0.5, 1])), "whole numbers"),
    "nan labels": (arrays(y_lab=np.array([0, np.nan, 1])), "whole numbers"),
    "word labels": (arrays(y_lab=np.array(["a", "b", "b"])), "wanted"),
    "words": (arrays(X_lab=np.array(["a", "b", "c"])), "wanted numbers"),
    "complex": (arrays(X_lab=grey(3).astype(complex)), "wanted numbers"),
    "about": (arrays(about=np.array("{")), "wanted"),
    "about list": (arrays(about=np.array(json.dumps([1, 2]))), "wanted"),
    "classes": (arrays(classes=np.array("names")), "wanted"),
}


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_file_that_holds_no_crops_is_refused_in_words_and_never_unpickled(name, tmp_path):
    make, words = FILES[name]
    path = tmp_path / f"{name}.npz"
    make(path)
    with pytest.raises(ReadError, match=words) as e:
        read_crop_set(path)
    assert f"{name}.npz" in str(e.value)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("compressed", [True, False])
def test_any_bytes_give_crops_or_a_read_error(tmp_path, compressed):
    path = tmp_path / "a.npz"
    if compressed:
        write_crop_set(full(), path)
    else:
        arrays(classes=np.array(["a", "b"]), about=np.array("{}"))(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        broken = bytearray(content)
        for at in rng.integers(0, len(content), rng.integers(1, 9)):
            broken[at] ^= int(rng.integers(1, 256))
        path.write_bytes(broken)
        try:
            read_crop_set(path)
        except ReadError:
            refused += 1
    assert refused > 100


def test_a_text_file_is_called_no_archive_and_nothing_is_said_of_unpickling(tmp_path):
    path = tmp_path / "labels.npz"
    path.write_text("particle,label\n1,round\n")
    with pytest.raises(ReadError, match=r"no \.npz archive") as refused:
        read_crop_set(path)
    assert "pickle" not in str(refused.value)
