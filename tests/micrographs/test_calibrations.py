"""Pixel sizes in every way that programs write them are read, or said to be none; never another's."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from passband.errors import ReadError
from passband.micrographs.readers import read_micrograph

PIXELS = (np.arange(240, dtype=np.uint16).reshape(12, 20) * 100).astype(np.uint16)


def imagej(path, unit, per_unit=2.0):
    tifffile.imwrite(
        path, PIXELS, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit, "axes": "YX"}
    )
    return path


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("nm", 5.0), ("micron", 5000.0), ("um", 5000.0), ("\\u00B5m", 5000.0), ("\\u00b5m", 5000.0),
        ("\\u00C5", 0.5), ("\\u00c5", 0.5), ("\\u212B", 0.5), ("angstrom", 0.5), ("pm", 0.005),
        ("nanometers", 5.0),
        ("pixel", None), ("", None), ("furlong", None),
    ],
)  # fmt: skip
def test_imagejs_units(tmp_path, unit, size):
    m = read_micrograph(imagej(tmp_path / "a.tif", unit))
    assert m.pixel_size == (None if size is None else pytest.approx(size))


@pytest.mark.parametrize("unit", ["1/nm", "nm^-1", "1/\\u00C5", "mrad"])
def test_a_diffraction_pattern_of_imagej_is_none_of_a_specimen(tmp_path, unit):
    path = imagej(tmp_path / "a.tif", unit)
    with pytest.raises(ReadError, match="diffraction pattern"):
        read_micrograph(path)
    m = read_micrograph(path, permissive=True)
    assert m.pixel_size is None and "diffraction" in m.notes[0]


def test_a_damaged_calibration_is_left_out_and_said(tmp_path):
    """An image without one says nothing; one that cannot be understood does."""
    path = imagej(tmp_path / "a.tif", "nm")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[0].tags["XResolution"]
    data[tag.valueoffset : tag.valueoffset + 8] = bytes(8)  # 0 / 0
    (tmp_path / "b.tif").write_bytes(data)
    m = read_micrograph(tmp_path / "b.tif")
    assert m.pixel_size is None and m.notes == (
        "its calibration by ImageJ could not be understood and was left out",
    )
    tifffile.imwrite(tmp_path / "c.tif", PIXELS, imagej=True)
    assert read_micrograph(tmp_path / "c.tif").notes == ()
    m = read_micrograph(
        ome(tmp_path / "d.ome.tif", '<OME><Pixels PhysicalSizeY="0x" PhysicalSizeX="1"/></OME>')
    )
    assert m.pixel_size is None and "OME-XML could not be understood" in m.notes[0]


def test_damaged_velox_metadata_are_left_out_and_said(tmp_path, image_files):
    import h5py

    path = tmp_path / "a.emd"
    path.write_bytes(image_files["velox.emd"])
    with h5py.File(path, "r+") as f:
        f["Data/Image/0123456789abcdef/Metadata"][:5] = ord("x")
    m = read_micrograph(path, frame=0)
    assert m.pixel_size is None and "Velox metadata" in m.notes[0]


def test_a_damaged_name_in_velox_metadata_does_not_speak_against_the_calibration(tmp_path, image_files):
    import h5py

    path = tmp_path / "a.emd"
    path.write_bytes(image_files["velox.emd"])
    with h5py.File(path, "r+") as f:
        words = f["Data/Image/0123456789abcdef/Metadata"]
        text = (
            words[:, 0]
            .tobytes()
            .replace(b'{"InstrumentModel": "Titan", "InstrumentId": "3492"}', b"7" + b" " * 51)
        )
        words[:] = np.stack(2 * [np.frombuffer(text, np.uint8)], -1)
    m = read_micrograph(path, frame=0)
    assert m.pixel_size and m.instrument == "" and not any("left out" in note for note in m.notes)


def ome(path, xml, pages=1):
    with tifffile.TiffWriter(path) as tif:
        for i in range(pages):
            tif.write(
                PIXELS + i, description=xml.encode() if i == 0 else None, metadata=None, contiguous=False
            )
    return path


def image(size, unit="nm", *, prefix="", quote='"', planes=1, ifd=None):
    q, p = quote, prefix
    data = "" if ifd is None else f"<{p}TiffData IFD={q}{ifd}{q} PlaneCount={q}{planes}{q}/>"
    return (
        f"<{p}Image ID={q}Image:0{q}><{p}Pixels SizeX={q}20{q} SizeY={q}12{q} SizeZ={q}1{q} SizeC={q}1{q} "
        f"SizeT={q}{planes}{q} PhysicalSizeX={q}{size}{q} PhysicalSizeXUnit={q}{unit}{q} "
        f"PhysicalSizeY={q}{size}{q} PhysicalSizeYUnit={q}{unit}{q} Type={q}uint16{q}>{data}</{p}Pixels>"
        f"</{p}Image>"
    )


def document(*images, prefix="", head='<?xml version="1.0"?>'):
    return f"{head}<{prefix}OME>{''.join(images)}</{prefix}OME>"


@pytest.mark.parametrize("unit", ["µm", "&#181;m", "&#xB5;m", "um", "&#x3bc;m"])
@pytest.mark.parametrize("prefix", ["", "ome:", "OME:"])
@pytest.mark.parametrize("quote", ['"', "'"])
def test_omes_entities_prefixes_and_quotes(tmp_path, unit, prefix, quote):
    xml = document(image(0.0005, unit, prefix=prefix, quote=quote), prefix=prefix)
    text = xml.encode("utf-8")
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(PIXELS, description=text, metadata=None)
    assert read_micrograph(tmp_path / "a.ome.tif").pixel_size == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("unit", "size"), [("&#197;", 0.5), ("Å", 0.5), ("&#xC5;", 0.5), ("pm", 0.005), ("mm", 5e6)]
)
def test_omes_units(tmp_path, unit, size):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(PIXELS, description=document(image(0.5, unit)).encode(), metadata=None)
    assert read_micrograph(tmp_path / "a.ome.tif").pixel_size == pytest.approx(size)


def test_without_a_unit_omes_is_the_micrometre(tmp_path):
    xml = (
        document(image(0.0005)).replace(' PhysicalSizeXUnit="nm"', "").replace(' PhysicalSizeYUnit="nm"', "")
    )
    assert read_micrograph(ome(tmp_path / "a.tif", xml)).pixel_size == pytest.approx(5.0)


@pytest.mark.parametrize("told", [True, False])
def test_each_image_of_an_ome_file_has_its_own_pixel_size(tmp_path, told):
    images = [
        image(0.5, ifd=0 if told else None),
        image(0.2, "Å", ifd=1 if told else None, planes=2),
        image(3.0),
    ]
    if told:
        images[2] = image(3.0, ifd=3)
    path = ome(tmp_path / "a.ome.tif", document(*images), pages=4)
    sizes = [read_micrograph(path, frame=i).pixel_size for i in range(4)]
    assert sizes == pytest.approx([5.0, 0.2, 0.2, 30.0])


def test_images_of_an_ome_file_in_another_order(tmp_path):
    path = ome(tmp_path / "a.ome.tif", document(image(0.5, ifd=1), image(2.0, ifd=0)), pages=2)
    assert [read_micrograph(path, frame=i).pixel_size for i in range(2)] == pytest.approx([20.0, 5.0])


def test_pixels_that_are_not_square_are_left_open(tmp_path):
    xml = document(image(0.5)).replace('PhysicalSizeY="0.5"', 'PhysicalSizeY="0.7"')
    m = read_micrograph(ome(tmp_path / "a.tif", xml))
    assert m.pixel_size is None and "not square" in m.notes[0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_zero_as_white_is_inverted_whatever_the_type(tmp_path, dtype):
    values = np.linspace(0, 100, 240).reshape(12, 20).astype(dtype)
    for name in ("minisblack", "miniswhite"):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric=name)
    black, white = (read_micrograph(tmp_path / f"{n}.tif") for n in ("minisblack", "miniswhite"))
    assert white.pixels - white.pixels.mean() == pytest.approx(black.pixels.mean() - black.pixels, abs=1e-2)
    assert any("zero as white" in note for note in white.notes)


def test_extremes_of_signed_pixels_do_not_overflow(tmp_path):
    values = np.array([[-32768, 0, 32767]] * 3, np.int16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    assert read_micrograph(tmp_path / "a.tif").pixels[0].tolist() == [32767, -1, -32768]


def emi(mode):
    cells = {"High tension": ("200", "kV"), "Mode": (mode, "")}
    return "".join(f"<Label>{k}</Label><Value>{v}</Value><Unit>{u}</Unit>" for k, (v, u) in cells.items())


@pytest.mark.parametrize(
    "mode", ["STEM nP SA Zoom Diffraction", "TEM uP SA Zoom Image", "STEM uP Diffraction"]
)
def test_a_stem_image_of_tia_is_an_image_though_its_mode_says_diffraction(image_files, tmp_path, mode):
    path = tmp_path / "a_1.ser"
    path.write_bytes(image_files["grey.ser"])
    path.with_name("a.emi").write_text(emi(mode))
    m = read_micrograph(path)
    assert m.pixel_size == pytest.approx(2.5) and m.energy == 200e3


def test_a_diffraction_pattern_of_tia_is_refused(image_files, tmp_path):
    path = tmp_path / "a_1.ser"
    path.write_bytes(image_files["grey.ser"])
    path.with_name("a.emi").write_text(emi("TEM uP Diffraction"))
    with pytest.raises(ReadError, match="diffraction pattern"):
        read_micrograph(path)
