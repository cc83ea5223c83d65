"""Any bytes give detections or a `DetectionsError`: valid files of every form, mutated.

`PASSBAND_MUTATIONS` is the number for each form: 100 by default, 5,000 in the slow target.
"""

import json
import os
import time
import zipfile
import zlib

import numpy as np
import pytest

from made_detections import WRITERS, roi_bytes, zip_of
from passband.detections import gathering, imagej, json_files
from passband.detections.detections import Detections
from passband.detections.files import read_detections
from passband.detections.gathering import Notes
from passband.errors import DetectionsError
from passband.micrographs import readers

MUTATIONS = int(os.environ.get("PASSBAND_MUTATIONS", "100"))
SHAPE = (60, 80)
IMAGES = {"a.png": SHAPE, "b.png": SHAPE}
BOXES = [(1, 2, 9, 8), (12, 20, 18, 39), (41, 1, 60, 19)]
NUMBERS = ("-1", "0", "1e308", "-1e308", "NaN", "Infinity", "99999999999999999999", "null", '"x"', "[]", "{}")
SLACK_S = 5.0


def mutated(data, rng):
    """A mutation of bytes: flipped, cut, doubled, or a number of text replaced."""
    out = bytearray(data)
    way = int(rng.integers(5))
    if way == 0:
        for at in rng.integers(0, len(out), rng.integers(1, 17)):
            out[at] ^= int(rng.integers(1, 256))
    elif way == 1:
        del out[int(rng.integers(0, len(out))) :]
    elif way == 2:
        a, b = sorted(int(n) for n in rng.integers(0, len(out), 2))
        out[b:b] = out[a : a + 256]
    elif way == 3:
        at = int(rng.integers(0, len(out)))
        del out[at : at + int(rng.integers(1, 64))]
    else:
        places = [i for i, c in enumerate(out) if 48 <= c < 58]
        for _ in range(int(rng.integers(1, 4))):
            at = places[rng.integers(len(places))] if places else 0
            out[at : at + 1] = NUMBERS[rng.integers(len(NUMBERS))].encode()
    return bytes(out)


def mend_zip(data, rng):
    """An archive whose checksums are right, of a mutated region: or no mutation would reach the regions."""
    regions = {f"{i}.roi": roi_bytes(box, i) for i, box in enumerate(BOXES)}
    name = f"{rng.integers(len(regions))}.roi"
    return zip_of({**regions, name: mutated(regions[name], rng)})


def survive(path, data, images=IMAGES):
    """Read; True where detections came of it. Anything but detections or the one error fails the test."""
    path.write_bytes(data)
    start = time.monotonic()
    notes = Notes()
    try:
        found = read_detections(path, images=images, notes=notes)
    except DetectionsError as error:
        assert path.name in str(error) and len(str(error)) < 20_000
        return False
    finally:
        assert time.monotonic() - start < readers.TIME_LIMIT_S + SLACK_S + 60
    assert all(isinstance(d, Detections) and len(d) <= gathering.MAX_OBJECTS for d in found.values())
    assert all(len(line) < 2000 for line in notes.lines())
    return bool(found)


@pytest.mark.parametrize("form", WRITERS)
def test_mutations_of_made_files(tmp_path, capfd, form):
    path = WRITERS[form](tmp_path, "a", BOXES, SHAPE)
    data, read = path.read_bytes(), 0
    for seed in range(MUTATIONS):
        rng = np.random.default_rng([seed, zlib.crc32(form.encode())])
        mutate = mend_zip if form == "imagej_zip" and seed % 2 else mutated
        read += survive(path, mutate(data, rng))
    assert capfd.readouterr() == ("", ""), "a library spoke to the user's terminal"
    # Mutations that all fail at the first byte, or that all change nothing, would test nothing.
    assert 0 < read < MUTATIONS or form.startswith("yolo")


def test_an_archive_that_unpacks_to_more_than_it_may_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(imagej, "_MAX_ROI", 2**12)
    bomb = zip_of({"a.roi": b"Iout" + bytes(2**22)})
    assert len(bomb) < 2**14
    (tmp_path / "a.zip").write_bytes(bomb)
    with pytest.raises(DetectionsError, match="unpacks to more bytes than regions have"):
        read_detections(tmp_path / "a.zip", images=IMAGES)
    monkeypatch.setattr(imagej, "MAX_OBJECTS", 2)
    (tmp_path / "a.zip").write_bytes(zip_of({f"{i}.roi": roi_bytes(BOXES[0]) for i in range(3)}))
    with pytest.raises(DetectionsError, match="holds 3 entries, more than 2"):
        read_detections(tmp_path / "a.zip", images=IMAGES)


def test_a_damaged_region_stops_no_other(tmp_path):
    data = zip_of({f"{i}.roi": roi_bytes(box, i) for i, box in enumerate(BOXES)})
    at = data.index(b"1.roi") + 20
    (tmp_path / "a.zip").write_bytes(data[:at] + bytes(20) + data[at + 20 :])
    notes = Notes()
    assert len(read_detections(tmp_path / "a.zip", images=IMAGES, notes=notes)["a.png"]) == 2
    assert "1 of 3 regions was damaged and was left out" in notes.lines()[0]


def test_an_archive_is_never_unpacked_to_disk(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../outside.roi", roi_bytes(BOXES[0]))
    assert len(read_detections(tmp_path / "a.zip", images=IMAGES)["a.png"]) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]
    assert not (tmp_path.parent / "outside.roi").exists()


def test_sizes_and_counts_are_bounded(tmp_path, monkeypatch):
    path = WRITERS["coco_results"](tmp_path, "a", BOXES, SHAPE)
    monkeypatch.setattr(json_files, "MAX_BYTES", 10)
    with pytest.raises(DetectionsError, match="more than the 10 that are read"):
        read_detections(path, images=IMAGES)
    monkeypatch.undo()
    monkeypatch.setattr(gathering, "MAX_OBJECTS", 2)
    with pytest.raises(DetectionsError, match="more than 2 objects"):
        read_detections(path, images=IMAGES)
    monkeypatch.undo()
    # A few bytes of run lengths may stand for an image full of pixels, over and over.
    rle = {"size": list(SHAPE), "counts": [0, SHAPE[0] * SHAPE[1]]}
    rows = [{"image_id": "a", "bbox": [0, 0, 9, 9], "score": 1, "segmentation": rle}] * 50
    path.write_text(json.dumps(rows))
    monkeypatch.setattr(gathering, "MAX_MASK_PIXELS", 10 * SHAPE[0] * SHAPE[1])
    with pytest.raises(DetectionsError, match="outlines take more than"):
        read_detections(path, images=IMAGES)


def test_an_outline_that_goes_to_and_fro_is_refused_before_it_is_filled(tmp_path):
    side = 20_000
    zigzag = [v for i in range(2000) for v in ((i % 2) * side, i)]
    row = {"image_id": "a", "bbox": [0, 0, 9, 9], "score": 1, "segmentation": [zigzag]}
    (tmp_path / "a.json").write_text(json.dumps([row]))
    notes = Notes()
    d = read_detections(tmp_path / "a.json", images={"a.png": (side, side)}, notes=notes)["a.png"]
    assert len(d) == 1 and "is longer than" in notes.lines()[0]
