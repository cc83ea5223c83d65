"""What is read of valid files, and the words for those that give no micrograph."""

import math
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from passband.errors import ParameterError, ReadError
from passband.micrographs import parser_process, readers
from passband.micrographs.many import Reading, file_and_frame, find_micrographs
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.picture import moment, named
from passband.micrographs.readers import SUFFIXES, read_mean, read_micrograph
from passband.micrographs.write_tiff import SIMULATED, imagej_tiff

REC_601 = np.array([0.299, 0.587, 0.114])


@pytest.fixture
def place(tmp_path, image_files):
    """Write a made file into a folder of its own and give its path."""

    def put(name, data=None, as_name=None):
        path = tmp_path / (as_name or name)
        path.write_bytes(image_files[name] if data is None else data)
        return path

    return put


def refusal(path, **options):
    with pytest.raises(ReadError) as caught:
        read_micrograph(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "name",
    [
        *("grey16.tif", "float32.tiff", "deflate.tif", "ome.ome.tif", "grey16.png", "grey.mrc"),
        *("grey.npy", "grey.dm3", "grey.dm4", "ncem.emd", "grey.ser"),
    ],
)
def test_sixteen_bits_come_through_every_format(place, true_pixels, name):
    m = read_micrograph(place(name))
    assert m.pixels.dtype == np.float32
    np.testing.assert_array_equal(m.pixels, true_pixels)
    assert m.name == str(place(name))


@pytest.mark.parametrize("name", ["imagej_stack.tif", "stack.mrc", "stack.dm4", "stack.ser", "velox.emd"])
def test_a_stack_asks_for_a_frame_and_gives_each(place, true_pixels, name):
    path = place(name)
    message = refusal(path)
    assert "2 " in message and "frame=0 to frame=1" in message
    for frame in (0, 1):
        np.testing.assert_array_equal(read_micrograph(path, frame=frame).pixels, true_pixels + frame)
    assert "no frame 2" in refusal(path, frame=2)


@pytest.mark.parametrize("name", ["imagej_stack.tif", "stack.mrc", "stack.dm4", "stack.ser", "velox.emd"])
def test_the_mean_of_a_stack(place, true_pixels, name):
    m = read_mean(place(name))
    np.testing.assert_array_equal(m.pixels, true_pixels + 0.5)
    assert m.pixel_size == read_micrograph(place(name), frame=0).pixel_size
    assert m.notes[-1] == "the mean of 2 frames, as they lie"


def test_the_mean_of_one_image_is_that_image_and_of_other_shapes_there_is_none(place, tmp_path, true_pixels):
    one = read_mean(place("grey16.tif"), pixel_size=3.0)
    np.testing.assert_array_equal(one.pixels, true_pixels)
    assert one.notes == () and one.pixel_size == 3.0
    with tifffile.TiffWriter(tmp_path / "two.tif") as tif:
        tif.write(true_pixels)
        tif.write(true_pixels[:5])
    with pytest.raises(ReadError, match=r"several shapes.*--frame with a number"):
        read_mean(tmp_path / "two.tif")
    with pytest.raises(ReadError, match="no such file"):
        read_mean(tmp_path / "none.tif")


@pytest.mark.parametrize("version", [3, 4])
def test_the_only_picture_among_spectra_is_read(tmp_path, make_dm, true_pixels, version):
    lines = np.ones((4, 30), np.uint16)
    path = tmp_path / f"a.dm{version}"
    path.write_bytes(make_dm(lines, version=version, unit="eV", beside=[(true_pixels, "nm", "HAADF")]))
    m = read_micrograph(path)
    np.testing.assert_array_equal(m.pixels, true_pixels)
    assert m.pixel_size is not None and "only picture" in m.notes[0] and "spectra" in m.notes[0]
    with pytest.raises(ReadError, match="spectra"):
        read_micrograph(path, frame=0)
    np.testing.assert_array_equal(read_micrograph(path, frame=1).pixels, true_pixels)


@pytest.mark.parametrize("name", ["grey8.png", "grey16.tif", "grey.jpg", "grey.mrc", "grey.ser", "grey.dm4"])
def test_where_a_truncated_file_can_be_read_the_refusal_says_how(place, image_files, name):
    """And where it says how, it can."""
    data = image_files[name]
    path = place(name, data[: int(0.7 * len(data))])
    try:
        read_micrograph(path, permissive=True)
    except ReadError:
        assert "--permissive" not in refusal(path)
    else:
        assert "--permissive" in refusal(path)


def test_several_pictures_are_told_by_their_names(tmp_path, make_dm, true_pixels, place):
    path = tmp_path / "a.dm4"
    others = [(true_pixels + 1, "nm", "HAADF"), (true_pixels + 2, "nm", "BF")]
    path.write_bytes(make_dm(true_pixels, version=4, beside=others))
    message = refusal(path)
    for words in ("0: made 12 x 20", "1: HAADF", "2: BF", "--frame 0 to 2", "or mean"):
        assert words in message
    np.testing.assert_array_equal(read_micrograph(path, frame=2).pixels, true_pixels + 2)
    assert "0 to 1: HAADF 12 x 20" in refusal(place("velox.emd"))


def test_the_only_picture_beside_a_spectrum_image_of_ncem(tmp_path, true_pixels):
    import h5py

    with h5py.File(tmp_path / "a.emd", "w") as f:
        for name, data, units in (
            ("eels", np.ones((4, 5, 6), np.float32), ("[n_m]", "[n_m]", "[eV]")),
            ("haadf", true_pixels.T, ("[n_m]", "[n_m]")),
        ):
            home = f.create_group(f"data/{name}")
            home.attrs["emd_group_type"] = 1
            home["data"] = data
            for i, unit in enumerate(units, 1):
                home[f"dim{i}"] = np.arange(data.shape[i - 1]) * 0.5
                home[f"dim{i}"].attrs["units"] = unit
    m = read_micrograph(tmp_path / "a.emd")
    np.testing.assert_array_equal(m.pixels, true_pixels)
    assert m.pixel_size == pytest.approx(5.0)


def test_a_fortran_stack_gives_each_frame(place, true_pixels):
    for frame in (0, 1):
        m = read_micrograph(place("fortran_stack.npy"), frame=frame)
        np.testing.assert_array_equal(m.pixels, true_pixels + frame)


def test_frame_of_a_single_image_is_zero_or_none(place):
    assert read_micrograph(place("grey16.tif"), frame=0).shape == (12, 20)
    assert "pass frame=0 or none" in refusal(place("grey16.tif"), frame=1)


@pytest.mark.parametrize(
    "name",
    [
        "imagej_stack.tif",
        "ome.ome.tif",
        "grey.mrc",
        "grey.dm3",
        "stack.dm4",
        "ncem.emd",
        "velox.emd",
        "grey.ser",
    ],
)
def test_pixel_size_comes_from_the_file(place, name):
    m = read_micrograph(place(name), frame=0)
    assert m.pixel_size == pytest.approx(2.5, rel=1e-6)
    assert m.sources["pixel_size"] and "caller" not in m.sources["pixel_size"]


@pytest.mark.parametrize("name", ["grey.dm3", "grey.dm4", "ncem.emd", "velox.emd"])
def test_energy_comes_from_the_file(place, name):
    m = read_micrograph(place(name), frame=0)
    assert m.energy == 200e3
    assert m.sources["energy"]


def test_velox_underfocus_is_positive(place):
    m = read_micrograph(place("velox.emd"), frame=0)
    assert m.defocus == pytest.approx(15000)  # Velox writes -1.5 µm for underfocus


@pytest.mark.parametrize("suffix", [".mrcs", ".map", ".st", ".rec", ".MRCS"])
def test_mrc_files_by_their_other_names(place, suffix):
    same = read_micrograph(place("grey.mrc"))
    other = read_micrograph(place("grey.mrc", as_name=f"a{suffix}"))
    assert (other.pixels == same.pixels).all() and other.pixel_size == same.pixel_size
    with pytest.raises(ReadError, match="pass frame=0 to frame="):
        read_micrograph(place("stack.mrc", as_name=f"b{suffix}"))


def test_a_bitmap_is_read_and_what_begins_like_one_is_not(place, tmp_path):
    grey = read_micrograph(place("grey8.bmp"))
    assert (grey.pixels == read_micrograph(place("grey8.png")).pixels).all() and grey.pixel_size is None
    colour = [read_micrograph(place(name)).pixels for name in ("rgb.bmp", "rgb.png")]
    assert (colour[0] == colour[1]).all()
    (tmp_path / "a.dm4").write_text("BM is not enough to be a bitmap")
    with pytest.raises(ReadError, match="does not begin like DigitalMicrograph: its first bytes are text"):
        read_micrograph(tmp_path / "a.dm4")
    (tmp_path / "cut.bmp").write_bytes(place("grey8.bmp").read_bytes()[:60])
    with pytest.raises(ReadError):
        read_micrograph(tmp_path / "cut.bmp")


def test_a_folder_without_micrographs_says_what_it_holds(tmp_path):
    for name in ("a.txt", "b.TXT", "c.pdf", "README"):
        (tmp_path / name).write_text("x")
    ((_, said),) = find_micrographs([str(tmp_path)])[1]
    assert "no micrograph but 2 .txt, 1 .pdf, 1 without a suffix" in said


@pytest.mark.parametrize(
    ("name", "instrument"), [("ncem.emd", "TEAM 0.5"), ("velox.emd", "Titan 3492"), ("grey.mrc", "")]
)
def test_the_instrument_is_what_the_file_says(place, name, instrument):
    assert read_micrograph(place(name), frame=0).instrument == instrument


@pytest.mark.parametrize(
    ("name", "instrument"),
    [
        ("dm3_diffraction.dm3", "FEI Tecnai"),
        ("dm4_image.dm4", "Zeiss SEM COM"),
        ("haadf.mrc", "Spectra 3814"),
        ("tia_image_1.ser", "Microscope TalosF200X 200 kV D6308 XTwin"),
        ("emd_velox_tem_stack.emd", "Titan 3492"),
        ("tif_imagej.tif", ""),
    ],
)
def test_the_instrument_is_found_in_vendors_files(formats_folder, name, instrument):
    assert read_micrograph(formats_folder / name, frame=0, permissive=True).instrument == instrument


@pytest.mark.parametrize(
    ("name", "acquired"),
    [
        ("dm3_diffraction.dm3", "7/9/2014 6:56:37 PM"),
        ("dm4_image.dm4", "5/14/2021 11:41:07 AM"),
        ("haadf.mrc", "2022-12-05 12:13:07"),
        ("tia_image_1.ser", "Mon Feb 22 18:57:51 2016"),
        ("emd_velox_tem_stack.emd", "2019-12-05 10:03:44 UTC"),
        ("tif_olympus.tif", "2018:11:15 19:42:31"),
        ("tif_imagej.tif", ""),
    ],
)
def test_the_date_is_found_in_vendors_files(formats_folder, name, acquired):
    assert read_micrograph(formats_folder / name, frame=0, permissive=True).acquired == acquired


@pytest.mark.parametrize(
    ("tags", "acquired"),
    [
        ([(34682, "s", 0, "[User]\nDate=02/27/2016\nTime=02:05:11 PM\n", True)], "02/27/2016 02:05:11 PM"),
        (
            [(34118, "s", 0, "AP_DATE\nDate :27 Feb 2016\nAP_TIME\nTime :14:05:11\n", True)],
            "27 Feb 2016 14:05:11",
        ),
        ([(34682, "s", 0, "[Beam]\nHV=200000\n", True)], "2020:01:02 03:04:05"),
        ([], ""),  # when a file was written says nothing
    ],
)
def test_the_date_of_a_tiff_is_the_microscopes(tmp_path, true_pixels, tags, acquired):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, true_pixels, datetime="2020:01:02 03:04:05", metadata=None, extratags=tags)
    assert read_micrograph(path).acquired == acquired


def test_the_date_of_a_velox_file_and_of_a_series_with_its_emi(tmp_path, place, make_ser, true_pixels):
    assert read_micrograph(place("velox.emd"), frame=0).acquired == "2016-02-27 14:05:11 UTC"
    path = tmp_path / "a_1.ser"
    path.write_bytes(make_ser([true_pixels]))
    assert read_micrograph(path).acquired == ""
    (tmp_path / "a.emi").write_text("<AcquireDate>Sat Feb 27 14:05:11 2016</AcquireDate>")
    assert read_micrograph(path).acquired == "Sat Feb 27 14:05:11 2016"


def test_the_date_of_an_ome_file(tmp_path, true_pixels):
    path = tmp_path / "a.ome.tif"
    xml = "<OME><Image><AcquisitionDate>2016-02-27T14:05:11</AcquisitionDate></Image></OME>"
    tifffile.imwrite(path, true_pixels, description=xml, metadata=None)
    assert read_micrograph(path).acquired == "2016-02-27T14:05:11"


@pytest.mark.parametrize("seconds", [None, "", "soon", -5, 0, math.nan, math.inf, 1e300, {}, [1], 10**400])
def test_a_moment_of_anything_is_a_moment_or_nothing(seconds):
    assert moment(seconds) == ""


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("  Talos \n F200X\0", 7, None), "Talos F200X"),
        ((b"Talos\xff",), "Talos\ufffd"),
        (("x" * 500,), "x" * 120),
        (({}, [], True), ""),
    ],
)
def test_an_instruments_name_is_made_of_anything(parts, name):
    assert named(*parts) == name


def test_a_simulated_tiff_names_its_instrument_and_the_reader_may_be_told_better(tmp_path, true_pixels):
    path = tmp_path / "a.tif"
    path.write_bytes(imagej_tiff(true_pixels, 2.0))
    assert read_micrograph(path).instrument == SIMULATED
    assert Reading().read(str(path)).instrument == SIMULATED
    assert Reading(instrument="Talos").read(str(path)).instrument == "Talos"
    path.write_bytes(imagej_tiff(true_pixels, 2.0, instrument="Jeol = 2100"))
    m = read_micrograph(path)
    assert (m.instrument, m.pixel_size) == ("Jeol = 2100", pytest.approx(2.0))


def test_a_frame_is_read_by_its_name_with_its_films_calibration(tmp_path, true_pixels):
    film = tmp_path / "film.npy"
    np.save(film, np.stack([true_pixels, true_pixels + 1]))
    reading = Reading(frame="all", sidecar={"film.npy": 2.0})
    assert reading.images([str(film), "none.tif"]) == (f"{film}#0", f"{film}#1", "none.tif")
    m = reading.read(f"{film}#1")
    np.testing.assert_array_equal(m.pixels, true_pixels + 1)
    assert (m.name, m.pixel_size) == (f"{film}#1", 2.0)
    with pytest.raises(ReadError, match="it has no frame 2"):
        reading.read(f"{film}#2")
    named_so = tmp_path / "film.npy#7"  # a file of that very name comes first
    named_so.write_bytes(film.read_bytes())
    assert file_and_frame(str(named_so)) == (str(named_so), None)
    assert Reading(frame=0).images([str(film)]) == (str(film),)


def test_what_files_do_not_say_is_unknown(place):
    m = read_micrograph(place("grey16.png"))
    assert (m.instrument, m.acquired) == ("", "")
    assert (m.pixel_size, m.energy, m.defocus, dict(m.sources)) == (None, None, None, {})


def test_the_callers_pixel_size_wins_and_is_recorded(place):
    m = read_micrograph(place("grey.mrc"), pixel_size=3.8)
    assert m.pixel_size == 3.8
    assert m.sources["pixel_size"] == "given by the caller (the file says 2.5 Å)"


@pytest.mark.parametrize("name", ["rgb.png", "rgb16.png", "rgb.tif", "rgb.jpeg"])
def test_colour_becomes_luminance_and_says_so(place, true_pixels, name):
    m = read_micrograph(place(name))
    assert "RGB converted to luminance" in m.notes
    p = true_pixels.astype(int)
    eight = p >> 8
    wanted = {
        "rgb.png": np.stack([eight, eight // 2, eight // 3], -1) @ REC_601,
        "rgb16.png": np.stack([p, p // 2, p // 3], -1) @ REC_601,
        "rgb.tif": np.stack([p, p * 0, p], -1) @ REC_601,
    }
    if name in wanted:  # JPEG keeps no value exactly
        np.testing.assert_allclose(m.pixels, wanted[name], rtol=1e-5)


def test_palette_and_tiles(place, true_pixels):
    np.testing.assert_array_equal(read_micrograph(place("palette.png")).pixels, true_pixels >> 8)
    np.testing.assert_array_equal(
        read_micrograph(place("lzw_tiles.tif")).pixels, np.tile(true_pixels, (3, 2))
    )


@pytest.mark.parametrize("value", [0, 7])
def test_constant_and_single_pixels_are_read(tmp_path, value):
    for shape in ((1, 1), (1, 9), (16, 16)):
        np.save(tmp_path / "a.npy", np.full(shape, value, np.uint8))
        assert (read_micrograph(tmp_path / "a.npy").pixels == value).all()


def test_nan_pixels_are_refused_or_replaced(tmp_path):
    image = np.arange(30, dtype=np.float32).reshape(5, 6)
    image[1, 2] = np.nan
    image[2, 2] = np.inf
    path = tmp_path / "a.npy"
    np.save(path, image)
    assert "2 of its 30 pixels" in refusal(path) and "permissive=True" in refusal(path)
    m = read_micrograph(path, permissive=True)
    assert m.pixels[1, 2] == m.pixels[2, 2] == np.median(image[np.isfinite(image)])
    assert any("2 of 30 pixels" in note for note in m.notes)
    np.save(path, image * np.nan)
    assert "none of its pixels" in refusal(path, permissive=True)


@pytest.mark.parametrize(
    "name", ["grey16.tif", "grey.mrc", "grey.npy", "grey.dm4", "grey.ser", "grey.jpg", "noise.png"]
)
def test_truncated_files_are_refused_or_completed(place, image_files, name):
    data = image_files[name]
    keep = data.index(b"DataType") - 200 if name == "grey.dm4" else len(data) - 60
    path = place(name, data[:keep])
    assert "truncated" in refusal(path) or "damaged" in refusal(path)
    if name != "grey.dm4":  # its tags come after its pixels
        m = read_micrograph(path, permissive=True)
        assert any("truncated" in note for note in m.notes)


def declare_30000(name, data):
    """The same file with a header that declares 30,000 x 30,000 pixels."""
    import struct

    if name == "grey8.png":
        import zlib

        head = b"IHDR" + struct.pack(">II", 30000, 30000) + data[24:29]
        return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    if name == "grey.npy":
        header = data[10:128].replace(b"(12, 20)", b"(30000, 30000)").rstrip().ljust(117) + b"\n"
        return data[:10] + header + data[128:]
    big, small = struct.pack("<I", 30000), [struct.pack("<I", n) for n in (20, 12)]
    if name == "grey.mrc":
        return big + big + data[8:]
    if name == "grey.ser":
        return data.replace(small[0] + small[1], big + big, 1)
    if name == "grey.jpg":
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", 30000, 30000) + data[at + 4 :]
    if name == "grey16.tif":  # ImageWidth and ImageLength, tags 256 and 257
        for tag in (256, 257):
            at = data.index(struct.pack("<HH", tag, 3)) if struct.pack("<HH", tag, 3) in data else -1
            at = at if at >= 0 else data.index(struct.pack("<HH", tag, 4))
            data = data[: at + 2] + struct.pack("<HII", 4, 1, 30000) + data[at + 12 :]
        return data
    for n in small:  # DM's Dimensions
        data = data[: data.index(b"Dimensions")] + data[data.index(b"Dimensions") :].replace(n, big, 1)
    return data


@pytest.mark.parametrize(
    "name",
    ["grey8.png", "grey.npy", "grey.mrc", "grey.ser", "grey.jpg", "grey16.tif", "grey.dm3", "grey.dm4"],
)
@pytest.mark.parametrize("permissive", [False, True])
def test_a_30000_by_30000_header_is_refused_before_anything_is_allocated(
    place, image_files, name, permissive
):
    message = refusal(place(name, declare_30000(name, image_files[name])), permissive=permissive)
    assert "30000" in message and "more than the 268435456" in message


def test_an_hdf5_dataset_of_30000_by_30000_is_refused(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.emd", "w") as f:
        home = f.create_group("image")
        home.attrs["emd_group_type"] = 1
        data = home.create_dataset(
            "data", shape=(30000, 30000), dtype="u2", chunks=(100, 100), compression="gzip"
        )
        data[0, 0] = 1
    assert "more than the 268435456" in refusal(tmp_path / "a.emd")


def test_an_extended_header_larger_than_its_mrc_file_is_refused(place, image_files):
    data = image_files["grey.mrc"]
    for size in (-1, 2**20, 55 * 2**24, 2**31 - 1):  # the third is 55 in the other byte order
        path = place("grey.mrc", data[:92] + size.to_bytes(4, "little", signed=True) + data[96:])
        for permissive in (False, True):
            assert "extended header" in refusal(path, permissive=permissive)


class TestWhatIsNoImage:
    def test_missing(self, tmp_path):
        assert "no such file" in refusal(tmp_path / "a.tif")

    def test_a_folder(self, tmp_path):
        assert "is a folder" in refusal(tmp_path)

    def test_a_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "a.tif")
        assert "device or a pipe" in refusal(tmp_path / "a.tif")

    def test_empty(self, place):
        assert "is empty" in refusal(place("grey16.tif", b""))

    def test_no_permission(self, place, monkeypatch):
        path = place("grey16.tif")

        def forbidden(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.open", forbidden)  # root may read anything
        assert "no permission" in refusal(path)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_text(self, place, suffix):
        message = refusal(place("grey16.tif", b"Dear colleague,\nhere are my images.\n", "a" + suffix))
        assert "does not begin like" in message and "are text" in message

    @pytest.mark.parametrize("name", ["a.xyz", "a", "a.tar.gz"])
    def test_unknown_suffix(self, place, name):
        message = refusal(place("grey16.tif", b"some bytes", name))
        assert all(suffix in message for suffix in SUFFIXES)

    def test_a_suffix_that_lies(self, place, true_pixels):
        path = place("grey16.png", as_name="a.dm4")
        message = refusal(path)
        assert "PNG" in message and "rename it to .png" in message
        m = read_micrograph(path, permissive=True)
        np.testing.assert_array_equal(m.pixels, true_pixels)
        assert any("PNG" in note for note in m.notes)

    def test_an_emi_points_at_its_ser(self, place):
        place("grey.ser", as_name="a_1.ser")
        assert "a_1.ser" in refusal(place("grey.ser", b"JKdata", "a.emi"))

    def test_complex(self, tmp_path):
        np.save(tmp_path / "a.npy", np.ones((4, 4), np.complex64))
        assert "complex" in refusal(tmp_path / "a.npy")

    def test_python_objects_run_no_code(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "sprung"),)

        np.save(tmp_path / "a.npy", np.array([[Trap()]]), allow_pickle=True)
        for permissive in (False, True):
            assert "Python objects" in refusal(tmp_path / "a.npy", permissive=permissive)
        assert not (tmp_path / "sprung").exists()

    def test_spectra_and_diffraction(self, place, make_dm, true_pixels):
        path = place("grey.dm3", make_dm(true_pixels, version=3, unit="eV"))
        assert "spectra" in refusal(path)
        path = place("grey.dm3", make_dm(true_pixels, version=3, unit="1/nm"))
        assert "diffraction pattern" in refusal(path)
        m = read_micrograph(path, permissive=True)
        assert m.pixel_size is None and any("diffraction" in note for note in m.notes)

    @pytest.mark.parametrize("option", [{"pixel_size": 0.0}, {"pixel_size": float("nan")}, {"frame": True}])
    def test_arguments(self, place, option):
        with pytest.raises(ParameterError):
            read_micrograph(place("grey16.tif"), **option)


@pytest.mark.parametrize("how", ["external link", "soft link to it", "virtual dataset", "external storage"])
def test_hdf5_does_not_reach_into_other_files(tmp_path, how):
    import h5py

    secret = np.full((8, 8), 42, np.uint16)
    with h5py.File(tmp_path / "secret.h5", "w") as f:
        f["data"] = secret
    (tmp_path / "secret.raw").write_bytes(secret.tobytes())
    with h5py.File(tmp_path / "a.emd", "w") as f:
        home = f.create_group("image")
        home.attrs["emd_group_type"] = 1
        if how == "virtual dataset":
            layout = h5py.VirtualLayout(shape=(8, 8), dtype="u2")
            layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "data", shape=(8, 8))
            home.create_virtual_dataset("data", layout)
        elif how == "external storage":
            home.create_dataset("data", (8, 8), "u2", external=[(str(tmp_path / "secret.raw"), 0, 128)])
        elif how == "external link":
            home["data"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/data")
        else:
            f["there"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
            home["data"] = h5py.SoftLink("/there/data")
    for permissive in (False, True):
        assert "not followed" in refusal(tmp_path / "a.emd", permissive=permissive)


def test_ome_metadata_do_not_reach_into_other_files(tmp_path, true_pixels):

    tifffile.imwrite(tmp_path / "secret.tif", true_pixels * 0 + 42)
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" '
        'SizeX="20" SizeY="12" SizeC="1" SizeZ="2" SizeT="1"><TiffData IFD="0" FirstZ="1">'
        '<UUID FileName="secret.tif">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", true_pixels, description=text, metadata=None)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.ome.tif").pixels, true_pixels)


class TestTheParserProcess:
    def test_stays_warm_and_without_torch(self, place):
        read_micrograph(place("grey16.tif"))
        child = parser_process._child.process.pid
        read_micrograph(place("grey.dm3"))
        assert parser_process._child.process.pid == child
        if sys.platform == "linux":
            assert "torch" not in Path(f"/proc/{child}/maps").read_text()

    def test_is_replaced_when_it_died(self, place):
        read_micrograph(place("grey16.tif"))
        parser_process._child.process.kill()
        parser_process._child.process.wait()
        assert read_micrograph(place("grey16.tif")).shape == (12, 20)

    def test_a_hang_ends_at_the_time_limit(self, place, monkeypatch):
        import signal

        read_micrograph(place("grey16.tif"))
        monkeypatch.setattr(readers, "TIME_LIMIT_S", 0.3)
        monkeypatch.setattr(parser_process, "START_LIMIT_S", 0.3)
        os.kill(parser_process._child.process.pid, signal.SIGSTOP)
        assert "within 0.3 s" in refusal(place("grey16.tif"))
        monkeypatch.undo()
        assert read_micrograph(place("grey16.tif")).shape == (12, 20)

    def test_memory_is_limited(self, tmp_path, monkeypatch):
        np.save(tmp_path / "a.npy", np.zeros((4096, 4096), np.uint8))
        monkeypatch.setattr(readers, "MEMORY_LIMIT", 32 * 2**20)
        assert "memory" in refusal(tmp_path / "a.npy")
        monkeypatch.undo()
        assert read_micrograph(tmp_path / "a.npy").shape == (4096, 4096)

    def test_the_promised_limits(self):
        assert readers.TIME_LIMIT_S == 10 and readers.MEMORY_LIMIT == 2 * 1024**3

    def test_a_large_file_may_take_longer(self, tmp_path, monkeypatch):
        asked = []
        monkeypatch.setattr(
            readers, "parse", lambda request, *, time_limit, memory_limit: asked.append(time_limit) or 1 / 0
        )
        for megabytes in (1, 400):
            with (tmp_path / "a.mrc").open("wb") as f:
                f.truncate(megabytes * 1_000_000)
            with pytest.raises(ZeroDivisionError):
                read_micrograph(tmp_path / "a.mrc")
        assert asked == [10, 30]

    def test_threads_take_turns(self, place, true_pixels):
        paths = [place(name) for name in ("grey16.tif", "grey.npy", "grey.mrc", "grey.ser")]
        wrong = []

        def work():
            for path in paths:
                if not (read_micrograph(path).pixels == true_pixels).all():
                    wrong.append(path)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_fork_closed_stdin_and_a_killed_parent(self, place):
        script = """
import os, sys, signal
os.close(0)
from passband.micrographs import parser_process
from passband.micrographs.readers import read_micrograph
read_micrograph(sys.argv[1])
parent = parser_process._child.process.pid
parser_process._lock.acquire()  # as a thread would that is reading just now
pid = os.fork()
if not pid:
    signal.alarm(30)
    read_micrograph(sys.argv[1])
    os._exit(0 if parser_process._child.process.pid != parent else 5)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
parser_process._lock.release()
read_micrograph(sys.argv[1])
assert parser_process._child.process.pid == parent
print(parent, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
        source = str(Path(readers.__file__).parents[2])
        environment = {**os.environ, "PYTHONPATH": source}
        done = subprocess.run(
            [sys.executable, "-c", script, str(place("grey.npy"))],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == -9 and done.stderr == ""
        child = int(done.stdout)
        deadline = 50
        while deadline and _alive(child):
            threading.Event().wait(0.1)
            deadline -= 1
        assert deadline, "the parser outlived its parent"


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


class TestVendorsFiles:
    """Each file of the vendors gives what RosettaSciIO gives, or words for what it holds instead."""

    FRAMES = (
        ("dm3_2d_type1.dm3", None, "digitalmicrograph"),
        ("dm3_3d_stack.dm3", 1, "digitalmicrograph"),
        ("dm3_stem_image.dm3", None, "digitalmicrograph"),
        ("dm4_2d_type10.dm4", None, "digitalmicrograph"),
        ("dm4_image.dm4", None, "digitalmicrograph"),
        ("emd_ncem_image.emd", None, "emd"),
        ("emd_velox_tem_stack.emd", 1, "emd"),
        ("haadf.mrc", None, "mrc"),
        ("movie.mrc", 7, "mrc"),
        ("tia_image_1.ser", None, "tia"),
        ("tia_old_image_1.ser", None, "tia"),
        ("tif_from_dm.tif", None, "tiff"),
        ("tif_imagej.tif", None, "tiff"),
        ("tif_imagej_stack.tif", 1, "tiff"),
        ("tif_olympus.tif", None, "tiff"),
    )
    COLOURED = (("dm3_2d_type23_rgb.dm3", "digitalmicrograph"), ("tif_zeiss_rgb.tif", "tiff"))
    REFUSED = (
        ("dm3_diffraction.dm3", "diffraction pattern"),
        ("dm3_not_an_image_eels.dm3", "EELS spectra (1 x 2048)"),
        ("dm4_complex_fft.dm4", "complex image"),
        ("emd_ncem_not_an_image.emd", "line of values"),
        ("tia_image.emi", "tia_image_1.ser"),
    )

    @staticmethod
    def signal(path, module):
        """The last signal that RosettaSciIO finds, which in a file with an overview is the original."""
        from importlib import import_module

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(f"rsciio.{module}").file_reader(str(path))[-1]

    @pytest.mark.parametrize(("name", "frame", "module"), FRAMES)
    def test_as_rosettasciio_has_it(self, formats_folder, name, frame, module):
        m = read_micrograph(formats_folder / name, frame=frame)
        theirs = self.signal(formats_folder / name, module)
        wanted = theirs["data"] if frame is None else theirs["data"][frame]
        np.testing.assert_array_equal(m.pixels, wanted.astype(np.float32))
        y, x = theirs["axes"][-2:]
        unit = {"pm": 0.01, "nm": 10, "µm": 1e4, "m": 1e10}.get(x["units"])
        if unit is None or x["scale"] <= 0:
            assert m.pixel_size is None
        else:
            assert m.pixel_size == pytest.approx(x["scale"] * unit, rel=1e-4)
            assert y["scale"] == pytest.approx(x["scale"])

    @pytest.mark.parametrize(("name", "module"), COLOURED)
    def test_colours(self, formats_folder, name, module):
        m = read_micrograph(formats_folder / name)
        theirs = self.signal(formats_folder / name, module)["data"]
        wanted = sum(w * theirs[c].astype(float) for w, c in zip(REC_601, "RGB", strict=True))
        np.testing.assert_allclose(m.pixels, wanted, rtol=1e-5)
        assert "RGB converted to luminance" in m.notes

    @pytest.mark.parametrize(("name", "words"), REFUSED)
    def test_no_image(self, formats_folder, name, words):
        assert words in refusal(formats_folder / name)

    def test_every_file_is_in_a_list(self, formats_folder):
        names = {row[0] for row in (*self.FRAMES, *self.COLOURED, *self.REFUSED)}
        assert {path.name for path in formats_folder.iterdir()} == names

    def test_conditions(self, formats_folder):
        assert read_micrograph(formats_folder / "dm3_stem_image.dm3").energy == 200e3
        assert read_micrograph(formats_folder / "haadf.mrc").energy == 300e3
        assert read_micrograph(formats_folder / "haadf.mrc").defocus is None  # STEM
        assert read_micrograph(formats_folder / "tia_image_1.ser").energy == 200e3
        velox = read_micrograph(formats_folder / "emd_velox_tem_stack.emd", frame=0)
        assert velox.energy == 300e3
        assert velox.defocus == pytest.approx(-302.317, rel=1e-4)  # the file says +30 nm: overfocus


def test_any_result_is_a_micrograph(place, image_files):
    for name in image_files:
        assert isinstance(read_micrograph(place(name), frame=0), Micrograph)
