"""The one preprocessing: decoding to RGB, the transform to uint8, and the spec."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures import Pixels, encode, pattern, plain
from PIL import Image
from pydantic import ValidationError

from taxon.core.errors import ImageError
from taxon.core.fingerprint import sha256_bytes
from taxon.preprocessing import Preprocessing, decode, prepare, resize
from taxon.preprocessing.decode import (
    FORMATS,
    MAXIMUM_FILE_BYTES,
    decode_details,
    read_picture,
)

SPEC = Preprocessing()
ORIENTATION_TAG = 0x0112
LOSSLESS = {
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "PPM": {},
}
# EXIF 2.3, table 6: the stored picture must be changed so to be upright.
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


def _pixels(data: bytes, spec: Preprocessing = SPEC) -> Pixels:
    image = decode(data, spec, "picture")
    assert image.mode == "RGB"
    return np.asarray(image)


def _reason(data: bytes, spec: Preprocessing = SPEC) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, spec, "shelf/photo.jpg")
    assert str(caught.value) == f"shelf/photo.jpg: {caught.value.reason}"
    assert caught.value.source == "shelf/photo.jpg"
    assert "shelf" not in caught.value.reason
    return caught.value.reason


def _oriented(orientation: int, format_name: str) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return encode(pattern(12, 8), format_name, exif=exif, **LOSSLESS.get(format_name, {}))


@pytest.mark.parametrize("format_name", LOSSLESS)
def test_lossless_formats_decode_to_their_exact_pixels(format_name: str) -> None:
    pixels = pattern(17, 11)
    data = encode(pixels, format_name, **LOSSLESS[format_name])
    np.testing.assert_array_equal(_pixels(data), pixels)


def test_jpeg_decodes_to_nearly_its_pixels() -> None:
    rows, columns = np.mgrid[0:40, 0:60]
    pixels = np.stack([rows * 5, columns * 4, rows + columns], axis=-1).astype(np.uint8)
    decoded = _pixels(encode(pixels, "JPEG", quality=95)).astype(int)
    assert np.abs(decoded - pixels).mean() < 3


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_turns_the_picture_upright(orientation: int, format_name: str) -> None:
    expected = UPRIGHT[orientation](pattern(12, 8))
    np.testing.assert_array_equal(_pixels(_oriented(orientation, format_name)), expected)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_turns_a_jpeg_upright(orientation: int) -> None:
    stored = _pixels(_oriented(1, "JPEG"))
    np.testing.assert_array_equal(
        _pixels(_oriented(orientation, "JPEG")), UPRIGHT[orientation](stored)
    )


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_can_be_switched_off(orientation: int, format_name: str) -> None:
    spec = Preprocessing(exif_orientation=False)
    np.testing.assert_array_equal(
        _pixels(_oriented(orientation, format_name), spec), pattern(12, 8)
    )


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_impossible_exif_orientation_counts_as_upright(orientation: int) -> None:
    np.testing.assert_array_equal(_pixels(_oriented(orientation, "PNG")), pattern(12, 8))


def test_unreadable_exif_counts_as_upright() -> None:
    data = encode(pattern(12, 8), "PNG", exif=b"Exif\x00\x00nonsense, no TIFF header")
    np.testing.assert_array_equal(_pixels(data), pattern(12, 8))


def test_palette_is_converted() -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert (_pixels(encode(image)) == (10, 20, 30)).all()


@pytest.mark.parametrize("format_name", ["PNG", "GIF"])
def test_transparent_palette_entry_shows_the_white_background(format_name: str) -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    pixels = _pixels(encode(image, format_name, transparency=0))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 3].tolist() == [10, 20, 30]


@pytest.mark.parametrize(("mode", "key"), [("RGB", (10, 20, 30)), ("L", 10)])
def test_transparent_key_colour_shows_the_background(mode: str, key: object) -> None:
    image = Image.new(mode, (4, 2), key)  # type: ignore[arg-type]
    assert (_pixels(encode(image, transparency=key)) == 255).all()


@pytest.mark.parametrize("background", [255, 0, 77])
def test_alpha_blends_over_the_background_of_the_spec(background: int) -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0] = [(200, 100, 0, 255), (200, 100, 0, 0), (200, 100, 0, 128)]
    pixels = _pixels(encode(rgba), Preprocessing(background=background))[0].astype(int)
    assert pixels[0].tolist() == [200, 100, 0]
    assert pixels[1].tolist() == [background] * 3
    blended = np.array([200, 100, 0]) * 128 / 255 + background * 127 / 255
    assert np.abs(pixels[2] - blended).max() <= 1


def test_grey_with_alpha_blends_over_white() -> None:
    image = Image.new("LA", (2, 1), (40, 255))
    image.putpixel((1, 0), (40, 0))
    assert _pixels(encode(image)).tolist() == [[[40] * 3, [255] * 3]]


@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(format_name: str) -> None:
    levels = np.array([[0, 128, 129, 257, 1000, 32768, 65535]], np.uint16)
    pixels = _pixels(encode(levels, format_name))
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 1, 4, 128, 255]
    assert (pixels == pixels[..., :1]).all()


def test_16_bit_grey_map_is_scaled() -> None:
    data = b"P5\n3 1\n65535\n" + struct.pack(">3H", 0, 32768, 65535)
    assert _pixels(data)[0, :, 0].tolist() == [0, 128, 255]


def _grey_tiff(levels: bytes, bits: int, *, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A TIFF 6.0 file of one row of four pixels."""
    fields = [
        *((tag, 3, value) for tag, value in ((256, 4), (257, 1), (258, bits), (259, 1))),
        *((262, 3, photometric), (273, 4, 8), (277, 3, 1), (278, 3, 1), (279, 4, len(levels))),
        (339, 3, sample_format),
    ]
    directory = struct.pack("<H", len(fields))
    for tag, kind, value in fields:
        directory += struct.pack("<HHII", tag, kind, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(levels)) + levels + directory + b"\0" * 4


def test_12_bit_grey_is_scaled_by_its_own_range() -> None:
    packed = int("".join(f"{level:012b}" for level in (0, 1024, 2048, 4095)), 2).to_bytes(6, "big")
    assert _pixels(_grey_tiff(packed, 12))[0, :, 0].tolist() == [0, 64, 128, 255]


@pytest.mark.parametrize(("photometric", "seen"), [(1, [0, 4, 128, 255]), (0, [255, 251, 127, 0])])
def test_zero_is_white_where_a_tiff_says_so(photometric: int, seen: list[int]) -> None:
    levels = struct.pack("<4H", 0, 1000, 32768, 65535)
    data = _grey_tiff(levels, 16, photometric=photometric)
    assert _pixels(data)[0, :, 0].tolist() == seen


def test_levels_of_unknown_range_are_refused() -> None:
    signed = _grey_tiff(struct.pack("<4h", 0, 100, 16000, 32767), 16, sample_format=2)
    assert "signed pixels" in _reason(signed)
    assert "32-bit pixels" in _reason(encode(Image.new("I", (4, 4), 1000), "TIFF"))


def test_black_and_white_picture_is_converted() -> None:
    image = Image.new("1", (2, 1), 0)
    image.putpixel((1, 0), 1)
    assert _pixels(encode(image)).tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("format_name", ["JPEG", "TIFF"])
def test_cmyk_is_converted_and_not_inverted(format_name: str) -> None:
    magenta = Image.new("CMYK", (16, 16), (0, 255, 0, 0))
    centre = _pixels(encode(magenta, format_name))[8, 8].astype(int)
    assert np.abs(centre - (255, 0, 255)).max() <= 4


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "TIFF", "PNG"])
def test_first_frame_of_an_animation_counts(format_name: str) -> None:
    red, blue = plain(8, 8, (255, 0, 0)), plain(8, 8, (0, 0, 255))
    options = {"lossless": True} if format_name == "WEBP" else {}
    data = encode(red, format_name, save_all=True, append_images=[blue], **options)
    assert (_pixels(data) == (255, 0, 0)).all()


@pytest.mark.parametrize("format_name", ["ICO", "TGA", "PCX", "PDF"])
def test_formats_outside_of_the_list_are_refused(format_name: str) -> None:
    assert format_name not in FORMATS
    assert "not a picture" in _reason(encode(pattern(16, 16), format_name))


def test_empty_file_is_named() -> None:
    assert _reason(b"") == "the file is empty"


def test_text_is_not_a_picture() -> None:
    assert "not a picture" in _reason(b"path,label\na.png,cat\n")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_picture_is_refused(format_name: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    data = encode(noise, format_name)
    assert decode(data, SPEC, "whole").size == (60, 50)
    assert _reason(data[: int(len(data) * share)])


FILL = SPEC.model_copy(update={"truncated": "fill"})


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_jpeg_is_filled_by_policy(share: float, progressive: bool) -> None:
    photo = np.asarray(plain(96, 80, (200, 120, 40)))
    noisy = photo + np.random.default_rng(0).integers(0, 40, photo.shape, dtype=np.uint8)
    data = encode(noisy, "JPEG", quality=90, progressive=progressive)
    half = data[: int(len(data) * share)]
    filled = decode_details(half, FILL, "x")
    assert filled.truncated and filled.image.size == (96, 80)
    assert not decode_details(data, FILL, "x").truncated
    if not progressive:  # a progressive file holds all rows from the start, coarsely
        whole = np.asarray(decode(data, FILL, "x"))
        assert np.array_equal(np.asarray(filled.image)[:8, :32], whole[:8, :32])
    with pytest.raises(ImageError) as caught:
        decode(half, SPEC, "x")
    assert caught.value.kind == "truncated"


def test_a_cameras_jpeg_with_a_second_picture_is_filled_too() -> None:
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encode(noisy, "MPO", save_all=True, append_images=[noisy.copy()])
    assert decode_details(data, SPEC, "x").format == "MPO"
    filled = decode_details(data[: len(data) // 4], FILL, "x")
    assert filled.truncated and filled.image.size == (64, 64)


def test_only_jpeg_is_filled() -> None:
    data = encode(pattern(60, 50), "PNG")
    with pytest.raises(ImageError):
        decode(data[: len(data) // 2], FILL, "x")


def test_heic_is_read_where_the_extra_is_installed() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    photo = plain(64, 48, (200, 120, 40))
    stream = io.BytesIO()
    pillow_heif.from_pillow(photo).save(stream, quality=95)
    decoded = decode_details(stream.getvalue(), SPEC, "x")
    assert decoded.format == "HEIF"
    difference = np.asarray(decoded.image).astype(int) - np.asarray(photo)
    assert np.abs(difference).max() <= 8


def test_heic_without_the_extra_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["taxon.preprocessing.decode"], "_register_heif", lambda: False)
    assert "taxon-vision[heic]" in _reason(b"\0\0\0\x18ftypheic" + b"\0" * 40)


def test_avif_in_the_container_of_heic_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["taxon.preprocessing.decode"], "_register_heif", lambda: False)
    data = encode(plain(32, 32, (10, 200, 30)), "AVIF", quality=95)
    assert data[16:20] == b"avif"  # among the compatible brands
    general = data[:8] + b"mif1" + data[12:]
    assert decode_details(general, SPEC, "x").format == "AVIF"


def test_details_say_what_the_file_says() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker\0", "One"
    details = decode_details(
        encode(plain(8, 8, (9, 9, 9)).convert("L"), "JPEG", exif=exif), SPEC, "x"
    )
    assert (details.format, details.mode, details.camera) == ("JPEG", "L", "Maker One")
    assert decode_details(encode(pattern(8, 8)), SPEC, "x").camera is None


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"text", "format"),
        (encode(pattern(60, 50), "JPEG")[:900], "truncated"),
    ],
)
def test_errors_carry_their_kind(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data, SPEC, "x")
    assert caught.value.kind == kind


def test_at_least_keeps_more_of_a_large_jpeg() -> None:
    fast = Preprocessing(height=64, width=64, jpeg_dct_scaling=True)
    data = encode(pattern(1024, 768), "JPEG")
    assert decode(data, fast, "x").height < decode(data, fast, "x", at_least=300).height < 768


def _png_header(width: int, height: int) -> bytes:
    """A PNG that ends after its header: decoding it can only fail."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(header))
    start = b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + checksum + b"\0\0\0\0" + start


def test_pixel_limit_is_checked_without_decoding() -> None:
    data = _png_header(20, 20)
    assert "truncated or damaged" in _reason(data, Preprocessing(max_pixels=400))
    assert "20x20 is over the limit of 399 pixels" in _reason(data, Preprocessing(max_pixels=399))


def test_decompression_bomb_is_refused_by_its_header() -> None:
    assert "limit" in _reason(_png_header(60_000, 60_000))


@pytest.mark.parametrize(
    ("mode", "value", "said"),
    [("F", 0.5, "floating-point"), ("I", 100_000, "32-bit"), ("I", -1, "32-bit")],
)
def test_pixels_that_have_no_8_bit_meaning_are_refused_with_the_reason(
    mode: str, value: float, said: str
) -> None:
    assert said in _reason(encode(Image.new(mode, (4, 4), value), "TIFF"))


def test_the_largest_pictures_are_refused_with_size_and_limit() -> None:
    reason = _reason(_png_header(20_000, 20_000))
    assert "400000000 pixels, over the limit of 89478485 pixels" in reason
    reason = _reason(_png_header(20_000, 20_000), Preprocessing(max_pixels=10**9))
    assert "400000000 pixels, over the limit of 178956970 pixels" in reason


@pytest.mark.parametrize("background", [255, 7])
def test_clear_level_of_a_16_bit_grey_png_shows_the_background(background: int) -> None:
    levels = np.array([[0, 257], [0, 65535]], np.uint16)
    data = encode(Image.fromarray(levels), "PNG")
    content = b"tRNS" + struct.pack(">H", 257)
    chunk = struct.pack(">I", 2) + content + struct.pack(">I", zlib.crc32(content))
    place = data.index(b"IDAT") - 4
    clear = data[:place] + chunk + data[place:]
    image = decode(clear, Preprocessing(background=background), "x")
    assert np.asarray(image)[..., 0].tolist() == [[0, background], [0, 255]]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(ImageError, match=f"it is a.*{kind}.*, not a file") as raised:
        read_picture(path)
    assert raised.value.kind == "missing"


def test_file_that_no_picture_has_the_size_of_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "x.jpg").open("wb") as stream:
        stream.truncate(MAXIMUM_FILE_BYTES + 1)
    said = r"1,073,741,825 bytes, over the limit of 1,073,741,824"
    with pytest.raises(ImageError, match=said) as raised:
        read_picture(tmp_path / "x.jpg")
    assert raised.value.kind == "too-large"


def test_missing_file_is_an_image_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.jpg: No such file"):
        read_picture(tmp_path / "gone.jpg")


def _decode_or_refuse(data: bytes) -> None:
    spec = Preprocessing(max_pixels=20_000)
    try:
        image = decode(data, spec, "fuzz.bin")
    except ImageError as error:
        refused = error
    else:
        assert image.mode == "RGB"
        assert np.asarray(image).shape == (image.height, image.width, 3)
        assert image.width * image.height <= spec.max_pixels
        return
    assert str(refused) == f"fuzz.bin: {refused.reason}"
    assert refused.reason


SIGNATURES = [
    b"",
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    b"GIF89a",
    b"BM",
    b"II*\x00",
    b"MM\x00*",
    b"RIFF\x00\x01\x00\x00WEBPVP8 ",
    b"P6\n",
    b"\x00\x00\x00\x20ftypavif",
]


@pytest.mark.filterwarnings("ignore")
@given(st.sampled_from(SIGNATURES), st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_random_bytes_give_an_image_error_or_a_picture(signature: bytes, data: bytes) -> None:
    _decode_or_refuse(signature + data)


VALID = [
    encode(pattern(23, 17), "PNG"),
    encode(pattern(23, 17), "JPEG"),
    _oriented(6, "JPEG"),
    encode(pattern(23, 17), "JPEG", progressive=True),
    encode(pattern(23, 17), "GIF"),
    encode(pattern(23, 17), "BMP"),
    encode(pattern(23, 17), "TIFF"),
    encode(pattern(23, 17), "TIFF", compression="tiff_lzw"),
    _oriented(8, "TIFF"),
    encode(pattern(23, 17), "WEBP"),
    encode(pattern(23, 17), "PPM"),
    encode(Image.fromarray(pattern(23, 17)).convert("P"), "PNG", transparency=3),
    encode(pattern(23, 17).astype(np.uint16)[..., 0] * 257, "PNG"),
]


@pytest.mark.filterwarnings("ignore")
@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    st.floats(0, 1),
)
@settings(max_examples=250, deadline=None)
def test_damaged_file_gives_an_image_error_or_a_picture(
    data: bytes, changes: list[tuple[float, int]], keep: float
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    # Half of the time the file is whole, else cut off somewhere.
    _decode_or_refuse(bytes(damaged[: int(2 * keep * len(damaged))]))


MODES = ("crop", "squash", "pad")
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos")


@pytest.mark.parametrize("size", [(20, 50), (50, 20), (9, 9), (1, 1), (300, 2)])
@pytest.mark.parametrize("mode", MODES)
def test_prepare_gives_uint8_of_the_size_of_the_spec(mode: str, size: tuple[int, int]) -> None:
    spec = Preprocessing(height=24, width=32, resize=mode)  # type: ignore[arg-type]
    prepared = prepare(encode(pattern(*size)), spec)
    assert prepared.shape == (3, 24, 32)
    assert prepared.dtype == np.uint8
    assert prepared.flags.c_contiguous


def test_prepare_keeps_the_order_of_the_channels() -> None:
    prepared = prepare(encode(plain(10, 10, (1, 2, 3))), Preprocessing(height=8, width=8))
    assert prepared[:, 0, 0].tolist() == [1, 2, 3]


def test_prepare_names_the_picture_it_cannot_read() -> None:
    with pytest.raises(ImageError, match=r"^x/y\.png: "):
        prepare(b"nonsense", SPEC, "x/y.png")


@pytest.mark.parametrize("background", [255, 7])
def test_pad_keeps_the_shape_on_a_border_of_the_background(background: int) -> None:
    spec = Preprocessing(height=32, width=32, resize="pad", background=background)
    prepared = np.asarray(resize(plain(40, 20, (200, 0, 0)), spec))
    assert (prepared[8:24] == (200, 0, 0)).all()
    assert (prepared[:8] == background).all()
    assert (prepared[24:] == background).all()


def test_pad_of_a_thin_line_still_shows_it() -> None:
    spec = Preprocessing(height=16, width=16, resize="pad")
    assert (np.asarray(resize(plain(1000, 1, (0, 0, 0)), spec)) == 0).any()


def test_crop_cuts_out_the_centre() -> None:
    # 100 x 60: bands of 20 at the left and right, of 6 above and below, around 60 x 48 of green.
    image = plain(100, 60, (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 20, 60))
    image.paste((0, 255, 0), (20, 6, 80, 54))
    spec = Preprocessing(height=16, width=16, resize="crop", crop_fraction=0.7)
    assert (np.asarray(resize(image, spec)) == (0, 255, 0)).all()
    whole = np.asarray(resize(image, spec.model_copy(update={"crop_fraction": 1.0})))
    assert (whole[2:-2, 3:-3] == (0, 255, 0)).all()
    assert (whole[0, :, 2] > 200).all()  # the band above is in it now


@pytest.mark.parametrize("fraction", [1.0, 0.875, 0.5])
def test_crop_keeps_the_stated_share_of_the_shorter_side(fraction: float) -> None:
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (100, 200, 3))
    spec = Preprocessing(height=50, width=50, crop_fraction=fraction, interpolation="bilinear")
    row = np.asarray(resize(Image.fromarray(np.ascontiguousarray(ramp)), spec))[25, :, 0]
    pixel = 2 * fraction
    assert row[0] == pytest.approx(100 - 50 * fraction + pixel / 2 - 0.5, abs=1)
    assert row[-1] == pytest.approx(100 + 50 * fraction - pixel / 2 - 0.5, abs=1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_picture_of_the_right_size_is_unchanged(mode: str, interpolation: str) -> None:
    spec = Preprocessing(
        height=24,
        width=40,
        resize=mode,  # type: ignore[arg-type]
        interpolation=interpolation,  # type: ignore[arg-type]
        crop_fraction=1,
    )
    pixels = pattern(40, 24)
    np.testing.assert_array_equal(prepare(encode(pixels), spec), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_squash_is_the_resize_of_pillow(interpolation: str) -> None:
    spec = Preprocessing(
        height=24,
        width=32,
        resize="squash",
        interpolation=interpolation,  # type: ignore[arg-type]
    )
    image = Image.fromarray(pattern(71, 45))
    expected = image.resize((32, 24), Image.Resampling[interpolation.upper()])
    np.testing.assert_array_equal(np.asarray(resize(image, spec)), np.asarray(expected))


@given(
    st.integers(1, 120),
    st.integers(1, 120),
    st.integers(8, 320),
    st.integers(8, 320),
    st.sampled_from([1.0, 0.95, 0.875]),
    st.sampled_from(MODES),
)
@example(11, 16, 299, 299, 1.0, "crop")  # 299 * (11 / 299) is a little more than 11
@example(29, 29, 224, 224, 1.0, "crop")
@settings(max_examples=60, deadline=None)
def test_every_size_of_picture_fits_every_size_of_input(
    width: int, height: int, input_width: int, input_height: int, fraction: float, mode: str
) -> None:
    spec = Preprocessing(
        width=input_width,
        height=input_height,
        crop_fraction=fraction,
        resize=mode,  # type: ignore[arg-type]
    )
    resized = resize(plain(width, height, (9, 9, 9)), spec)
    assert resized.size == (input_width, input_height)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("orientation", [1, 6])
def test_jpeg_decoded_at_a_fraction_of_its_size_is_nearly_the_same(
    mode: str, orientation: int
) -> None:
    rows, columns = np.mgrid[0:600, 0:480]
    pixels = np.stack([rows // 3, columns // 2, (rows + columns) // 5], axis=-1).astype(np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    data = encode(pixels, "JPEG", quality=95, exif=exif)
    exact = Preprocessing(height=120, width=120, resize=mode)  # type: ignore[arg-type]
    fast = exact.model_copy(update={"jpeg_dct_scaling": True})
    decoded = decode(data, fast, "x")
    assert decoded.width < decode(data, exact, "x").width
    # The resize only ever shrinks: no detail that the input could show is lost.
    assert min(decoded.size) * (fast.crop_fraction if mode == "crop" else 1) >= 120
    difference = prepare(data, fast).astype(int) - prepare(data, exact)
    assert np.abs(difference).max() <= 6


CHANGED = {
    "height": 225,
    "width": 225,
    "resize": "squash",
    "crop_fraction": 0.9,
    "interpolation": "bilinear",
    "jpeg_dct_scaling": True,
    "max_pixels": 1000,
    "truncated": "fill",
    "exif_orientation": False,
    "background": 0,
    "mean": (0.5, 0.456, 0.406),
    "std": (0.5, 0.224, 0.225),
}


def test_fingerprint_changes_with_every_field() -> None:
    assert set(CHANGED) == set(Preprocessing.model_fields) - {"version"}
    fingerprints = {Preprocessing(**{field: value}).fingerprint for field, value in CHANGED.items()}
    assert len(fingerprints | {SPEC.fingerprint}) == len(CHANGED) + 1


def test_equal_specs_have_equal_fingerprints() -> None:
    assert Preprocessing(**CHANGED).fingerprint == Preprocessing(**CHANGED).fingerprint


def test_spec_survives_json() -> None:
    spec = Preprocessing(**CHANGED)
    again = Preprocessing.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert again.fingerprint == spec.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"height": 7},
        {"crop_fraction": 0},
        {"crop_fraction": 1.1},
        {"background": 256},
        {"resize": "stretch"},
        {"interpolation": "nearest"},
        {"max_pixels": 0},
        {"colour": "bgr"},
        {"version": 2},
    ],
)
def test_spec_refuses_values_that_mean_nothing(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing.model_validate(change)


# Made with Pillow 13.0.0 and numpy 2.4.6. A change here is a change of what every trained model
# sees: raise the version of the spec rather than these figures.
GOLDEN = {
    ("crop", "bilinear"): "9ae11af42031ed027dcd8ae4b92be40d255fdbcfb4d85ee35912906ef3f13fd8",
    ("crop", "bicubic"): "6eb9b2dc74319530ee7f461e990787ef1cb684245655cecd51d1d35224605b85",
    ("crop", "lanczos"): "683e4dc747649d5347ef30e6088941c59e91f8c3cc2f7a30c499b2da844f3359",
    ("squash", "bilinear"): "91ec6ad88f8887ce2e05c8819c15079c6f9e71cd21b079e4900f59f21b80c11d",
    ("squash", "bicubic"): "25edd85e0bb86536a76ec262dc5c6274a5176724b61a7139bddd46aef1af3ad5",
    ("squash", "lanczos"): "afe48d3b531ac649efc5c5c23eca8fe95a97db1a0a4c9c37081b473b5ca8ae9b",
    ("pad", "bilinear"): "2614249190b52a85a024b0eb5e78d0ad84f8989ae5e5409a9f68f7601c81293c",
    ("pad", "bicubic"): "d0fcec4ceac3f3d73e49a895d4958e997d35f7be2f56607e166a9fba7c1838a6",
    ("pad", "lanczos"): "8985a41c176768579b7afb0b9faca76a87d2cc58a88bf3cb16ec21a1546f4d26",
}


def _golden(mode: str, interpolation: str) -> npt.NDArray[np.uint8]:
    spec = Preprocessing(
        height=24,
        width=32,
        resize=mode,  # type: ignore[arg-type]
        interpolation=interpolation,  # type: ignore[arg-type]
    )
    return prepare(encode(pattern(71, 45), "PNG"), spec)


@pytest.mark.parametrize(("mode", "interpolation"), GOLDEN)
def test_preprocessing_gives_the_same_bytes_as_ever(mode: str, interpolation: str) -> None:
    digest = sha256_bytes(_golden(mode, interpolation).tobytes())
    assert digest == GOLDEN[mode, interpolation]


def test_golden_hashes_cover_every_mode_and_interpolation() -> None:
    assert set(GOLDEN) == {(mode, filter_) for mode in MODES for filter_ in INTERPOLATIONS}
    assert len(set(GOLDEN.values())) == len(GOLDEN)


def test_decoding_does_not_depend_on_the_name_of_the_file() -> None:
    data = encode(pattern(12, 8), "PNG")
    one, other = decode(data, SPEC, "a.jpg"), decode(io.BytesIO(data).read(), SPEC, "b.gif")
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
