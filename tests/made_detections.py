"""The same objects, rectangles of whole pixels, in every form that others write."""

import io
import json
import zipfile

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from roifile import ROI_TYPE, ImagejRoi
from tifffile import imwrite


def label_image(boxes, shape, dtype=np.uint16):
    """Boxes (n, 4) as numbers from 1."""
    labels = np.zeros(shape, dtype)
    for i, (x0, y0, x1, y1) in enumerate(boxes, 1):
        labels[y0:y1, x0:x1] = i
    return labels


def corners(box):
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def _rle(box, shape):
    pixels = np.asfortranarray(label_image([box], shape, np.uint8))
    return {"size": list(shape), "counts": coco_mask.encode(pixels)["counts"].decode()}


def _coco(boxes, shape, name, **more):
    rows = [
        {"id": i, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for i, (x0, y0, x1, y1) in enumerate(boxes)
    ]
    image = {"id": 1, "file_name": name, "height": shape[0], "width": shape[1]}
    return {"images": [image], "annotations": rows, "categories": [{"id": 1, "name": "void"}], **more}


def coco_polygons(folder, stem, boxes, shape):
    document = _coco(boxes, shape, f"{stem}.png")
    for row, box in zip(document["annotations"], boxes, strict=True):
        row["segmentation"] = [[v for p in corners(box) for v in p]]
    return _saved(folder / f"{stem}.json", document)


def coco_run_lengths(folder, stem, boxes, shape):
    document = _coco(boxes, shape, f"{stem}.png")
    for row, box in zip(document["annotations"], boxes, strict=True):
        row["segmentation"] = _rle(box, shape)
        del row["bbox"]
    return _saved(folder / f"{stem}.json", document)


def coco_results(folder, stem, boxes, shape):
    rows = _coco(boxes, shape, "")["annotations"]
    for i, row in enumerate(rows):
        row.update(image_id=stem, score=0.9 - i / 100)
    return _saved(folder / f"{stem}.json", rows)


def yolo_boxes(folder, stem, boxes, shape):
    return _yolo(
        folder, stem, [[(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0] for x0, y0, x1, y1 in boxes], shape
    )


def yolo_outlines(folder, stem, boxes, shape):
    return _yolo(folder, stem, [[v for p in corners(b) for v in p] for b in boxes], shape)


def yolo_tracked(folder, stem, boxes, shape):
    path = yolo_boxes(folder, stem, boxes, shape)
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line} 0.75 {i}\n" for i, line in enumerate(lines, 1)))
    return path


def yolo_outlines_tracked(folder, stem, boxes, shape):
    path = yolo_outlines(folder, stem, boxes, shape)
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line} 0.75 {i + 1}\n" for i, line in enumerate(lines, 1)))
    return path


def _yolo(folder, stem, rows, shape):
    height, width = shape
    lines = [[v / (width, height)[i % 2] for i, v in enumerate(row)] for row in rows]
    path = folder / f"{stem}.txt"
    path.write_text("".join(f"0 {' '.join(map(repr, map(float, line)))}\n" for line in lines))
    return path


def ultralytics(folder, stem, boxes, shape):
    rows = [
        {
            "name": "void",
            "class": 0,
            "confidence": 0.5,
            "box": {"x1": x0, "y1": y0, "x2": x1, "y2": y1},
            "segments": {"x": [p[0] for p in corners(b)], "y": [p[1] for p in corners(b)]},
        }
        for b in boxes
        for x0, y0, x1, y1 in [b]
    ]
    return _saved(folder / f"{stem}.json", rows)


def label_png(folder, stem, boxes, shape):
    path = folder / f"{stem}_cp_masks.png"
    Image.fromarray(label_image(boxes, shape)).save(path)
    return path


def label_float_tiff(folder, stem, boxes, shape):
    path = folder / f"{stem}_masks.tif"
    imwrite(path, label_image(boxes, shape, np.float32)[None])
    return path


def label_rgb_png(folder, stem, boxes, shape):
    labels = label_image(boxes, shape).astype(np.int64) * 1000 + (label_image(boxes, shape) > 0) * 7
    path = folder / f"{stem}.png"
    Image.fromarray(np.stack([labels % 256, labels // 256, labels * 0], axis=-1).astype(np.uint8)).save(path)
    return path


def label_npy(folder, stem, boxes, shape):
    path = folder / f"{stem}.npy"
    np.save(path, label_image(boxes, shape, np.uint64)[..., None] * np.uint64(2**40))
    return path


def imagej_zip(folder, stem, boxes, shape):
    path = folder / f"{stem}_RoiSet.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i, box in enumerate(boxes):
            archive.writestr(f"{i:04d}.roi", roi_bytes(box, i))
    return path


def roi_bytes(box, i=0):
    """A region as a polygon or, every second, a rectangle."""
    if i % 2 == 0:
        return ImagejRoi.frompoints(np.array(corners(box), np.float32)).tobytes()
    x0, y0, x1, y1 = box
    roi = ImagejRoi.frompoints(np.array(corners(box), np.int32))
    roi.roitype, roi.n_coordinates, roi.integer_coordinates = ROI_TYPE.RECT, 0, None
    roi.left, roi.top, roi.right, roi.bottom = x0, y0, x1, y1
    return roi.tobytes()


def qupath(folder, stem, boxes, shape):
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*corners(b), corners(b)[0]]]},
            "properties": {"objectType": "annotation", "classification": {"name": "void"}},
        }
        for b in boxes
    ]
    return _saved(folder / f"{stem}.geojson", {"type": "FeatureCollection", "features": features})


def label_studio(folder, stem, boxes, shape):
    height, width = shape
    results = []
    for i, box in enumerate(boxes):
        x0, y0, x1, y1 = box
        if i % 3 == 0:
            kind = "rectanglelabels"
            value = {
                "x": 100 * x0 / width,
                "y": 100 * y0 / height,
                "width": 100 * (x1 - x0) / width,
                "height": 100 * (y1 - y0) / height,
                "rotation": 0,
            }
        elif i % 3 == 1:
            kind = "polygonlabels"
            value = {"points": [[100 * x / width, 100 * y / height] for x, y in corners(box)]}
        else:
            kind = "brushlabels"
            value = {"format": "rle", "rle": brush(label_image([box], shape) > 0)}
        results.append({"type": kind, "value": {**value, kind: ["void"]}})
    task = {"data": {"image": f"/data/upload/1/0a1b2c3d-{stem}.png"}, "annotations": [{"result": results}]}
    return _saved(folder / f"{stem}.json", [task])


def brush(mask):
    """Pixels as Label Studio's run lengths: runs of equal values up to 2^16 of RGBA, its bits as bytes."""
    values = np.repeat(mask.ravel().astype(int) * 255, 4)
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{s - 1:04b}" for s in (3, 4, 8, 16))
    at = 0
    while at < len(values):
        other = np.flatnonzero(values[at:] != values[at])
        run = min(int(other[0]) if other.size else len(values) - at, 2**16)
        bits += "1" + "11" + f"{run - 1:016b}" + f"{values[at]:08b}"
        at += run
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def _saved(path, document):
    path.write_text(json.dumps(document))
    return path


def zip_of(entries):
    """Bytes of an archive of names and bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out.getvalue()


WRITERS = {
    writer.__name__: writer
    for writer in (
        coco_polygons,
        coco_run_lengths,
        coco_results,
        yolo_boxes,
        yolo_outlines,
        yolo_tracked,
        yolo_outlines_tracked,
        ultralytics,
        label_png,
        label_float_tiff,
        label_rgb_png,
        label_npy,
        imagej_zip,
        qupath,
        label_studio,
    )
}
"""Each writes one image's objects into a folder, and gives the file."""
