"""Every form of detections in, COCO out and back; and one error that names all that is wrong."""

import json
import os
import stat
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask
from tifffile import imwrite

from passband.detections.detections import Detections
from passband.detections.files import (
    FORMATS,
    from_label_image,
    from_torchvision,
    from_ultralytics,
    read_detections,
    write_coco,
)
from passband.detections.gathering import Notes
from passband.detections.given import DetectionsFile, read_given
from passband.detections.masks import mask_from_polygons, mask_from_rle, rle_from_mask, tight_mask
from passband.errors import DetectionsError, PassbandError
from passband.types import InstanceMask

SHAPE = (12, 16)
IMAGES = {"a.png": SHAPE, "b.tif": (20, 10)}


def whole(mask, shape):
    """A mask's pixels in the whole image."""
    pixels = np.zeros(shape, bool)
    h, w = mask.pixels.shape
    pixels[mask.y : mask.y + h, mask.x : mask.x + w] = mask.pixels
    return pixels


def same(a, b):
    """Whether two Detections are equal to the last bit."""
    return (
        a.image_shape == b.image_shape
        and a.score_threshold == b.score_threshold
        and a.scored == b.scored
        and a.categories == b.categories
        and np.array_equal(a.boxes_xyxy, b.boxes_xyxy)
        and np.array_equal(a.scores, b.scores)
        and (a.masks is None) == (b.masks is None)
        and len(a.masks or ()) == len(b.masks or ())
        and all(
            (m.y, m.x) == (n.y, n.x) and np.array_equal(m.pixels, n.pixels)
            for m, n in zip(a.masks or (), b.masks or (), strict=True)
        )
    )


def saved(folder, document, name="found.json"):
    """Write a document as JSON."""
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def ground_truth(*annotations, **image):
    """A COCO ground-truth document of one image."""
    row = {"id": 7, "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1], **image}
    return {
        "images": [row],
        "annotations": [{"image_id": 7, "id": i, **a} for i, a in enumerate(annotations)],
    }


@st.composite
def parts_of_detections(draw):
    """Image shape, boxes, scores, threshold, and pixels of the masks or None; up to 24 x 24 pixels."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    n = draw(st.integers(0, 4))
    boxes = []
    for _ in range(n):
        x0, y0 = (max(-1.0, draw(st.floats(-1, 1)) * side * 0.5) for side in (width, height))
        w, h = (draw(st.floats(0.01, 1)) * side * 0.5 for side in (width, height))
        boxes.append([x0, y0, x0 + w, y0 + h])
    pixels = None
    if draw(st.booleans()):
        pixels = [draw(arrays(bool, (height, width))) for _ in range(n)]
        for p in pixels:
            p[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = True
    scores = [draw(st.floats(0, 1)) for _ in range(n)]
    scored = draw(st.booleans())
    classes = draw(st.none() | st.lists(st.sampled_from(["", "object", "void"]), min_size=n, max_size=n))
    return (height, width), boxes, scores, draw(st.floats(0, 1)), pixels, scored, classes


def assembled(parts):
    """Detections from their drawn parts (outside the strategy: the shape checks draw random numbers)."""
    shape, boxes, scores, threshold, pixels, scored, classes = parts
    return Detections(
        image_shape=shape,
        boxes_xyxy=np.array(boxes, np.float64).reshape(-1, 4),
        scores=np.array(scores, np.float64),
        masks=None if pixels is None else tuple(tight_mask(p) for p in pixels),
        score_threshold=threshold,
        scored=scored,
        categories=None if classes is None else tuple(classes),
    )


names = st.text(
    st.characters(exclude_characters="/\\\x00", exclude_categories=["Cs"]), min_size=1, max_size=8
)


# ---- COCO, out and back ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(names.filter(lambda n: n not in (".", "..")), parts_of_detections(), max_size=3))
def test_write_then_read_is_identity(tmp_path_factory, parts):
    detections = {name: assembled(p) for name, p in parts.items()}
    path = tmp_path_factory.mktemp("coco") / "found.json"
    write_coco(path, detections)
    back = read_detections(path)
    assert list(back) == list(detections)
    assert all(same(back[name], detections[name]) for name in back)


def test_every_bit_of_a_corner_comes_back(tmp_path):
    # x0 + (x1 - x0) is x1 to the last bit inside the image, but not where x0 lies just outside it.
    rng = np.random.default_rng(0)
    near = rng.uniform(-1, 0, (200, 2))
    boxes = np.hstack([near, rng.uniform(0.01, 0.5, (200, 2))])
    assert (near + (boxes[:, 2:] - near) != boxes[:, 2:]).any()
    d = Detections(image_shape=(1000, 1000), boxes_xyxy=boxes, scores=np.ones(200))
    write_coco(tmp_path / "x.json", {"a.png": d})
    assert same(read_detections(tmp_path / "x.json")["a.png"], d)


def test_files_of_the_same_name_in_two_folders_stay_apart(tmp_path):
    d = from_label_image(np.eye(4, dtype=int))
    write_coco(tmp_path / "x.json", {"one/a.png": d, "two/a.png": d, "two/b.png": d})
    assert list(read_detections(tmp_path / "x.json")) == ["one/a.png", "two/a.png", "b.png"]


# pycocotools 2.0.11 is not ready for the copy keyword of numpy 2 where it decodes.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_what_is_written(tmp_path):
    labels = np.zeros(SHAPE, int)
    labels[2:5, 3:9], labels[0:12, 10:13] = 1, 2
    write_coco(tmp_path / "x.json", {"a.png": from_label_image(labels)})
    document = json.loads((tmp_path / "x.json").read_text())
    for i, a in enumerate(document["annotations"], start=1):
        np.testing.assert_array_equal(coco_mask.decode(a["segmentation"]), labels == i)
        assert coco_mask.toBbox(a["segmentation"]).tolist() == a["bbox"]
        assert a["area"] == (labels == i).sum()
    assert {"images", "annotations", "categories"} <= set(document)


def test_a_mask_outside_its_image_is_not_written_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    mask = InstanceMask(y=10, x=0, pixels=np.ones((4, 4), bool))
    d = Detections(
        image_shape=SHAPE, boxes_xyxy=np.array([[0.0, 0, 4, 4]]), scores=np.array([1.0]), masks=(mask,)
    )
    with pytest.raises(DetectionsError, match=r"outside the image of 12 x 16: image 'a.png', object 0"):
        write_coco(path, {"a.png": d})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.json"]  # noqa: PTH208


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PassbandError, match=r"file.x\.json cannot be written"):
        write_coco(tmp_path / "file" / "x.json", {})


# ---- run lengths and polygons ----------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_run_lengths_agree_with_pycocotools_both_ways(height, width, data):
    pixels = data.draw(arrays(bool, (height, width)))
    pixels[data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))] = True
    theirs = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    ours = rle_from_mask(tight_mask(pixels), (height, width))
    assert ours["counts"].encode() == theirs["counts"]
    for rle in (ours, {"size": [height, width], "counts": theirs["counts"]}):
        np.testing.assert_array_equal(whole(mask_from_rle(rle, (height, width)), (height, width)), pixels)


@settings(deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=12))
def test_packed_and_listed_run_lengths_mean_the_same(runs):
    # Large runs need several characters, and falling ones negative differences.
    height = sum(runs) or 1
    runs = runs if sum(runs) else [1]
    rle = {"size": [height, 1], "counts": runs}
    packed = coco_mask.frPyObjects(rle, height, 1)
    a, b = mask_from_rle(rle, (height, 1)), mask_from_rle(packed, (height, 1))
    if a is None:
        assert b is None
    else:
        np.testing.assert_array_equal(whole(a, (height, 1)), whole(b, (height, 1)))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=12) | st.text("0123PQRbcnop", max_size=12))
def test_any_text_of_run_lengths_gives_a_mask_or_an_error(counts):
    try:
        mask = mask_from_rle({"size": list(SHAPE), "counts": counts}, SHAPE)
    except DetectionsError:
        return
    assert mask is None or mask.pixels.any()


def test_crops_are_tight():
    polygon = [3, 2, 9, 2, 9, 6, 3, 6]
    mask = mask_from_polygons([polygon], SHAPE)
    assert mask.box_xyxy == (3, 2, 9, 6)
    assert mask.pixels.all()
    two = mask_from_polygons([polygon, [12, 8, 14, 8, 14, 11, 12, 11]], SHAPE)
    assert two.box_xyxy == (3, 2, 14, 11)
    assert two.pixels.sum() == 6 * 4 + 2 * 3


def test_a_polygon_a_pixel_over_the_edge_is_cut_at_it():
    mask = mask_from_polygons([[-1, -1, 17, -1, 17, 13, -1, 13]], SHAPE)
    assert mask.box_xyxy == (0, 0, 16, 12)
    assert mask.pixels.all()


def test_a_small_object_in_a_huge_image_stays_small():
    # 30,000 x 30,000: a whole mask would take 900 MB.
    side = 30_000
    polygon = [[20_000, 20_000, 20_010, 20_000, 20_010, 20_005, 20_000, 20_005]]
    assert mask_from_polygons(polygon, (side, side)).pixels.shape == (5, 10)


# ---- COCO from elsewhere ---------------------------------------------------------------------------------


def test_ground_truth_with_boxes_polygons_and_both_kinds_of_run_lengths(tmp_path):
    pixels = np.zeros(SHAPE, np.uint8, order="F")
    pixels[1:4, 2:7] = 1
    packed = coco_mask.encode(pixels)["counts"].decode()
    listed = [2 * 12 + 1, 3, 9, 3, 9, 3, 9, 3, 9, 3, 116]
    size = list(SHAPE)
    document = ground_truth(
        {"bbox": [2, 1, 5, 3], "segmentation": [[2, 1, 7, 1, 7, 4, 2, 4]]},
        {"segmentation": {"size": size, "counts": packed}, "iscrowd": 1},
        {"bbox": [2.5, 1, 4, 3], "segmentation": {"size": size, "counts": listed}, "score": 0.25},
    )
    d = read_detections(saved(tmp_path, document))["a.png"]
    assert d.boxes_xyxy.tolist() == [[2, 1, 7, 4], [2.5, 1, 6.5, 4]]
    assert d.scores.tolist() == [1, 0.25]
    assert all(np.array_equal(whole(m, SHAPE), pixels) for m in (*d.masks, *d.crowds))
    assert len(d.crowds) == 1


def test_boxes_alone_have_no_masks_and_images_without_objects_are_there(tmp_path):
    document = ground_truth({"bbox": [2, 1, 5, 3]})
    document["images"].append({"id": 8, "file_name": "dir\\b.tif", "height": 20, "width": 10})
    found = read_detections(saved(tmp_path, document))
    assert list(found) == ["a.png", "b.tif"]
    assert found["a.png"].masks is None
    assert len(found["b.tif"]) == 0


@pytest.mark.parametrize("image_id", ["a.png", "a", "some/folder/a.png"])
def test_results_find_their_image_by_name_or_stem(tmp_path, image_id):
    path = saved(tmp_path, [{"image_id": image_id, "bbox": [2, 1, 5, 3], "score": 0.5}])
    found = read_detections(path, images=IMAGES)
    assert {n: len(d) for n, d in found.items()} == {"a.png": 1, "b.tif": 0}


def test_results_find_their_image_by_number(tmp_path):
    path = saved(tmp_path, [{"image_id": 17, "bbox": [2, 1, 5, 3], "score": 0.5}])
    assert len(read_detections(path, images={"000017.png": SHAPE, "170.png": SHAPE})["000017.png"]) == 1
    listed = saved(
        tmp_path, {"images": [{"id": 17, "file_name": "a.png", "height": 12, "width": 16}]}, "gt.json"
    )
    assert list(read_detections(path, image_list=listed)) == ["a.png"]
    found = read_detections(path, image_list=listed, images=IMAGES)
    assert {n: len(d) for n, d in found.items()} == {"a.png": 1, "b.tif": 0}


def test_an_image_list_is_the_only_word_on_what_a_number_means(tmp_path):
    # The list says that 17 is z.png, which is not given; "17.png" must not take its place.
    rows = [{"id": i, "file_name": n, "height": 12, "width": 16} for i, n in ((17, "z.png"), (1, "a.png"))]
    listed = saved(tmp_path, rows, "images.json")
    path = saved(tmp_path, [{"image_id": 17, "bbox": [2, 1, 5, 3], "score": 0.5}])
    images = {"17.png": SHAPE, "a.png": SHAPE}
    with pytest.raises(DetectionsError, match=r"not among those given: 17 "):
        read_detections(path, images=images, image_list=listed)
    # True is 1 in Python, and no number of an image.
    path = saved(tmp_path, [{"image_id": True, "bbox": [2, 1, 5, 3], "score": 0.5}])
    with pytest.raises(DetectionsError, match=r"not among those given: True "):
        read_detections(path, images=images, image_list=listed)


def test_the_given_names_are_the_keys(tmp_path):
    path = saved(tmp_path, ground_truth({"bbox": [2, 1, 5, 3]}))
    assert list(read_detections(path, images={"/data/run 1/a.dm4": SHAPE})) == ["/data/run 1/a.dm4"]


def test_detectron2_output_folder(tmp_path):
    pixels = np.zeros(SHAPE, np.uint8, order="F")
    pixels[3:6, 4:8] = 1
    entry = {
        "image_id": "a",
        "category_id": 0,
        "bbox": [4.1, 3.0, 3.8, 2.9],
        "score": 0.75,
        "segmentation": {"size": list(SHAPE), "counts": coco_mask.encode(pixels)["counts"].decode()},
    }
    saved(tmp_path, [entry], "coco_instances_results.json")
    (tmp_path / "instances_predictions.pth").write_bytes(b"a pickle")
    d = read_detections(tmp_path, images={"a.png": SHAPE})["a.png"]
    assert d.boxes_xyxy[0] == pytest.approx([4.1, 3.0, 7.9, 5.9])
    assert np.array_equal(whole(d.masks[0], SHAPE), pixels)
    with pytest.raises(DetectionsError, match=r"pickle, .*never opened; give coco_instances_results\.json"):
        read_detections(tmp_path / "instances_predictions.pth")


def test_an_outline_without_a_pixel_keeps_the_one_at_its_centre(tmp_path):
    empty = {"size": list(SHAPE), "counts": [12 * 16]}
    path = saved(tmp_path, ground_truth({"bbox": [4, 6, 1.5, 1.5], "segmentation": empty}))
    mask = read_detections(path)["a.png"].masks[0]
    assert (mask.y, mask.x, mask.pixels.tolist()) == (6, 4, [[True]])


def test_a_threshold_drops_and_is_recorded(tmp_path):
    document = ground_truth({"bbox": [2, 1, 5, 3], "score": 0.3}, {"bbox": [2, 1, 5, 3], "score": 0.5})
    d = read_detections(saved(tmp_path, document), score_threshold=0.5)["a.png"]
    assert (d.scores.tolist(), d.score_threshold) == ([0.5], 0.5)


def test_scores_are_a_detectors_only_where_the_file_gives_them(tmp_path):
    box = {"bbox": [2, 1, 5, 3], "category_id": 4}
    kinds = {"categories": [{"id": 4, "name": "void"}]}
    truth = read_detections(saved(tmp_path, {**ground_truth(box), **kinds}))["a.png"]
    assert (truth.scored, truth.categories) == (False, ("void",))
    assert not truth.above(0.5).scored
    assert truth.above(0.5).categories == ("void",)
    found = read_detections(saved(tmp_path, ground_truth({**box, "score": 0.25})))["a.png"]
    assert (found.scored, found.categories) == (True, None)
    assert not from_label_image(np.eye(4, dtype=int)).scored


def test_objects_of_some_classes():
    d = Detections(
        image_shape=SHAPE,
        boxes_xyxy=np.array([[0.0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 3, 3]]),
        scores=np.array([0.5, 0.25, 1]),
        categories=("a", "b", "a"),
    )
    assert d.of({"a"}).scores.tolist() == [0.5, 1]
    assert d.of({"a"}).above(0.75).categories == ("a",)
    assert len(d.of({"c"})) == 0


# ---- YOLO ------------------------------------------------------------------------------------------------


def test_yolo_boxes_and_outlines_with_and_without_confidence(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n\n3 0.25 0.25 0.125 0.5 0.75\n")
    (tmp_path / "b.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.3 0.1 0.3\n0 0 0 1 0 1 1 0.5\n")
    (tmp_path / "classes.txt").write_text("cavity\n")
    found = read_detections(tmp_path, images=IMAGES)
    assert found["a.png"].boxes_xyxy.tolist() == [[6, 3, 10, 9], [3, 0, 5, 6]]
    assert found["a.png"].scores.tolist() == [1, 0.75]
    assert found["a.png"].masks is None
    np.testing.assert_allclose(found["b.tif"].boxes_xyxy, [[1, 2, 5, 6], [0, 0, 10, 20]])
    assert found["b.tif"].scores.tolist() == [1, 0.5]
    assert found["b.tif"].masks[0].pixels.all()
    assert found["b.tif"].masks[0].box_xyxy == (1, 2, 5, 6)
    one = read_detections(tmp_path / "a.txt", images=IMAGES)
    assert list(one) == ["a.png"]
    assert same(one["a.png"], found["a.png"])


def test_yolo_writes_no_file_for_an_image_without_objects(tmp_path):
    (tmp_path / "a.txt").write_text("")
    assert {n: len(d) for n, d in read_detections(tmp_path, images=IMAGES).items()} == {
        "a.png": 0,
        "b.tif": 0,
    }


def test_yolo_needs_sizes_and_says_everything_that_is_wrong(tmp_path):
    (tmp_path / "a.txt").write_text(
        "0 0.5 0.5 0.25 0.5\n0 0.5\n0 0.5 x 0.1 0.1\n0 nan 0.5 0.1 0.1\n0 80 90 10 10\n"
        "0 0.5 0.5 0.1 -0.1\n0 0.5 0.5 0.1 0.1 1.5\n0 0.1 0.5 0.9 0.1\n"
    )
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "c.txt").write_text("")
    with pytest.raises(DetectionsError, match=r"give images=\{name: \(height, width\)\}"):
        read_detections(tmp_path)
    notes = Notes()
    found = read_detections(tmp_path, images=IMAGES, notes=notes)
    np.testing.assert_allclose(found["a.png"].boxes_xyxy, [[6, 3, 10, 9], [0, 5.4, 8.8, 6.6]])
    assert "b.tif" not in found
    with pytest.raises(DetectionsError) as caught:
        read_detections(tmp_path, images=IMAGES, notes=Notes(strict=True))
    for told in (str(caught.value), "; ".join([*notes.lines(), *notes.refused.values()])):
        for words in (
            "a.txt line 2",
            "finite numbers and were left out: a.txt line 3 ('0 0.5 x 0.1 0.1'), a.txt line 4",
            "1 of 8 boxes lay wholly outside and was left out: a.txt line 5",
            "1 of 8 boxes had no extent and was left out: a.txt line 6",
            "had no score in [0, 1] and was left out: a.txt line 7 (1.5)",
            "1 of 8 boxes lay outside and was clipped: a.txt line 8",
            "b.txt is not text",
        ):
            assert words in told
    assert "it speaks of 1 more image than are given, passed over: c.txt" in notes.lines()


# ---- label images ----------------------------------------------------------------------------------------


LABELS = np.zeros(SHAPE, np.uint16)
LABELS[1:3, 1:4] = 40_000
LABELS[5:9, 6:8] = 2
LABELS[11, 15] = 2  # an object may be in pieces


def test_label_image_gives_one_object_a_number():
    d = from_label_image(LABELS)
    assert d.boxes_xyxy.tolist() == [[6, 5, 16, 12], [1, 1, 4, 3]]
    assert d.scores.tolist() == [1, 1]
    for m, number in zip(d.masks, (2, 40_000), strict=True):
        np.testing.assert_array_equal(whole(m, SHAPE), number == LABELS)
    assert len(from_label_image(np.zeros(SHAPE, np.int64))) == 0


@settings(deadline=None)
@given(arrays(np.int64, (6, 7), elements=st.sampled_from([0, 0, 1, 2, 9, 2**40])))
def test_label_image_puts_every_pixel_in_its_object(labels):
    d = from_label_image(labels)
    ids = [i for i in np.unique(labels) if i]
    assert len(d) == len(ids)
    for m, i in zip(d.masks, ids, strict=True):
        np.testing.assert_array_equal(whole(m, labels.shape), labels == i)


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.tif", "a_cp_masks.tif"])
def test_label_files(tmp_path, name):
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, LABELS)
    elif name.endswith("png"):
        Image.fromarray(LABELS).save(path)
    else:
        imwrite(path, LABELS)
    assert same(read_detections(path, images=IMAGES)["a.png"], from_label_image(LABELS))
    assert list(read_detections(path)) == [name]
    assert list(read_detections(tmp_path, images=IMAGES)) == ["a.png"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full((4, 4), 0.5), "whole numbers"),
        (np.full((4, 4), np.nan), "whole numbers"),
        (np.full((4, 4), -1), "negative numbers, got -1"),
        (np.zeros((0, 4), int), r"shape \(0, 4\)"),
        (np.array([["a"]]), "array of"),
    ],
)
def test_what_is_no_label_image_is_refused(tmp_path, labels, words):
    with pytest.raises(DetectionsError, match=words):
        from_label_image(labels)
    np.save(tmp_path / "a.npy", labels)
    with pytest.raises(DetectionsError, match=r"a\.npy.*" + words):
        read_detections(tmp_path / "a.npy")


def test_damaged_label_files_are_named_together(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "b.tif").write_bytes(b"II*\0damaged")
    (tmp_path / "c.png").write_text("text")
    head = np.lib.format.header_data_from_array_1_0(np.zeros((2, 2), np.int32))
    with (tmp_path / "d.npy").open("wb") as f:  # declares 900 million pixels, holds none
        np.lib.format.write_array_header_1_0(f, {**head, "shape": (30_000, 30_000)})
    np.save(tmp_path / "e.npy", LABELS)
    with pytest.raises(DetectionsError) as caught:
        read_detections(tmp_path, images={f"{n}.mrc": (20, 20) for n in "abcde"})
    for name in ("a.npy", "b.tif", "c.png", "d.npy", "e.npy is 12 x 16, image 'e.mrc' is 20 x 20"):
        assert name in str(caught.value)


# ---- torchvision and Ultralytics -------------------------------------------------------------------------


@pytest.mark.parametrize("tensors", [False, True])
def test_torchvision_output(tensors):
    soft = np.zeros((2, 1, *SHAPE), np.float32)
    soft[0, 0, 2:5, 3:9] = 0.5
    soft[0, 0, 6, 3:9] = 0.49
    prediction = {
        "boxes": np.array([[2.5, 1.5, 9, 5.5], [4, 6, 7, 9]], np.float32),
        "scores": np.array([0.5, 0.25], np.float32),
        "labels": np.array([1, 1]),
        "masks": soft,
    }
    if tensors:
        import torch

        prediction = {k: torch.tensor(v, requires_grad=k == "boxes") for k, v in prediction.items()}
    d = from_torchvision(prediction, SHAPE)
    assert d.boxes_xyxy.dtype == d.scores.dtype == np.float64
    assert d.boxes_xyxy.tolist() == [[2.5, 1.5, 9, 5.5], [4, 6, 7, 9]]
    assert d.masks[0].box_xyxy == (3, 2, 9, 5)
    assert d.masks[1].box_xyxy == (5, 7, 6, 8)  # nowhere 0.5: the centre of its box
    kept = from_torchvision(prediction, SHAPE, score_threshold=0.4)
    assert (len(kept), kept.score_threshold) == (1, 0.4)


def test_torchvision_target_and_nothing_found():
    assert from_torchvision({"boxes": np.array([[1, 2, 3, 4]])}, SHAPE).scores.tolist() == [1]
    nothing = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "masks": np.zeros((0, 1, *SHAPE))}
    assert len(from_torchvision(nothing, SHAPE)) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"boxes": np.zeros((1, 3))}, r"\(n, 4\) and scores \(n,\), got \(1, 3\)"),
        ({"scores": np.array(["high"])}, "must be numbers"),
        ({"scores": np.array([np.nan])}, r"scores \[0\] are not in \[0, 1\]: \[nan\]"),
        ({"boxes": np.array([[5, 5, 4, 4]])}, r"boxes \[0\] have no extent"),
        ({"boxes": np.array([[0, 0, np.nan, 4]])}, "NaN"),
        ({"boxes": np.array([[0, 0, 99, 4]])}, "outside the image of 12 x 16"),
        ({"masks": np.zeros((1, 1, 16, 12))}, r"masks must be \(1, 1, 12, 16\), got \(1, 1, 16, 12\)"),
        (
            {"masks": np.zeros((2, 1, 12, 16)), "scores": np.array([7.0])},
            r"masks must be .*; .*not in \[0, 1\]",
        ),
    ],
)
def test_torchvision_faults(changes, words):
    prediction = {"boxes": np.array([[1, 2, 3, 4]]), "scores": np.array([0.5]), **changes}
    with pytest.raises(DetectionsError, match=words):
        from_torchvision(prediction, SHAPE)
    with pytest.raises(DetectionsError, match="wanted 'boxes', got 'scores'"):
        from_torchvision({"scores": np.zeros(1)}, SHAPE)


def test_ultralytics_result_has_outlines_in_pixels_of_the_original():
    import torch

    boxes = SimpleNamespace(xyxy=torch.tensor([[3.0, 2, 9, 6], [1, 8, 2, 9]]), conf=torch.tensor([0.75, 0.5]))
    outline = np.array([[3, 2], [9, 2], [9, 6], [3, 6]], np.float32)
    # masks.data has the network's size, 32 x 32, and is left alone.
    masks = SimpleNamespace(xy=[outline, np.zeros((0, 2), np.float32)], data=torch.zeros(2, 32, 32))
    d = from_ultralytics(SimpleNamespace(orig_shape=SHAPE, boxes=boxes, masks=masks))
    assert d.image_shape == SHAPE
    assert d.scores.tolist() == [0.75, 0.5]
    assert [m.box_xyxy for m in d.masks] == [(3, 2, 9, 6), (1, 8, 2, 9)]
    assert from_ultralytics(SimpleNamespace(orig_shape=SHAPE, boxes=boxes, masks=None)).masks is None


def test_ultralytics_faults():
    with pytest.raises(DetectionsError, match="wanted an Ultralytics result"):
        from_ultralytics(SimpleNamespace(orig_shape=SHAPE, boxes=None, masks=None))
    boxes = SimpleNamespace(xyxy=np.array([[3.0, 2, 9, 6]]), conf=np.array([2.0]))
    masks = SimpleNamespace(xy=[np.array([[0, 0], [99, 0], [99, 99]])])
    with pytest.raises(DetectionsError, match=r"outside the image.*object 0; .*not in \[0, 1\]"):
        from_ultralytics(SimpleNamespace(orig_shape=SHAPE, boxes=boxes, masks=masks))


# ---- everything that is wrong, at once -------------------------------------------------------------------


def test_a_coco_file_with_every_fault_names_them_all_and_what_is_good_is_read(tmp_path):
    good = {"bbox": [2, 1, 5, 3]}
    size = list(SHAPE)
    document = ground_truth(
        {"bbox": [2, 1, -5, 3]},
        {**good, "score": float("nan")},
        {**good, "score": "high"},
        {"bbox": [2, 1, "wide", 3]},
        {"bbox": [2, 1, 5]},
        {**good, "segmentation": {"size": [16, 12], "counts": "0"}},
        {**good, "segmentation": {"size": size, "counts": [5, 5]}},
        {**good, "segmentation": [[1, 2, 3, 4]]},
        {**good, "segmentation": [[1, 2, 3, 4, None, 6]]},
        {**good, "segmentation": [[1, 2, 3, 4, 99, 6]]},
        {**good, "segmentation": "abc"},
        {**good, "image_id": 99},
        {"image_id": 7},
        {"bbox": [2, 1, 50, 3]},
        {**good, "score": 1.5},
    )
    document["annotations"].append(5)
    document["images"] += [
        {"id": 7, "file_name": "again.png", "height": 4, "width": 4},
        {"id": 8, "file_name": "b.tif", "height": "tall", "width": 4},
        {"id": 9, "height": 4, "width": 4},
        {"id": 10, "file_name": "c.tif", "height": 10**6, "width": 10**6},
        {"id": 11, "file_name": "a.png", "height": 12, "width": 16},
    ]
    document["images"].pop(1)  # two images of one number: nothing of either can be told
    path = saved(tmp_path, document)
    with pytest.raises(DetectionsError) as caught:
        read_detections(path, notes=Notes(strict=True))
    text = str(caught.value)
    for words in (
        str(path),
        "boxes had no extent and was left out: entry 0",
        "had no score in [0, 1] and were left out: entry 1 (nan), entry 2 ('high'), entry 14 (1.5)",
        "entry 3 ([2, 1, 'wide', 3]), entry 4 ([2, 1, 5])",
        "boxes stand in for them: entry 5 (run lengths of size [16, 12] in an image of 12 x 16)",
        "add up to 192 pixels)",
        "three or more points, got [1, 2, 3, 4])",
        "finite numbers, got [1, 2, 3, 4, None, 6])",
        "outlines reached outside and was clipped: entry 9",
        "got 'abc')",
        "image_id 99",
        "nor an outline with a pixel, and were left out",
        "boxes lay outside and was clipped: entry 13",
        "entry 15 (5)",
        "1 or more: image 'b.tif' (height x width: 'tall' x 4)",
        "no id (number or text) or no file_name (text), and was left out: image 2",
        "at most 1073741824 pixels: image 'c.tif'",
    ):
        assert words in text
    notes = Notes()
    found = read_detections(path, notes=notes)
    assert list(found) == ["a.png"]
    assert len(found["a.png"]) == 7
    assert "the file lists 'a.png' more than once, and the first was taken" in notes.lines()
    assert set(notes.refused) == {"b.tif", "c.tif"}


def test_two_images_of_one_number_are_refused_and_the_others_read(tmp_path):
    rows = [
        {"id": i, "file_name": f"{n}.png", "height": 4, "width": 4} for i, n in ((1, "a"), (1, "b"), (2, "c"))
    ]
    document = {"images": rows, "annotations": [{"image_id": i, "bbox": [0, 0, 1, 1]} for i in (1, 2)]}
    notes = Notes()
    assert list(read_detections(saved(tmp_path, document), notes=notes)) == ["c.png"]
    assert set(notes.refused) == {"a.png", "b.png"}


def test_other_images_are_counted_and_a_file_for_others_alone_names_them(tmp_path):
    document = {
        "images": [{"id": i, "file_name": f"{n}.png", "height": 4, "width": 4} for i, n in enumerate("axyz")],
        "annotations": [{"image_id": i, "bbox": [0, 0, 1, 1]} for i in range(4)],
    }
    path = saved(tmp_path, document)
    images, notes = {"a.png": (4, 4), "b.png": (4, 4)}, Notes(strict=True)
    assert {n: len(d) for n, d in read_detections(path, images=images, notes=notes).items()} == {"a.png": 1}
    assert notes.lines() == [
        "it speaks of 3 more images than are given, passed over: 'x.png', 'y.png', 'z.png'"
    ]
    with pytest.raises(
        DetectionsError, match=r"not among those given: 'a\.png' \(nearest: a1\.png\), 'x\.png'"
    ):
        read_detections(path, images={"b7.png": (4, 4), "a1.png": (4, 4)})
    results = saved(
        tmp_path, [{"image_id": n, "bbox": [0, 0, 1, 1], "score": 1} for n in (5, "q", None)], "r.json"
    )
    with pytest.raises(DetectionsError, match=r"not among those given: 5 .*, 'q' .*, None "):
        read_detections(results, images=images)


def test_a_file_for_other_images_alone_is_never_passed_over(tmp_path):
    # Else the wrong file would mean that nothing was found.
    images = {"b.png": (4, 4)}
    entry = {"bbox": [0, 0, 1, 1], "score": 1}
    saved(tmp_path, [{"image_id": "a", **entry}], "results.json")
    truth = {"images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 4}], "annotations": []}
    saved(tmp_path, truth, "truth.json")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    np.save(tmp_path / "a.npy", LABELS)
    for name in ("results.json", "truth.json", "labels", "a.npy"):
        with pytest.raises(DetectionsError, match=r"not among those given: '?a"):
            read_detections(tmp_path / name, images=images)
    empty = saved(tmp_path, [], "empty.json")
    assert len(read_detections(empty, images=images)["b.png"]) == 0


def test_an_image_of_another_size_is_a_fault(tmp_path):
    path = saved(tmp_path, ground_truth({"bbox": [2, 1, 5, 3]}), "gt.json")
    with pytest.raises(DetectionsError, match=r"'a\.png' is 24 x 32, the file says 12 x 16"):
        read_detections(path, images={"a.png": (24, 32)})
    results = saved(tmp_path, [], "r.json")
    with pytest.raises(DetectionsError, match=r"gt\.json .*'a\.png' is 24 x 32, the file says"):
        read_detections(results, images={"a.png": (24, 32)}, image_list=path)


def test_a_name_that_may_mean_two_images_is_a_fault(tmp_path):
    path = saved(tmp_path, [{"image_id": "a", "bbox": [0, 0, 1, 1], "score": 1}])
    with pytest.raises(DetectionsError, match=r"'a' may be any of a\.png, a\.tif"):
        read_detections(path, images={"a.png": (4, 4), "a.tif": (4, 4)})


def test_where_some_objects_have_no_outline_their_boxes_are_taken(tmp_path):
    document = ground_truth({"bbox": [2, 1, 5, 3]}, {"segmentation": [[2, 1, 7, 1, 7, 4]]})
    notes = Notes()
    d = read_detections(saved(tmp_path, document), notes=notes)["a.png"]
    assert d.masks[0].box_xyxy == (2, 1, 7, 4) and d.masks[0].pixels.all()
    assert notes.lines() == ["1 of 2 objects had no outline, and boxes stand in for it: 'a.png'"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("[1, 2", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\x00\x01", "is not JSON"),
        ("{}", "is no COCO file.*an object with nothing"),
        ('{"shapes": []}', "is no COCO file.*'shapes'"),
        ("3", "is no COCO file.*got 3"),
        ('{"annotations": [], "images": 4}', "wanted a list of images"),
        ("[]", "names no image sizes: give images"),
    ],
)
def test_json_that_is_no_coco_file(tmp_path, text, words):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DetectionsError, match=r"x\.json.*" + words):
        read_detections(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda v: st.lists(v, max_size=5) | st.dictionaries(st.sampled_from(["size", "counts", "bbox"]), v),
    max_leaves=8,
)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["bbox", "segmentation", "score", "image_id", "id", "height", "file_name"]), json_values
)
def test_any_value_anywhere_gives_detections_or_the_one_error(tmp_path_factory, key, value):
    document = ground_truth({"bbox": [2, 1, 5, 3], "segmentation": [[2, 1, 7, 1, 7, 4]], "score": 0.5})
    document["annotations"][0][key] = value
    document["images"][0][key] = value
    path = saved(tmp_path_factory.getbasetemp(), document, "any.json")
    results = saved(tmp_path_factory.getbasetemp(), document["annotations"], "results.json")
    for file, images in ((path, None), (path, IMAGES), (results, IMAGES)):
        try:
            found = read_detections(file, images=images)
        except DetectionsError:
            continue
        assert all(isinstance(d, Detections) for d in found.values())


def test_paths_that_hold_no_detections(tmp_path):
    with pytest.raises(DetectionsError, match=r"gone\.json does not exist"):
        read_detections(tmp_path / "gone.json")
    with pytest.raises(DetectionsError, match="neither YOLO text files nor label images"):
        read_detections(tmp_path)
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(DetectionsError, match="no suffix of a detection file"):
        read_detections(tmp_path / "x.csv")
    with pytest.raises(DetectionsError, match=r"one of 'coco', 'yolo', 'labels', .*, got 'voc'"):
        read_detections(tmp_path / "x.csv", format="voc")
    with pytest.raises(DetectionsError, match=r"1 or more: 'a' .*, 'b' "):
        read_detections(tmp_path / "x.csv", images={"a": (4, -1), "b": (0, 3)})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    path = saved(tmp_path, [])
    path.chmod(0)
    with pytest.raises(DetectionsError, match=r"found\.json cannot be read: Permission denied"):
        read_detections(path, images=IMAGES)
    path.chmod(stat.S_IRUSR)


def test_formats_are_open_for_one_more(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "mine", lambda path, known: {path.name: from_label_image(LABELS)})
    (tmp_path / "x.csv").write_text("")
    assert list(read_detections(tmp_path / "x.csv", format="mine")) == ["x.csv"]


def test_an_image_without_a_text_file_has_no_detections_but_is_not_labelled(tmp_path):
    """A detector writes none where it finds nothing; who has labelled ten of a hundred wrote ten."""
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.25 0.5")
    (tmp_path / "b.txt").write_text("")
    shapes = {name: (64, 64) for name in ("a.png", "b.png", "c.png")}
    found = read_given(shapes, DetectionsFile(path=tmp_path))
    assert {name: len(d) for name, d in found.found.items()} == {"a.png": 1, "b.png": 0, "c.png": 0}
    there = read_given(shapes, DetectionsFile(path=tmp_path, truth=True))
    assert {name: len(d) for name, d in there.found.items()} == {"a.png": 1, "b.png": 0}
    assert any("1 image without a file of labels: not labelled" in note for note in there.notes)
