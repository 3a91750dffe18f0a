import io
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from eyebright.data import decode as decode_module
from eyebright.data.decode import (
    FORMATS,
    SUFFIXES,
    _decode_any,
    _decode_plain_jpeg,
    decode,
    decode_file,
    read_header,
    to_channels,
)
from eyebright.errors import PictureError

LOSSLESS = {
    "PNG": {},
    "BMP": {},
    "PPM": {},
    "TIFF": {},
    "TIFF, packed": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
}


def kind_of(name):
    return name.partition(",")[0]


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_picture_gives_its_very_pixels(noise, encode, name):
    pixels = noise(7, 9, 3)
    decoded = decode(encode(pixels, kind_of(name), **LOSSLESS[name]), "a picture")
    assert decoded.dtype == np.uint8 and np.array_equal(decoded, pixels)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_a_grey_picture_has_one_channel(noise, encode, kind):
    pixels = noise(7, 9, 1)
    assert np.array_equal(decode(encode(pixels, kind), "a picture"), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_gives_what_pillow_gives(landscape, encode, channels):
    data = encode(landscape(20, 30)[..., :channels], "JPEG", quality=90)
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(picture).reshape(20, 30, channels)
    assert np.array_equal(decode(data, "a picture"), expected)


def test_a_palette_gives_its_colors(encode):
    picture = Image.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0, 1, 2, 3])
    picture.putdata([2, 0, 1])
    assert decode(encode(picture), "a picture").tolist() == [[[1, 2, 3], [255, 0, 0], [0, 255, 0]]]


def test_black_and_white_becomes_0_and_255(encode):
    picture = Image.new("1", (3, 1))
    picture.putdata([0, 1, 0])
    assert decode(encode(picture), "a picture").ravel().tolist() == [0, 255, 0]


@pytest.mark.parametrize("alpha", [0, 1, 100, 254, 255])
def test_what_is_transparent_is_shown_on_white(encode, alpha):
    color = np.array([200, 100, 0])
    pixels = np.array([[[*color, alpha]]], dtype=np.uint8)
    on_white = color * (alpha / 255) + 255 * (1 - alpha / 255)
    assert np.abs(decode(encode(pixels), "a picture")[0, 0] - on_white).max() <= 0.51


TRANSPARENT = {
    "grey with alpha": lambda: Image.merge("LA", [Image.new("L", (2, 2), 9), Image.new("L", (2, 2), 0)]),
    "palette": lambda: Image.new("P", (2, 2), 0),
    "one color": lambda: Image.new("RGB", (2, 2), (9, 9, 9)),
    "one grey": lambda: Image.new("L", (2, 2), 9),
}
OPTIONS = {"palette": {"transparency": 0}, "one color": {"transparency": (9, 9, 9)}, "one grey": {"transparency": 9}}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_every_kind_of_transparency_is_white(encode, name):
    decoded = decode(encode(TRANSPARENT[name](), **OPTIONS.get(name, {})), "a picture")
    assert decoded.shape[:2] == (2, 2) and (decoded == 255).all()


def test_an_opaque_grey_picture_with_alpha_keeps_its_greys(encode):
    pixels = np.dstack([np.arange(256, dtype=np.uint8).reshape(16, 16), np.full((16, 16), 255, np.uint8)])
    decoded = decode(encode(Image.fromarray(pixels, "LA")), "a picture")
    assert np.array_equal(decoded, np.repeat(pixels[..., :1], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_rounded_to_8(encode, kind):
    deep = np.arange(0, 65536, 17, dtype=np.uint16).reshape(16, -1)
    decoded = decode(encode(Image.fromarray(deep), kind), "a picture")
    assert np.array_equal(decoded[..., 0], np.rint(deep.astype(np.float64) / 257).astype(np.uint8))
    assert decoded.min() == 0 and decoded.max() == 255


def test_32_bits_are_clipped_to_16():
    deep = np.array([[-5, 0, 300, 65535, 70_000]], dtype=np.int32)
    assert to_channels(Image.fromarray(deep)).ravel().tolist() == [0, 0, 1, 255, 255]


def test_of_several_frames_the_first_is_taken(noise, encode):
    frames = [Image.fromarray(noise(6, 8, 3, seed=i)).quantize(16) for i in range(3)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(data, "a picture"), np.asarray(frames[0].convert("RGB")))


ORIENTATIONS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


def turned(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.mark.parametrize("number", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_upright(landscape, encode, kind, number):
    stored = landscape(16, 24)
    upright = ORIENTATIONS[number](decode(encode(stored, kind), "as it lies"))
    assert np.array_equal(decode(encode(stored, kind, exif=turned(number)), "a picture"), upright)


@pytest.mark.parametrize("number", [None, 0, 1, *range(2, 9), 9])
def test_a_header_says_whether_a_picture_is_stored_turned(landscape, encode, number):
    exif = Image.Exif()
    if number is not None:
        exif[0x0112] = number
    header = read_header(encode(landscape(8, 12), "JPEG", exif=exif))
    assert header == ("JPEG", number in (2, 3, 4, 5, 6, 7, 8))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_header_names_the_format_of_the_content(landscape, encode, kind):
    assert read_header(encode(landscape(8, 12), kind)) == (kind, False)


@pytest.mark.parametrize("number", [0, 9, 77])
def test_an_orientation_that_does_not_exist_is_none(landscape, encode, number):
    stored = landscape(16, 24)
    assert np.array_equal(
        decode(encode(stored, "JPEG", exif=turned(number)), "a picture"), decode(encode(stored, "JPEG"), "plain")
    )


def test_notes_of_the_camera_that_are_damaged_do_not_matter(landscape, encode):
    data = encode(landscape(16, 24), "JPEG", exif=b"Exif\0\0nothing of the kind")
    assert np.array_equal(decode(data, "a picture"), decode(encode(landscape(16, 24), "JPEG"), "plain"))


def test_inks_become_colors(landscape, encode):
    inks = Image.fromarray(landscape(16, 24)).convert("CMYK")
    decoded = decode(encode(inks, "JPEG", quality=100, subsampling=0), "a picture")
    assert decoded.shape == (16, 24, 3)
    assert np.abs(decoded.astype(int) - np.asarray(inks.convert("RGB")).astype(int)).max() <= 4


WANTED = [None, (1, 1), (16, 24), (33, 50), (64, 64), (130, 200), (300, 20)]


@pytest.mark.parametrize("number", ORIENTATIONS)
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_both_jpeg_decoders_give_the_same_pixels(landscape, noise, encode, channels, options, number):
    for picture in (landscape(133, 201), noise(67, 130, 3)):
        for quality in (30, 75, 97):
            data = encode(picture[..., :channels], "JPEG", quality=quality, exif=turned(number), **options)
            for wanted in WANTED:
                fast, slow = _decode_plain_jpeg(data, wanted), _decode_any(data, "a picture", wanted)
                assert fast is not None and np.array_equal(fast, slow), (quality, wanted)


def test_both_jpeg_decoders_give_the_same_pixels_of_photographs(shared_file):
    fast = 0
    with zipfile.ZipFile(shared_file("photos.zip")) as archive:
        for name in [name for name in archive.namelist() if name.endswith("JPEG")][::4]:
            data = archive.read(name)
            for wanted in (None, (64, 64), (224, 224)):
                pixels = _decode_plain_jpeg(data, wanted)
                fast += pixels is not None
                assert pixels is None or np.array_equal(pixels, _decode_any(data, name, wanted)), (name, wanted)
    assert fast > 140


@pytest.mark.parametrize("kind", ["CMYK", "damaged", "cut off", "with other notes"])
def test_what_the_fast_decoder_cannot_do_goes_to_pillow(landscape, encode, kind):
    picture = Image.fromarray(landscape(40, 60))
    whole = encode(picture.convert("CMYK") if kind == "CMYK" else picture, "JPEG")
    data = {"damaged": whole[:300] + whole[420:], "cut off": whole[:-200]}.get(kind, whole)
    if kind == "with other notes":  # an orientation that only Pillow finds
        notes = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
        data = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(notes) + 2) + notes + whole[2:]
        assert decode(data, "on its side").shape == (60, 40, 3)
        return
    assert _decode_plain_jpeg(data, None) is None


@pytest.mark.parametrize(
    "wanted", [(1, 1), (12, 20), (25, 10), (10, 40), (50, 80), (51, 80), (100, 160), (101, 160), (400, 640)]
)
@pytest.mark.parametrize("number", ORIENTATIONS)
def test_no_less_detail_is_decoded_than_asked_for(landscape, encode, number, wanted):
    data = encode(landscape(100, 160), "JPEG", exif=turned(number))
    height, width = decode(data, "a picture").shape[:2]
    got = decode(data, "a picture", wanted).shape[:2]
    assert all(side >= min(asked, whole) for side, asked, whole in zip(got, wanted, (height, width), strict=True))


@pytest.mark.parametrize(
    ("wanted", "size"),
    [
        ((12, 20), (13, 20)),
        ((13, 20), (25, 40)),
        ((25, 40), (25, 40)),
        ((26, 1), (50, 80)),
        ((1, 41), (50, 80)),
        ((51, 1), (100, 160)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_suffices(landscape, encode, wanted, size):
    assert decode(encode(landscape(100, 160), "JPEG"), "a picture", wanted).shape == (*size, 3)


def test_other_formats_are_decoded_whole(noise, encode):
    pixels = noise(80, 80, 3)
    assert np.array_equal(decode(encode(pixels, "PNG"), "a picture", (8, 8)), pixels)


@pytest.mark.parametrize("wanted", [(8, 8), (25, 40)])
def test_a_grey_jpeg_stays_grey_at_any_scale(landscape, encode, wanted):
    data = encode(landscape(100, 160)[..., :1], "JPEG")
    assert decode(data, "a picture", wanted).shape[2] == 1


def test_the_content_decides_and_not_the_name(tmp_path, noise, encode):
    (tmp_path / "a.jpg").write_bytes(encode(noise(4, 4, 3), "PNG"))
    assert np.array_equal(decode_file(tmp_path / "a.jpg"), noise(4, 4, 3))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # in a test the filter of the module is not in force
@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_that_was_cut_off_is_refused_or_whole(noise, encode, kind):
    data = encode(noise(24, 20, 3), kind)
    pixels, refused = decode(data, "whole"), 0
    for length in [*range(1, len(data), max(1, len(data) // 80)), len(data) - 1]:
        try:
            assert np.array_equal(decode(data[:length], "cut off"), pixels), length
        except PictureError:
            refused += 1
    assert refused > 70


@pytest.mark.parametrize("at_least", [None, (6, 5)], ids=["whole", "scaled"])
def test_a_jpeg_without_its_second_half_is_refused(tmp_path, noise, encode, refuses, at_least):
    data = encode(noise(64, 48, 3), "JPEG")
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    with refuses(PictureError, "half.jpg: image file is truncated"):
        decode_file(tmp_path / "half.jpg", at_least)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_bytes_give_pixels_or_a_picture_error_and_nothing_else(noise, encode, kind):
    data = encode(noise(24, 20, 3), kind)
    shapes = set()
    for position in range(0, len(data), max(1, len(data) // 100)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        try:
            shapes.add(decode(bytes(damaged), "damaged").ndim)
        except PictureError as error:
            shapes.add(type(error))
    assert shapes <= {3, PictureError}
    assert PictureError in shapes


def png_of_size(width, height):
    """A PNG of a few bytes whose header claims this size."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_500, 20_000, 100_000])
def test_a_decompression_bomb_is_refused(side, refuses):
    with refuses(PictureError, "bomb.png"):
        decode(png_of_size(side, side), "bomb.png")


def test_the_limit_counts_pixels(monkeypatch, noise, encode, refuses):
    monkeypatch.setattr(decode_module, "MAX_PIXELS", 35)
    assert decode(encode(noise(5, 7, 3)), "just right").shape == (5, 7, 3)
    with refuses(PictureError, "6×6 pixels are more than 35"):
        decode(encode(noise(6, 6, 3)), "too large")


class Trap:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_called_jpg_is_named_and_never_unpickled(tmp_path, protocol, refuses):
    (tmp_path / "a.jpg").write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol))
    with refuses(PictureError, "it looks like a Python pickle"):
        decode_file(tmp_path / "a.jpg")
    assert not (tmp_path / "sprung").exists()


def test_saved_weights_called_jpg_are_no_picture(tmp_path, refuses):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.jpg")
    with refuses(PictureError, "it is a zip archive, or what is stored as one: a document, saved weights"):
        decode_file(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>not found</html>\n", "it is a web page, as a failed download leaves"),
        (b"x" * 5000, "it looks like text: 'xxxx"),
        (b"\x00\x01\x02\x03\xff\xfe\xfd\xfc\xfb", "it begins with the bytes 00 01 02 03 ff fe fd fc$"),
        (b"\x80", "it begins with the bytes 80"),
        (b"\xff\xd8\xff\xe0", "picture.jpg"),
    ],
    ids=["empty", "a page", "much text", "bytes", "one byte", "the start of a JPEG"],
)
def test_what_is_no_picture_is_refused_and_said_to_be_what_it_is(tmp_path, content, reason, refuses):
    (tmp_path / "picture.jpg").write_bytes(content)
    with refuses(PictureError, "cannot read the picture") as raised:
        decode_file(tmp_path / "picture.jpg")
    assert raised.match(f"(?m){reason}")
    assert str(tmp_path / "picture.jpg") in raised.value.problem
    assert "JPEG, PNG" in raised.value.expected


def test_a_vector_drawing_or_a_page_is_not_opened(refuses):
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n"
    with refuses(PictureError, "it is a PostScript drawing"):
        decode(drawing, "a.jpg")


@pytest.mark.parametrize("name", ["missing.jpg", "."])
def test_a_file_that_cannot_be_read_is_a_picture_error(tmp_path, name, refuses):
    with refuses(PictureError, "No such file|Is a directory"):
        decode_file(tmp_path / name)


def test_pixels_belong_to_the_caller(noise, encode):
    for pixels in (noise(4, 4, 3), noise(4, 4, 1)):
        assert decode(encode(pixels), "a picture").flags.writeable


def test_every_format_has_its_endings():
    endings = {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
    assert {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm"} <= SUFFIXES <= endings


def test_an_opened_picture_gives_the_same_channels_as_its_bytes(noise, encode):
    data = encode(noise(5, 6, 3))
    with Image.open(io.BytesIO(data)) as picture:
        assert np.array_equal(to_channels(picture), decode(data, "a picture"))


def test_real_photographs_are_decoded_to_the_pixels_that_pillow_gives(shared_file):
    with zipfile.ZipFile(shared_file("photos.zip")) as archive:
        for name in archive.namelist()[::20]:
            data = archive.read(name)
            with Image.open(io.BytesIO(data)) as picture:
                expected = np.asarray(picture)
                expected = expected[..., None] if expected.ndim == 2 else expected
            assert np.array_equal(decode(data, name), expected), name


def test_the_gif_among_real_photographs_is_read(shared_file):
    with zipfile.ZipFile(shared_file("hymenoptera.zip")) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gif"))
        assert decode(archive.read(name), name).shape[2] in (1, 3)
