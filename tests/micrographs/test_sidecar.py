"""Tables of pixel sizes: forms, look-up, and all faults at once."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passband.errors import PassbandError, ReadError
from passband.micrographs.sidecar import read_sidecar, sidecar_pixel_size

# The form of the published table of cavity micrographs, byte-order mark and placeholders included.
PUBLISHED = (
    "\ufeffImage,Conversion (nm/pixel),Image (clean name),Length (pixels),Width (pixels)\r\n"
    "01.jpg,0.38,01.jpg,512,512\r\n"
    "1 200K -1um.png,0.056,1_200K_-1um.png,2048,2048\r\n"
    "???,0.237,1_93K.png,,\r\n"
    '"T-X=0.2, 503.9nm.png",0.16,"T-X=0.2,_503.9nm.png",2672,4008'
)


@pytest.fixture
def table(tmp_path):
    def put(text, encoding="utf-8"):
        path = tmp_path / "sizes.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return put


def test_the_published_form(table):
    sizes = read_sidecar(table(PUBLISHED))
    assert sizes["01.jpg"] == pytest.approx(3.8)
    assert sizes["1 200K -1um.png"] == sizes["1_200K_-1um.png"] == pytest.approx(0.56)
    assert sizes["1_93K.png"] == pytest.approx(2.37)
    assert sizes["T-X=0.2, 503.9nm.png"] == pytest.approx(1.6)
    assert "???" not in sizes


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("name,pixel_size_nm\na.tif,0.5\n", 5),
        ("file,nm_per_pixel\na.tif,0.5\n", 5),
        ("Image;Pixel size (nm)\na.tif;0,5\n", 5),
        ("filename\tpixel_size_angstrom\na.tif\t0.5\n", 0.5),
        ("image,Pixel size (Å)\nsome/folder/a.tif,0.5\n", 0.5),
        ("micrograph,other,pixel_size_pm\na.tif,x,50\n", 0.5),
    ],
)
def test_simple_forms(table, text, wanted):
    assert read_sidecar(table(text)) == {"a.tif": pytest.approx(wanted)}


def test_other_encodings(table):
    assert read_sidecar(table("image,pixel_size_nm\nMüller.tif,1\n", "latin-1")) == {"Müller.tif": 10}


@pytest.mark.parametrize("name", ["1 200K -1um.png", "1_200K_-1um.png", "x/1_200k__-1UM.PNG"])
def test_images_are_found_whatever_the_clean_name(table, name):
    assert sidecar_pixel_size(read_sidecar(table(PUBLISHED)), name) == pytest.approx(0.56)


def test_an_image_that_is_not_there(table):
    assert sidecar_pixel_size(read_sidecar(table(PUBLISHED)), "2.png") is None


def test_names_alike_with_different_sizes(table):
    sizes = read_sidecar(table("image,pixel_size_nm\na b.png,1\nA_b.png,2\n"))
    assert sidecar_pixel_size(sizes, "a b.png") == 10
    with pytest.raises(ReadError, match="2 pixel sizes"):
        sidecar_pixel_size(sizes, "a_b.png")


def test_all_faults_at_once(table):
    path = table("image,pixel_size_nm\na.png,zero\n???,1\nb.png,-2\nc.png\nd.png,1\nd.png,2\n")
    with pytest.raises(ReadError) as caught:
        read_sidecar(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "5 faults" in message
    for words in ("row 2 has 'zero'", "row 3 names no image", "row 4 has '-2'", "row 5 has nothing", "row 7"):
        assert words in message


def test_missing_columns_are_named_together(table):
    with pytest.raises(ReadError, match=r"no column names the images.*0 columns give the pixel size"):
        read_sidecar(table("picture,pixel_size\na.png,1\n"))


@pytest.mark.parametrize("text", ["", "image,pixel_size_nm\n", "\0\0\0"])
def test_nothing_in_it(table, text):
    with pytest.raises(ReadError):
        read_sidecar(table(text))


def test_no_such_table(tmp_path):
    with pytest.raises(ReadError, match="cannot be read"):
        read_sidecar(tmp_path / "no.csv")


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(tmp_path_factory, data, with_heading):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes((b"image,pixel_size_nm\n" if with_heading else b"") + data)
    try:
        assert all(size > 0 for size in read_sidecar(path).values())
    except PassbandError as e:
        assert isinstance(e, ReadError)


def test_the_published_table_itself():
    root = Path(os.environ.get("PASSBAND_DATA") or Path(__file__).parents[3] / "shared" / "data")
    path = root / "cavities" / "image_nm_pixel_conversions.csv"
    if not path.is_file():
        pytest.skip(f"no published table: {path} is not there; set PASSBAND_DATA to run this")
    sizes = read_sidecar(path)
    assert sizes["07.jpg"] == pytest.approx(3.8)
    named = [p.name for p in (path.parent / "images").iterdir()]
    found = [name for name in named if sidecar_pixel_size(sizes, name) is not None]
    assert len(found) == 32  # the sixteen of the third set, 00007.png and so on, are in no row
