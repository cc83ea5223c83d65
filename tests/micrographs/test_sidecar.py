"""Tables of pixel sizes: forms, look-up, and all faults at once."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passband.errors import PassbandError, ReadError
from passband.micrographs.sidecar import not_listed, read_sidecar, sidecar_pixel_size

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


@pytest.mark.parametrize(
    "heading",
    [
        "Pixel size [nm]", "pixel size, nm", "PixelSize(nm)", "nm/px", "nm/pix", "nm per pixel",
        "Scale (nm/pixel)", "Sampling (nm/px)", "pixel-size-nm", " Pixel Size (nm) ", "Pixel_size_x (nm)",
        "Conversion factor (nm/pixel)", "pixel size in nanometers",
    ],
)  # fmt: skip
def test_headings_as_people_write_them(table, heading):
    assert read_sidecar(table(f'File Name;"{heading}"\na.tif;0,5\n')) == {"a.tif": pytest.approx(5)}


@pytest.mark.parametrize(
    "heading", ["Å/px", "A/pix", "Pixel size (Ångström)", "angstroms per pixel", "apix (Å)"]
)
def test_headings_in_angstrom(table, heading):
    assert read_sidecar(table(f"image,{heading}\na.tif,5\n")) == {"a.tif": pytest.approx(5)}


@pytest.mark.parametrize(
    "text",
    [
        "image,pixel size\na.tif,0.5 nm\n",
        "image,pixel size\na.tif,5Å\n",
        "image,pixel size,unit\na.tif,0.0005,µm\n",
        "image,pixel size,unit,note\na.tif,500,pm,x\n",
        "image,pixel size (nm)\na.tif,0.5 nm/px\n",
        "image,pixel size (nm)\na.tif,5 Å\n",  # the cell knows better than the heading
    ],
)
def test_units_in_cells_and_columns(table, text):
    assert read_sidecar(table(text)) == {"a.tif": pytest.approx(5)}


@pytest.mark.parametrize(
    "text",
    ["image,pixel size\na.tif,0.5\n", "image,pixel size,unit\na.tif,0.5,px\n", "image,px\na.tif,5 mm2\n"],
)
def test_a_size_without_a_unit_is_refused_with_its_row(table, text):
    with pytest.raises(ReadError, match=r"row 2 has .* \(no unit is named"):
        read_sidecar(table(text))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_encodings(table, encoding):
    sizes = read_sidecar(table("image\tPixel size (nm)\nMüller.tif\t1\n", encoding))
    assert sizes == {"Müller.tif": 10}


@pytest.mark.parametrize(
    "before",
    [
        "sep=;\n",
        '"sep=;"\r\n',
        "# from the microscope\n",
        "\n\n",
        "sep=;\n# taken, in May; 2024\n\n",
        "SEP=;\n",
    ],
)
def test_lines_before_and_between(table, before):
    text = f"{before}image;pixel size (nm)\n# these are good\na.tif;0,5\n\n;;\nb.tif;1\n"
    assert read_sidecar(table(text)) == {"a.tif": pytest.approx(5), "b.tif": pytest.approx(10)}


@pytest.mark.parametrize("nothing", ["", "-", "n/a", "NaN", "?", "unknown", "#N/A"])
def test_a_blank_cell_leaves_the_size_to_the_file(table, nothing):
    sizes = read_sidecar(table(f"image,pixel_size_nm\na.tif,{nothing}\nb.tif,1\n"))
    assert sizes == {"b.tif": 10} and sidecar_pixel_size(sizes, "a.tif") is None
    with pytest.raises(ReadError, match="1 row without a pixel size"):
        read_sidecar(table(f"image,pixel_size_nm\na.tif,{nothing}\n"))


def test_a_line_number_is_that_of_the_file(table):
    with pytest.raises(ReadError, match="row 4 has 'x'"):
        read_sidecar(table("# one\nimage,pixel_size_nm\na.tif,1\nb.tif,x\n"))


def test_images_of_one_name_in_two_folders(table):
    sizes = read_sidecar(
        table("image,pixel_size_nm\nrun1/a.tif,1\nrun2\\a.tif,2\nrun1/b.tif,3\nrun2/b.tif,3\n")
    )
    assert sidecar_pixel_size(sizes, "/data/run1/a.tif") == 10
    assert sidecar_pixel_size(sizes, "C:\\data\\RUN2\\a.tif") == 20
    assert sidecar_pixel_size(sizes, "elsewhere/b.tif") == 30
    for path in ("a.tif", "run3/a.tif", "run1x/a.tif"):
        with pytest.raises(ReadError, match="2 pixel sizes"):
            sidecar_pixel_size(sizes, path)


def test_the_most_folders_that_fit_decide(table):
    sizes = read_sidecar(table("image,pixel_size_nm\na.tif,1\nx/a.tif,2\ny/x/a.tif,3\nb.tif,4\n"))
    found = [
        sidecar_pixel_size(sizes, p)
        for p in ("a.tif", "z/a.tif", "x/a.tif", "y/x/a.tif", "y/x/A.TIF", "y/b.tif")
    ]
    assert found == [10, 10, 20, 30, 30, 40]


def test_what_a_table_lacks_is_told_with_the_nearest_name():
    table = {"img_001.tif": 2.0, "img_002.tif": 2.0}
    assert not_listed(table, ["a/img_001.tif", "IMG 002.TIF"]) == ""
    assert not_listed({}, ["a.tif"]) == ""
    said = not_listed(table, ["img_002.tif", "img-001.tif", "x.png", "y.png", "z.png"])
    assert said.startswith(
        "the sidecar has no pixel size for 4 of 5 images: img-001.tif (did you mean 'img_001.tif'"
    )
    assert said.endswith("x.png, y.png and 1 more")


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
    assert message.startswith(str(path)) and "4 faults" in message
    for words in ("row 2 has 'zero'", "row 3 names no image", "row 4 has '-2'", "row 7"):
        assert words in message


def test_missing_columns_are_named_together(table):
    with pytest.raises(ReadError, match=r"no column names the images.*0 columns give the pixel size"):
        read_sidecar(table("picture,width\na.png,1\n"))


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
