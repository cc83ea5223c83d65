"""Every form that others write: the same objects give the same boxes, and one fault stops nothing."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from PIL import Image
from roifile import ROI_TYPE, ImagejRoi
from tifffile import imwrite

from made_detections import WRITERS, corners, label_image, roi_bytes, yolo_boxes, yolo_outlines
from passband.detections.detections import Detections
from passband.detections.files import read_detections
from passband.detections.gathering import Notes
from passband.detections.masks import clipped_polygon, mask_from_polygons
from passband.detections.measured import measured_scores, scores_by_class
from passband.errors import DetectionsError
from passband.types import InstanceMask

SHAPE = (60, 80)
IMAGES = {"a.png": SHAPE, "b.png": SHAPE}
BOXES = [(1, 2, 9, 8), (12, 20, 18, 39), (41, 1, 60, 19), (70, 50, 80, 60)]
UNSCORED = {
    "coco_polygons", "coco_run_lengths", "yolo_boxes", "yolo_outlines", "label_png", "label_float_tiff",
    "label_rgb_png", "label_npy", "imagej_zip", "qupath", "label_studio",
}  # fmt: skip


@st.composite
def apart(draw):
    """One to six rectangles that do not touch: each in its own cell of 20 x 20 pixels."""
    cells = draw(st.lists(st.sampled_from(range(12)), min_size=2, max_size=6, unique=True))
    boxes = []
    for cell in cells:
        x0, y0 = draw(st.integers(1, 9)), draw(st.integers(1, 9))
        w, h = draw(st.integers(2, 10)), draw(st.integers(2, 10))
        y, x = 20 * (cell // 4), 20 * (cell % 4)
        boxes.append((x + x0, y + y0, x + x0 + w, y + y0 + h))
    return boxes


@pytest.mark.parametrize("form", WRITERS)
@settings(deadline=None, max_examples=10)
@given(boxes=apart())
def test_every_form_of_the_same_objects_gives_the_same_boxes(tmp_path_factory, form, boxes):
    folder = tmp_path_factory.mktemp("form")
    path = WRITERS[form](folder, "a", boxes, SHAPE)
    notes = Notes(strict=True)
    for what in (path, folder):
        d = read_detections(what, images=IMAGES, notes=notes)["a.png"]
        np.testing.assert_allclose(d.boxes_xyxy, np.array(boxes, float), atol=1e-9)
        assert d.scored == (form not in UNSCORED)
        if d.masks is not None:
            assert [m.box_xyxy for m in d.masks] == boxes
            assert all(m.pixels.all() for m in d.masks)


@pytest.mark.parametrize("form", WRITERS)
def test_other_images_are_counted_and_the_wrong_file_is_an_error(tmp_path, form):
    if form != "label_studio":  # one file of one image
        WRITERS[form](tmp_path, "z", BOXES, SHAPE)
    path = WRITERS[form](tmp_path, "a", BOXES, SHAPE)
    notes = Notes()
    assert len(read_detections(tmp_path, images=IMAGES, notes=notes)["a.png"]) == 4
    assert form == "label_studio" or any("z" in line and "passed over" in line for line in notes.lines())
    with pytest.raises(DetectionsError, match="not among those given"):
        read_detections(path, images={"q.png": SHAPE, "a1.png": SHAPE})


@pytest.mark.parametrize(
    "form", [f for f in WRITERS if f.startswith(("label_p", "label_f", "label_r", "label_n"))]
)
def test_labels_of_another_size_are_refused_and_the_others_read(tmp_path, form):
    WRITERS[form](tmp_path, "a", BOXES, SHAPE)
    WRITERS[form](tmp_path, "b", BOXES, (70, 90))
    notes = Notes()
    assert list(read_detections(tmp_path, images=IMAGES, notes=notes)) == ["a.png"]
    assert "70 x 90, image 'b.png' is 60 x 80" in notes.refused["b.png"]
    with pytest.raises(DetectionsError, match=r"strictly.*b\.png"):
        read_detections(tmp_path, images=IMAGES, notes=Notes(strict=True))


# ---- one fault -------------------------------------------------------------------------------------------

BAD_BOXES = [
    ([5, 5, 0, 4], "1 of 5 boxes had no extent and was left out"),
    ([5, 5, 4, -1], "1 of 5 boxes had no extent and was left out"),
    ([90, 70, 5, 5], "1 of 5 boxes lay wholly outside and was left out"),
    ([-30, 5, 10, 4], "1 of 5 boxes lay wholly outside and was left out"),
    ([5, 5, float("nan"), 4], "1 of 5 objects had neither a bbox"),
    ([5, 5, 4], "1 of 5 objects had neither a bbox"),
    ("none", "1 of 5 objects had neither a bbox"),
    ([1e300, 5, 1e300, 4], "1 of 5 boxes lay wholly outside and was left out"),
]


@pytest.mark.parametrize(("bbox", "words"), BAD_BOXES)
@pytest.mark.parametrize("form", ["coco_results", "coco_polygons"])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_batch_with_one_bad_entry_is_the_batch_without_it_and_a_note(tmp_path, form, place, bbox, words):
    path = WRITERS[form](tmp_path, "a", BOXES, SHAPE)
    good = read_detections(path, images=IMAGES)
    document = json.loads(path.read_text())
    rows = document if isinstance(document, list) else document["annotations"]
    rows.insert(place, {**rows[0], "bbox": bbox, "segmentation": None})
    path.write_text(json.dumps(document))
    notes = Notes()
    found = read_detections(path, images=IMAGES, notes=notes)
    assert list(found) == list(good)
    for name in good:
        np.testing.assert_array_equal(found[name].boxes_xyxy, good[name].boxes_xyxy)
        assert found[name].scored == good[name].scored
        assert [m.box_xyxy for m in found[name].masks or ()] == [m.box_xyxy for m in good[name].masks or ()]
    (line,) = notes.lines()
    assert line.startswith(words)
    with pytest.raises(DetectionsError, match="cannot be used strictly.*" + words.removeprefix("1 of 5 ")):
        read_detections(path, images=IMAGES, notes=Notes(strict=True))


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0 0.2", "0 0.5 0.5 0.1 -0.1", "0 1.4 0.5 0.1 0.1", "0 0.5", "word", "0 nan 0.5 1 1"]
)
def test_a_bad_line_of_yolo_stops_nothing(tmp_path, line):
    path = yolo_boxes(tmp_path, "a", BOXES, SHAPE)
    good = read_detections(path, images=IMAGES)["a.png"]
    path.write_text(path.read_text() + line + "\n")
    notes = Notes()
    np.testing.assert_array_equal(
        read_detections(path, images=IMAGES, notes=notes)["a.png"].boxes_xyxy, good.boxes_xyxy
    )
    assert len(notes.lines()) == 1 and "left out" in notes.lines()[0]


def test_what_reaches_out_is_clipped_and_each_kind_told_once(tmp_path):
    rows = [
        {"image_id": "a", "bbox": [-5, 5, 20, 10], "score": 0.5},
        {"image_id": "a", "bbox": [70, 50, 13, 10], "score": 1.0000001},
        {"image_id": "a", "bbox": [70, 50, 10.5, 10], "score": -1e-9},  # detectors round to the pixel
        {"image_id": "b", "bbox": [10, -9, 10, 100], "score": 0.25},
    ]
    path = tmp_path / "r.json"
    path.write_text(json.dumps(rows))
    notes = Notes()
    found = read_detections(path, images=IMAGES, notes=notes)
    assert found["a.png"].boxes_xyxy.tolist() == [[0, 5, 15, 15], [70, 50, 80, 60], [70, 50, 80.5, 60]]
    assert found["a.png"].scores.tolist() == [0.5, 1, 0]
    assert found["b.png"].boxes_xyxy.tolist() == [[10, 0, 20, 60]]
    assert notes.lines() == [
        "3 of 4 boxes lay outside and were clipped: entry 0, entry 1, entry 3",
        "2 of 4 scores were a rounding outside [0, 1] and were mended: entry 1, entry 2",
    ]


def test_yolo_a_little_over_one_is_clipped(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.95 0.5 0.14 0.5\n0 0.9 0.1 1.02 0.1 1.02 0.3 0.9 0.3\n")
    notes = Notes()
    d = read_detections(tmp_path, images=IMAGES, notes=notes)["a.png"]
    assert d.boxes_xyxy[:, 2].tolist() == [80, 80]
    assert d.masks[1].box_xyxy[2] == 80
    assert len(notes.lines()) == 3


def test_objects_that_are_all_unusable_are_an_error_not_an_empty_answer(tmp_path):
    rows = [
        {"image_id": "a", "bbox": [500, 500, 9, 9], "score": 0.5},
        {"image_id": "a", "bbox": [5, 5, 9, 9], "score": 87},
    ]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    with pytest.raises(DetectionsError, match=r"wholly outside.*no score in \[0, 1\]"):
        read_detections(tmp_path / "r.json", images=IMAGES)
    (tmp_path / "a.txt").write_text("0 40 30 8 8\n0 20 10 8 8\n")
    with pytest.raises(DetectionsError, match="look like pixels"):
        read_detections(tmp_path / "a.txt", images=IMAGES)


points = st.lists(st.tuples(st.floats(-60, 140), st.floats(-60, 140)), min_size=3, max_size=8)


@settings(deadline=None, max_examples=100)
@given(points)
@example([(0.0, 6.0), (17.0, -1.0), (-2.0, 7.0)])
def test_clipping_never_enlarges(points):
    outline = np.array(points, np.float64)
    inner = clipped_polygon(outline, SHAPE)
    if len(inner):
        assert (inner >= np.maximum(outline.min(axis=0), -1) - 1e-9).all()
        assert (inner <= np.minimum(outline.max(axis=0), (SHAPE[1] + 1, SHAPE[0] + 1)) + 1e-9).all()
    # Moved into a larger image, so that filling does not clip it once more.
    clipped = mask_from_polygons([(inner + 60).ravel().tolist()], (200, 200)) if len(inner) else None
    if clipped is not None:
        y, x = np.nonzero(clipped.pixels)
        centres = np.stack([x + clipped.x, y + clipped.y], 1) + 0.5 - 60
        # Filling rounds corners to a fifth of a pixel.
        assert distance(centres, outline).max(initial=0) < 0.5


def distance(points, outline):
    """How far points lie outside an outline; 0 of those within it."""
    edges = np.roll(outline, -1, 0) - outline
    lengths = np.maximum((edges**2).sum(1), 1e-300)
    along = np.clip(((points[:, None] - outline) * edges).sum(2) / lengths, 0, 1)
    away = np.linalg.norm(points[:, None] - outline - along[..., None] * edges, axis=2).min(1)
    return np.where(Outline(outline).contains_points(points), 0.0, away)


def test_a_polygon_inside_is_left_as_it_is():
    inside = np.array([[-1.0, 3], [5, 61], [81, 2]])
    assert clipped_polygon(inside, SHAPE) is inside


# ---- masks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [(np.uint8, 255), (np.uint8, 1), (bool, True), (np.float32, 1), (np.uint16, 65535)]
)
@pytest.mark.parametrize("suffix", ["npy", "tif", "png"])
def test_a_binary_mask_is_split_into_its_objects(tmp_path, values, suffix):
    kind, white = values
    pixels = ((label_image(BOXES, SHAPE) > 0) * white).astype(kind)
    path = tmp_path / f"a_mask.{suffix}"
    if suffix == "npy":
        np.save(path, pixels)
    elif suffix == "tif":
        imwrite(path, pixels)
    elif kind is np.float32:
        return  # a PNG holds no floats
    else:
        Image.fromarray(pixels).save(path)
    notes = Notes(strict=True)
    d = read_detections(path, images=IMAGES, notes=notes)["a.png"]
    assert sorted(map(tuple, d.boxes_xyxy.astype(int).tolist())) == sorted(BOXES)
    assert notes.lines() == ["a binary mask was split into connected objects, corners included: 4 in all"]


def test_whether_masks_are_binary_is_decided_for_a_whole_folder(tmp_path):
    pieces = (label_image(BOXES, SHAPE) > 0).astype(np.uint8)  # one object in four pieces
    Image.fromarray(pieces).save(tmp_path / "a.png")
    Image.fromarray(label_image(BOXES, SHAPE, np.uint8)).save(tmp_path / "b.png")
    found = read_detections(tmp_path, images=IMAGES)
    assert {name: len(d) for name, d in found.items()} == {"a.png": 1, "b.png": 4}


def test_a_palette_is_not_looked_up(tmp_path):
    image = Image.fromarray(label_image(BOXES, SHAPE, np.uint8))
    image.putpalette([0, 0, 0, 200, 0, 0, 200, 0, 0, 0, 9, 0, 9, 9, 9])
    image.convert("P").save(tmp_path / "a.png")
    assert len(read_detections(tmp_path, images=IMAGES)["a.png"]) == 4


def test_an_image_is_never_its_own_labels(tmp_path):
    labels = label_image(BOXES, SHAPE)
    noise = np.random.default_rng(0).integers(0, 60_000, SHAPE).astype(np.uint16)
    Image.fromarray(noise).save(tmp_path / "a.png")
    images = {str(tmp_path / "a.png"): SHAPE}
    with pytest.raises(DetectionsError, match="only the images themselves"):
        read_detections(tmp_path, images=images)
    with pytest.raises(DetectionsError, match="only the images themselves"):
        read_detections(tmp_path / "a.png", images=images)
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "a.png", tmp_path / "copy")
    with pytest.raises(DetectionsError, match="is an image, not labels"):
        read_detections(tmp_path / "copy", images=images)
    for name in ("a_cp_masks.png", "a_masks.tif"):  # either is for the image, the first is taken
        (imwrite if name.endswith("tif") else lambda p, x: Image.fromarray(x).save(p))(
            tmp_path / name, labels
        )
        for known in (images, {"a.png": SHAPE}):
            (d,) = read_detections(tmp_path, images=known).values()
            assert len(d) == 4
    np.save(tmp_path / "a_seg.npy", np.array({}, dtype=object), allow_pickle=True)
    assert len(read_detections(tmp_path, images=images)) == 1
    with pytest.raises(DetectionsError, match=r"_seg\.npy is a pickle.*_cp_masks"):
        read_detections(tmp_path / "a_seg.npy", images=images)


def test_a_stack_is_no_label_image(tmp_path):
    imwrite(tmp_path / "a.tif", np.stack([label_image(BOXES, SHAPE)] * 3), photometric="minisblack")
    with pytest.raises(DetectionsError, match="holds 3 images; save each label image by itself"):
        read_detections(tmp_path / "a.tif", images=IMAGES)


# ---- YOLO ------------------------------------------------------------------------------------------------

TRIANGLE = [(1, 2), (41, 2), (21, 32)]


def lines(*rows):
    return "".join(" ".join(map(str, row)) + "\n" for row in rows)


def flat(points, *more):
    return [0, *(v / side for p in points for v, side in zip(p, SHAPE[::-1], strict=True)), *more]


def test_seven_numbers_are_an_outline_or_a_tracked_box_as_the_folder_tells(tmp_path):
    box = [0, 0.5, 0.5, 0.25, 0.5]
    (tmp_path / "a.txt").write_text(lines(flat(TRIANGLE), flat(corners(BOXES[0]))))
    d = read_detections(tmp_path, images=IMAGES)["a.png"]
    assert d.boxes_xyxy[0].tolist() == pytest.approx([1, 2, 41, 32])
    assert not d.scored
    (tmp_path / "a.txt").write_text(lines([*box, 0.9, 1], [*box, 0.8, 2]))
    (tmp_path / "b.txt").write_text(lines([*box, 0.7, 1]))
    notes = Notes()
    found = read_detections(tmp_path, images=IMAGES, notes=notes)
    assert [d.scores.tolist() for d in found.values()] == [[0.9, 0.8], [0.7]]
    assert found["b.png"].masks is None and found["b.png"].scored
    assert "track id" in notes.lines()[0]
    (tmp_path / "a.txt").write_text(lines([*box, 12], [*box, 3]))  # a track id without a confidence
    (tmp_path / "b.txt").write_text(lines([*box, 1]))
    found = read_detections(tmp_path, images=IMAGES)
    assert found["b.png"].scores.tolist() == [1] and not found["b.png"].scored
    # Tracked outlines, one object lost its outline and is a box.
    (tmp_path / "a.txt").write_text(lines(flat(TRIANGLE, 0.6, 4), flat(corners(BOXES[0]), 0.5, 2)))
    (tmp_path / "b.txt").write_text(lines([*box, 0.25, 3]))
    found = read_detections(tmp_path, images=IMAGES)
    assert [d.scores.tolist() for d in found.values()] == [[0.6, 0.5], [0.25]]
    assert (found["a.png"].masks is None, found["b.png"].masks is None) == (False, True)


def test_classes_are_named_by_their_file_or_number(tmp_path):
    (tmp_path / "a.txt").write_text(lines([1, 0.5, 0.5, 0.25, 0.5], [0, 0.5, 0.5, 0.25, 0.5]))
    assert read_detections(tmp_path, images=IMAGES)["a.png"].categories == ("1", "0")
    (tmp_path / "classes.txt").write_text("loop\nvoid\n")
    assert read_detections(tmp_path, images=IMAGES)["a.png"].categories == ("void", "loop")


def test_other_texts_do_not_make_a_folder_yolo(tmp_path):
    WRITERS["label_png"](tmp_path, "a", BOXES, SHAPE)
    (tmp_path / "readme.txt").write_text("read me")
    (tmp_path / "a_cp_outlines.txt").write_text("1,2,3,4\n")
    (tmp_path / "log.txt").write_text("")
    assert read_detections(tmp_path, images=IMAGES)["a.png"].masks is not None


# ---- others' JSON and regions ----------------------------------------------------------------------------


def test_a_folder_of_a_run_is_looked_into(tmp_path):
    (tmp_path / "labels").mkdir()
    yolo_outlines(tmp_path / "labels", "a", BOXES, SHAPE)
    assert len(read_detections(tmp_path, images=IMAGES)["a.png"]) == 4


def test_json_files_of_a_folder_are_read_each_by_what_it_holds(tmp_path):
    WRITERS["ultralytics"](tmp_path, "a", BOXES, SHAPE)
    WRITERS["qupath"](tmp_path, "b", BOXES[:2], SHAPE)
    (tmp_path / "settings.json").write_text('{"exposure": 3}')
    notes = Notes()
    found = read_detections(tmp_path, images=IMAGES, notes=notes)
    assert {name: len(d) for name, d in found.items()} == {"a.png": 4, "b.png": 2}
    assert "1 of 3 files were passed over" in notes.lines()[-1]


def test_results_without_a_list_of_images_say_that_one_is_wanted(tmp_path):
    rows = [{"image_id": 900 + i, "bbox": [1, 1, 5, 5], "score": 0.5} for i in range(2)]
    (tmp_path / "coco_instances_results.json").write_text(json.dumps(rows))
    with pytest.raises(
        DetectionsError, match=r"by number: give the COCO file that lists them \(--image-list\)"
    ):
        read_detections(tmp_path, images=IMAGES)
    listed = [
        {"id": 900 + i, "file_name": n, "height": 60, "width": 80} for i, n in enumerate((*IMAGES, "z.png"))
    ]
    (tmp_path / "list.json").write_text(json.dumps({"images": listed}))
    notes = Notes()
    found = read_detections(tmp_path, images=IMAGES, image_list=tmp_path / "list.json", notes=notes)
    assert [len(d) for d in found.values()] == [1, 1]


def test_an_image_list_names_the_classes_too(tmp_path):
    row = {"image_id": 5, "category_id": 2, "bbox": [1, 1, 5, 5], "score": 0.5}
    (tmp_path / "r.json").write_text(json.dumps([row, {**row, "category_id": 9}]))
    listed = {"images": [{"id": 5, "file_name": "a.png"}], "categories": [{"id": 2, "name": "void"}]}
    (tmp_path / "list.json").write_text(json.dumps(listed))
    found = read_detections(tmp_path / "r.json", images=IMAGES, image_list=tmp_path / "list.json")
    assert found["a.png"].categories == ("void", "9")


def test_images_are_found_by_any_case_and_below_ome(tmp_path):
    row = {"bbox": [1, 1, 5, 5], "score": 0.5}
    (tmp_path / "r.json").write_text(json.dumps([{"image_id": "A.PNG", **row}, {"image_id": "b", **row}]))
    found = read_detections(tmp_path / "r.json", images={"a.png": SHAPE, "b.ome.tif": SHAPE})
    assert [len(d) for d in found.values()] == [1, 1]
    WRITERS["label_png"](tmp_path, "b", BOXES, SHAPE)
    assert len(read_detections(tmp_path / "b_cp_masks.png", images={"b.ome.tif": SHAPE})["b.ome.tif"]) == 4


def test_where_some_have_scores_and_some_none_all_are_without(tmp_path):
    (tmp_path / "a.txt").write_text(
        "# made by hand\n" + lines([0, 0.5, 0.5, 0.2, 0.2], [0, 0.2, 0.2, 0.1, 0.1, 0.5])
    )
    notes = Notes()
    assert not read_detections(tmp_path, images=IMAGES, notes=notes)["a.png"].scored
    assert notes.lines() == ["some objects have a score and others none: all are taken as without scores"]


def test_whole_numbers_that_come_twice_in_an_image_are_no_track_ids(tmp_path):
    (tmp_path / "a.txt").write_text(lines([0, 0.5, 0.5, 0.2, 0.2, 87], [0, 0.2, 0.2, 0.1, 0.1, 87]))
    with pytest.raises(DetectionsError, match=r"no score in \[0, 1\]"):
        read_detections(tmp_path, images=IMAGES)


def test_one_object_that_cannot_be_read_is_an_error_and_one_that_is_empty_is_not(tmp_path):
    def read(bbox):
        (tmp_path / "r.json").write_text(json.dumps([{"image_id": "a", "bbox": bbox, "score": 0.5}]))
        return read_detections(tmp_path / "r.json", images=IMAGES)

    assert len(read([5, 5, 0, 4])["a.png"]) == 0
    with pytest.raises(DetectionsError, match="neither a bbox of four finite numbers"):
        read(["5", "5", "4", "4"])
    (tmp_path / "a.txt").write_text("hello world")
    with pytest.raises(DetectionsError, match="text without numbers, no labels"):
        read_detections(tmp_path / "a.txt", images=IMAGES)
    (tmp_path / "b.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    notes = Notes()
    assert list(read_detections(tmp_path, images=IMAGES, notes=notes)) == ["b.png"]
    assert "a.png" in notes.refused


def test_holes_of_qupath_and_of_imagej_stay_open(tmp_path):
    outer, inner = corners((10, 10, 30, 30)), corners((15, 15, 25, 25))
    geometry = {"type": "Polygon", "coordinates": [outer, inner]}
    (tmp_path / "a.geojson").write_text(
        json.dumps([{"type": "Feature", "geometry": geometry, "properties": None}])
    )
    roi = ImagejRoi.frompoints(np.array(outer, np.float32))
    path = [v for ring in (outer, inner) for i, (x, y) in enumerate(ring) for v in (0 if i == 0 else 1, x, y)]
    roi.roitype, roi.n_coordinates = ROI_TYPE.RECT, 0
    roi.subpixel_coordinates = roi.integer_coordinates = None
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    (tmp_path / "b.roi").write_bytes(roi.tobytes())
    for file, name in (("a.geojson", "a.png"), ("b.roi", "b.png")):
        (mask,) = read_detections(tmp_path / file, images=IMAGES)[name].masks
        assert mask.pixels.sum() == 300
        assert not mask.pixels[10, 10]


def test_a_region_set_without_a_name_is_for_the_one_image(tmp_path):
    with zipfile.ZipFile(tmp_path / "RoiSet.zip", "w") as archive:
        for i, box in enumerate(BOXES):
            archive.writestr(f"{i}.roi", roi_bytes(box, i))
        archive.writestr("x.roi", ImagejRoi.frompoints([[1, 1]]).tobytes())
    point = ImagejRoi.frompoints(np.array([[1, 1], [2, 2], [3, 1]], np.float32))
    point.roitype = ROI_TYPE.POINT
    (tmp_path / "a.roi").write_bytes(point.tobytes())
    notes = Notes()
    assert len(read_detections(tmp_path / "RoiSet.zip", images={"q.png": SHAPE}, notes=notes)["q.png"]) == 4
    assert "1 of 5 regions had no area" in notes.lines()[0]
    with pytest.raises(DetectionsError, match="RoiSet"):
        read_detections(tmp_path / "RoiSet.zip", images=IMAGES)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"shapes": [], "imagePath": "a.png"}, "LabelMe writes: convert it to COCO"),
        ({"_via_img_metadata": {}}, "VIA writes: export its annotations as COCO"),
    ],
)
def test_what_is_not_read_says_what_to_give(tmp_path, document, words):
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(DetectionsError, match=words):
        read_detections(tmp_path / "x.json", images=IMAGES)
    for suffix, instead in (
        (".xml", "export it as COCO"),
        (".h5", "as TIFF"),
        (".qpdata", "GeoJSON"),
        (".jpg", "JPEG changes"),
    ):
        (tmp_path / f"x{suffix}").write_text("")
        with pytest.raises(DetectionsError, match=instead):
            read_detections(tmp_path / f"x{suffix}", images=IMAGES)


def test_label_studios_predictions_have_scores_and_cancelled_answers_do_not_count(tmp_path):
    value = {"x": 10, "y": 10, "width": 10, "height": 20, "rotation": 90, "rectanglelabels": ["void"]}
    result = [{"type": "rectanglelabels", "value": value, "score": 0.25}]
    task = {"data": {"image": "s3://x/a.png"}, "annotations": [{"was_cancelled": True, "result": []}]}
    (tmp_path / "x.json").write_text(json.dumps([{**task, "predictions": [{"result": result}]}]))
    d = read_detections(tmp_path / "x.json", images=IMAGES)["a.png"]
    assert (d.scored, d.scores.tolist(), d.categories) == (True, [0.25], ("void",))
    # Turned by 90 degrees about its upper left corner (8, 6), 8 x 12 pixels reach from x = -4 to 8.
    np.testing.assert_allclose(d.boxes_xyxy, [[0, 6, 8, 14]], atol=1e-9)


# ---- crowds and classes ----------------------------------------------------------------------------------


def test_a_detection_in_a_crowd_is_neither_right_nor_wrong():
    boxes = np.array([[0.0, 0, 10, 10], [40, 40, 50, 50], [20, 0, 30, 10]])
    found = Detections(image_shape=SHAPE, boxes_xyxy=boxes, scores=np.ones(3))
    truth = Detections(image_shape=SHAPE, boxes_xyxy=boxes[:1], scores=np.ones(1))
    crowd = InstanceMask(y=35, x=35, pixels=np.ones((20, 20), bool))
    assert measured_scores(truth, found).precision == pytest.approx(1 / 3)
    with_crowd = Detections(image_shape=SHAPE, boxes_xyxy=boxes[:1], scores=np.ones(1), crowds=(crowd,))
    scores = measured_scores(with_crowd, found)
    assert (scores.precision, scores.recall) == (0.5, 1)
    # A crowd takes nothing from an object that is found.
    over = InstanceMask(y=0, x=0, pixels=np.ones(SHAPE, bool))
    everything = Detections(image_shape=SHAPE, boxes_xyxy=boxes[:1], scores=np.ones(1), crowds=(over,))
    assert measured_scores(everything, found).f1 == 1


def test_classes_are_scored_each_and_together():
    boxes = np.array([[0.0, 0, 10, 10], [40, 40, 50, 50]])
    truth = Detections(image_shape=SHAPE, boxes_xyxy=boxes, scores=np.ones(2), categories=("a", "b"))
    found = Detections(image_shape=SHAPE, boxes_xyxy=boxes, scores=np.ones(2), categories=("b", "b"))
    assert measured_scores(truth, found).f1 == 1
    assert {n: s.f1 for n, s in scores_by_class(truth, found).items()} == {"a": 0, "b": pytest.approx(2 / 3)}


@pytest.mark.slow
def test_a_hundred_thousand_boxes_are_read(tmp_path):
    row = {"image_id": "a", "bbox": [3, 4, 10, 12], "score": 0.5}
    (tmp_path / "r.json").write_text(json.dumps([row] * 100_000))
    assert len(read_detections(tmp_path / "r.json", images=IMAGES)["a.png"]) == 100_000
