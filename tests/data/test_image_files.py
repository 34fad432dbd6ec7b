"""Image files of every kind, whole and damaged."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import cv2
import numpy as np
import pytest

from unimo_paddle.data.image_files import decode_image, read_header, read_image
from unimo_paddle.errors import BadSample

FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WebP", ".bmp": "BMP"}


def picture(height: int = 48, width: int = 80) -> np.ndarray:
    """A smooth image, red first, in which every corner has another colour."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], axis=2)
    return image.astype(np.uint8)


def encoded(suffix: str, image: np.ndarray | None = None) -> bytes:
    pixels = picture() if image is None else image
    if pixels.ndim == 3:
        order = [2, 1, 0, 3][: pixels.shape[2]]
        pixels = np.ascontiguousarray(pixels[:, :, order])
    return cv2.imencode(suffix, pixels)[1].tobytes()


def saved_by_pillow(kind: str, mode: str, **options) -> bytes:
    image_module = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image_module.fromarray(picture()).convert(mode).save(file, kind, **options)
    return file.getvalue()


def decode(data: bytes, **options) -> np.ndarray:
    return decode_image(data, where="x", **options)


def close(image: np.ndarray, expected: np.ndarray, tolerance: float = 6.0) -> bool:
    return (
        image.shape == expected.shape and np.abs(image.astype(float) - expected).mean() < tolerance
    )


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_read_with_red_first(suffix, tmp_path):
    path = tmp_path / f"image{suffix}"
    path.write_bytes(encoded(suffix))
    assert close(read_image(path), picture())


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_header_tells_format_and_size(suffix):
    header = read_header(encoded(suffix), where="x")
    assert (header.format, header.width, header.height) == (FORMATS[suffix], 80, 48)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_file_is_refused(suffix, share):
    data = encoded(suffix)
    with pytest.raises(BadSample, match=r"truncated|damaged"):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("cut", [1, 2, 3, 50])
def test_a_jpeg_without_its_last_bytes_is_refused(cut):
    with pytest.raises(BadSample, match=r"JPEG is truncated$"):
        decode(encoded(".jpg")[:-cut])


def test_a_truncated_progressive_jpeg_is_refused():
    data = saved_by_pillow("JPEG", "RGB", progressive=True)
    assert close(decode(data), picture())
    with pytest.raises(BadSample, match=r"JPEG is truncated$"):
        decode(data[:-20])


def test_bytes_after_the_end_of_a_jpeg_do_no_harm():
    assert close(decode(encoded(".jpg") + b"\0" * 10 + b"junk"), picture())


def test_an_embedded_thumbnail_does_not_hide_a_truncation():
    data = encoded(".jpg")
    thumbnail = b"\xff\xe2" + struct.pack(">H", 2 + len(data)) + data
    whole = data[:2] + thumbnail + data[2:]
    assert close(decode(whole), picture())
    with pytest.raises(BadSample, match=r"JPEG is truncated$"):
        decode(whole[:-200])


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("size", [1, 3, 9, 15, 24])
def test_a_header_cut_short_is_refused(suffix, size):
    with pytest.raises(BadSample):
        decode(encoded(suffix)[:size])


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(BadSample, match=r"empty\.jpg: file is empty"):
        read_image(tmp_path / "empty.jpg")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadSample, match="cannot be read: No such file"):
        read_image(tmp_path / "none.jpg")


@pytest.mark.parametrize("data", [b"hello, world", b"GIF89a" + b"\0" * 50, b"<svg></svg>"])
def test_a_file_of_another_kind_is_refused(data):
    with pytest.raises(BadSample, match="not a JPEG, PNG, WebP or BMP image"):
        decode(data)


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def jpeg_header(width: int, height: int) -> bytes:
    return b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"


@pytest.mark.parametrize("data", [png_header(40_000, 25_000), jpeg_header(40_000, 25_000)])
def test_a_huge_image_is_refused_from_its_header(data):
    with pytest.raises(BadSample, match="40000 x 25000 pixels exceeds 100000000"):
        decode(data)


def test_the_limit_of_pixels_can_be_set():
    with pytest.raises(BadSample, match="80 x 48 pixels exceeds 1000"):
        decode(encoded(".png"), max_pixels=1000)


def test_a_file_too_large_for_its_limit_is_not_read(tmp_path):
    (tmp_path / "large.png").write_bytes(encoded(".png") + b"\0" * 10_000)
    with pytest.raises(BadSample, match="too large for 1000 pixels"):
        read_image(tmp_path / "large.png", max_pixels=1000)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(BadSample, match="0 x 5 pixels"):
        decode(png_header(0, 5))


def test_a_damaged_png_is_refused():
    data = bytearray(encoded(".png"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(BadSample, match="PNG is truncated or damaged"):
        decode(bytes(data))


def test_cmyk_becomes_colour():
    assert close(decode(saved_by_pillow("JPEG", "CMYK")), picture())


def test_grey_becomes_three_equal_colours():
    image = decode(encoded(".png", picture()[:, :, 0]))
    assert (image == picture()[:, :, :1]).all()


def test_sixteen_bits_become_eight():
    image = decode(encoded(".png", picture().astype(np.uint16) * 257))
    assert np.abs(image.astype(int) - picture()).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_rotation_is_applied(kind):
    image_module = pytest.importorskip("PIL.Image")
    exif = image_module.Exif()
    exif[0x0112] = 6  # the top of the scene is the right-hand side of the stored image
    image = decode(saved_by_pillow(kind, "RGB", exif=exif))
    assert close(image, np.rot90(picture(), -1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_pixels_are_white(dtype):
    most = np.iinfo(dtype).max
    image = np.zeros((4, 4, 4), dtype)
    image[:, :, 0] = most  # red
    image[:2, :, 3] = most
    result = decode(encoded(".png", image))
    assert (result[:2] == [255, 0, 0]).all()
    assert (result[2:] == [255, 255, 255]).all()


def test_half_transparent_webp_is_mixed_with_white():
    image = decode(saved_by_pillow("WEBP", "RGBA", lossless=True))
    assert (image == picture()).all()


def test_a_large_jpeg_may_come_back_smaller():
    data = encoded(".jpg", picture(400, 640))
    assert decode(data, min_side=100).shape == (100, 160, 3)
    assert decode(data, min_side=101).shape == (200, 320, 3)
    assert decode(data, min_side=500).shape == (400, 640, 3)


@pytest.mark.parametrize("suffix", FORMATS)
def test_flipped_bytes_give_an_image_or_a_bad_sample_and_nothing_else(suffix):
    rng = np.random.default_rng(0)
    original = encoded(suffix)
    for place in rng.integers(len(original), size=60):
        data = bytearray(original)
        data[place] ^= int(rng.integers(1, 256))
        with contextlib.suppress(BadSample):
            assert decode(bytes(data), max_pixels=10**6).dtype == np.uint8
