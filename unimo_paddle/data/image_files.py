"""Image files to pixels: the size is checked in the header, damage and odd formats are named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from unimo_paddle.data.shards import read_bytes, size_of
from unimo_paddle.errors import BadSample

MAX_PIXELS = 10**8
# Eight bytes hold a pixel in every format read here; a larger file is no image of that size.
BYTES_PER_PIXEL = 8

# Start-of-frame markers of JPEG; C4, C8 and CC are tables.
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# The end of entropy-coded data: a marker that is neither a stuffed zero, a restart nor filling.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
                 8: cv2.IMREAD_REDUCED_COLOR_8}  # fmt: skip


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says of itself before its pixels."""

    format: str
    width: int
    height: int
    may_have_alpha: bool = False


def read_image(
    path: Path | str, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None
) -> np.ndarray:
    """Read a JPEG, PNG, WebP or BMP file, or image of a shard, as [H, W, 3] uint8, red first.

    Grey, CMYK and 16-bit images become 8-bit colour; EXIF rotation is applied (not to images with
    an alpha channel, which are laid on white). Whatever cannot be read raises BadSample.

    Args:
        max_pixels: larger images are refused from their header, before any pixel is decoded.
        min_side: a large JPEG may come back at 1/2, 1/4 or 1/8 of its size, as long as its
            shorter side keeps this many pixels: several times faster.
    """
    path = Path(path)
    try:
        if size_of(path) > BYTES_PER_PIXEL * max_pixels:
            raise BadSample(str(path), f"file is too large for {max_pixels} pixels")
        data = read_bytes(path)
    except OSError as error:
        raise BadSample(str(path), f"cannot be read: {error.strerror}") from None
    return decode_image(data, where=str(path), max_pixels=max_pixels, min_side=min_side)


def decode_image(
    data: bytes, *, where: str, max_pixels: int = MAX_PIXELS, min_side: int | None = None
) -> np.ndarray:
    """Decode the bytes of an image file as ``read_image`` does; ``where`` names it in messages."""
    if not data:
        raise BadSample(where, "file is empty")
    header = read_header(data, where=where)
    if header.width < 1 or header.height < 1:
        raise BadSample(where, f"image of {header.width} x {header.height} pixels")
    if header.width * header.height > max_pixels:
        raise BadSample(
            where, f"image of {header.width} x {header.height} pixels exceeds {max_pixels} pixels"
        )
    if header.format == "JPEG" and not _jpeg_is_complete(data):
        raise BadSample(where, "JPEG is truncated")
    array = np.frombuffer(data, np.uint8)
    pixels = _decode(array, cv2.IMREAD_UNCHANGED) if header.may_have_alpha else None
    if pixels is not None and pixels.ndim == 3 and pixels.shape[2] == 4:
        return _lay_on_white(pixels)
    pixels = _decode(array, _decode_mode(header, min_side))
    if pixels is None:
        raise BadSample(where, f"{header.format} is truncated or damaged")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _decode(array: np.ndarray, mode: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(array, mode)
    except cv2.error:
        return None


def _decode_mode(header: ImageHeader, min_side: int | None) -> int:
    if header.format != "JPEG" or min_side is None:
        return cv2.IMREAD_COLOR
    side = min(header.width, header.height)
    fitting = [factor for factor in _JPEG_REDUCED if side // factor >= min_side]
    return _JPEG_REDUCED[max(fitting)] if fitting else cv2.IMREAD_COLOR


def _lay_on_white(pixels: np.ndarray) -> np.ndarray:
    depth = np.float32(np.iinfo(pixels.dtype).max)
    values = pixels.astype(np.float32) / depth
    alpha = values[:, :, 3:]
    colours = values[:, :, 2::-1] * alpha + (1 - alpha)
    return np.rint(colours * 255).astype(np.uint8)


def read_header(data: bytes, *, where: str) -> ImageHeader:
    """Find format and size in the first bytes of an image file."""
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg_header(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
            return _png_header(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_header(data)
        if data.startswith(b"BM"):
            return _bmp_header(data)
    except IndexError:
        raise BadSample(where, "image header is truncated") from None
    raise BadSample(where, "not a JPEG, PNG, WebP or BMP image")


def _number(data: bytes, start: int, size: int, order: str) -> int:
    if start + size > len(data):
        raise IndexError(start)
    return int.from_bytes(data[start : start + size], order)


def _jpeg_header(data: bytes) -> ImageHeader:
    place = 2
    while True:
        if data[place] != 0xFF:
            raise IndexError(place)
        marker = data[place + 1]
        if marker == 0xFF:  # filling before a marker
            place += 1
        elif marker in _JPEG_FRAMES:
            height = _number(data, place + 5, 2, "big")
            return ImageHeader("JPEG", _number(data, place + 7, 2, "big"), height)
        elif marker in (0xD9, 0xDA):  # the end or the pixels, and no size so far
            raise IndexError(place)
        else:
            place += 2 + _number(data, place + 2, 2, "big")


def _jpeg_is_complete(data: bytes) -> bool:
    """Walk the segments to the end-of-image marker; decoders may fill what is missing with grey."""
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return False
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xDA:
            found = _JPEG_MARKER.search(data, place)
            if found is None:
                return False
            place = found.start()
            if data[place + 1] == 0xD9:
                return True
    return False


def _png_header(data: bytes) -> ImageHeader:
    width, height = _number(data, 16, 4, "big"), _number(data, 20, 4, "big")
    has_alpha_channel = data[25] in (4, 6)
    return ImageHeader("PNG", width, height, has_alpha_channel or b"tRNS" in data[:4096])


def _webp_header(data: bytes) -> ImageHeader:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = _number(data, 26, 2, "little"), _number(data, 28, 2, "little")
        return ImageHeader("WebP", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        bits = _number(data, 21, 4, "little")
        return ImageHeader("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, True)
    if kind == b"VP8X":
        width, height = _number(data, 24, 3, "little") + 1, _number(data, 27, 3, "little") + 1
        return ImageHeader("WebP", width, height, bool(data[20] & 0x10))
    raise IndexError(12)


def _bmp_header(data: bytes) -> ImageHeader:
    if _number(data, 14, 4, "little") == 12:  # the header of OS/2
        return ImageHeader("BMP", _number(data, 18, 2, "little"), _number(data, 20, 2, "little"))
    width, height = _number(data, 18, 4, "little"), _number(data, 22, 4, "little")
    # A negative height means that the rows run from top to bottom.
    return ImageHeader("BMP", width, height if height < 2**31 else 2**32 - height)
