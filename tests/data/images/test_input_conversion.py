"""One rule from decoded images to cells: planes, levels, sizes, and images for which it has no right answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nephros.data.images.decoded_image import DecodedImage, Layout
from nephros.data.images.input_conversion import (
    DEFAULT_CONVERSION,
    BrightestPixel,
    InputConversion,
    default_white_level,
    select_planes,
    to_cell,
)
from nephros.data.images.transforms import letterbox
from nephros.errors import FileError, InvalidArgument

SPOT = np.clip(240 - 28 * np.hypot(*np.mgrid[-8:8, -8:8]), 5, None).astype(np.uint8)
OTHER = np.roll(SPOT, 6, axis=(0, 1))
BLACK = np.zeros_like(SPOT)


def select(
    pixels: NDArray[Any], layout: Layout = "gray", channels: int = 1, channel: int | None = None
) -> DecodedImage:
    return select_planes("cell.tif", DecodedImage(pixels, layout), channels, channel)


def cell(
    pixels: NDArray[Any], shape: tuple[int, int, int] = (1, 16, 16), conversion: InputConversion = DEFAULT_CONVERSION
) -> tuple[NDArray[np.uint8], list[str]]:
    layout: Layout = "gray" if pixels.ndim == 2 else "color"
    return to_cell("cell.tif", select(pixels, layout, shape[0], conversion.channel), shape, conversion)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_only_bright_plane_is_the_gray_image(dtype: type) -> None:
    color: NDArray[Any] = np.dstack([BLACK, BLACK, SPOT]).astype(dtype)
    image = select(color, "color")
    assert np.array_equal(image.pixels, SPOT)
    assert image.layout == "gray"
    assert "blue" in image.notes[-1]
    assert select(color, "color", channels=3).pixels.shape == (16, 16, 3)


def test_two_bright_planes_need_channel() -> None:
    color = np.dstack([OTHER, BLACK, SPOT])
    with pytest.raises(FileError) as exc_info:
        select(color, "color")
    for expected in ("cell.tif", "red", "blue", "`channel`", "0 or 2"):
        assert expected in str(exc_info.value)
    image = select(color, "color", channel=2)
    assert np.array_equal(image.pixels, SPOT)
    assert "blue" in image.notes[-1]
    assert np.array_equal(cell(color, (3, 16, 16), InputConversion(channel=0))[0], np.dstack([OTHER] * 3))


def test_channels_that_are_no_colors_need_channel() -> None:
    with pytest.raises(FileError, match=r"3 samples per pixel.*`channel`.*from 0 to 2"):
        select(np.dstack([OTHER, BLACK, SPOT]), "channels")
    assert np.array_equal(select(np.dstack([OTHER, SPOT]), "channels", channel=1).pixels, SPOT)
    with pytest.raises(FileError, match="from 0 to 1"):
        select(np.dstack([OTHER, SPOT]), "channels", channel=2)


def test_transparency_is_ignored_with_a_note_unless_it_alone_shows_something() -> None:
    for pixels, layout, expected in (
        (np.dstack([SPOT, OTHER]), "gray", SPOT),
        (np.dstack([SPOT, SPOT, SPOT, OTHER]), "color", np.dstack([SPOT] * 3)),
    ):
        image = select(pixels, layout)  # type: ignore[arg-type]
        assert np.array_equal(image.pixels, expected)
        assert "transparency" in image.notes[-1]
    white = np.full_like(SPOT, 255)
    for blank, n_colors in ((np.dstack([white, SPOT]), 1), (np.dstack([BLACK, BLACK, BLACK, SPOT]), 3)):
        layout = "gray" if n_colors == 1 else "color"
        with pytest.raises(FileError, match=f"`channel` to {n_colors}"):
            select(blank, layout)  # type: ignore[arg-type]
        assert np.array_equal(select(blank, layout, channel=n_colors).pixels, SPOT)  # type: ignore[arg-type]


def test_a_plain_image_has_no_channel_to_pick() -> None:
    assert np.array_equal(select(SPOT, channel=2).pixels, SPOT)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.zeros((3, 9), dtype=np.uint8), "9x3 pixels, too few"),
        (np.full((9, 9), np.nan, dtype=np.float32), "not numbers"),
        (np.where(SPOT > 200, np.inf, SPOT).astype(np.float32), "not numbers"),
        (SPOT.astype(np.int16) - 100, "negative pixels, down to -95"),
        ((SPOT.astype(np.float32) - SPOT.mean()) / SPOT.std(), "negative pixels"),
    ],
)
def test_what_is_no_cell_is_refused(pixels: NDArray[Any], expected: str) -> None:
    with pytest.raises(FileError, match=expected):
        select(pixels)


def test_slightly_negative_pixels_are_noise_around_black() -> None:
    image = select(SPOT.astype(np.float32) - 8)
    assert image.pixels.min() == 0
    assert np.array_equal(image.pixels, np.maximum(SPOT.astype(np.float32) - 8, 0))
    assert "negative" in image.notes[-1]


@pytest.mark.parametrize(
    ("pixels", "white_level", "kind"),
    [
        (SPOT.astype(np.uint16) * 16, 255 * 16, "16-bit"),
        (SPOT.astype(np.int32) * 1000, 255_000, "32-bit"),
        (SPOT.astype(np.float32) / 255, 1, "floating-point"),
        (SPOT.astype(np.float64) * 1e-3, 0.255, "floating-point"),
        (np.dstack([SPOT] * 3).astype(np.uint16) * 16, 255 * 16, "16-bit"),
    ],
)
def test_more_than_8_bits_are_scaled_by_the_white_level(pixels: NDArray[Any], white_level: float, kind: str) -> None:
    scaled, notes = cell(pixels, conversion=InputConversion(white_level))
    assert np.array_equal(scaled, SPOT)
    assert notes[0] == f"{kind} pixels scaled to 8-bit: {white_level:g} became 255"
    brighter, _ = cell(pixels, conversion=InputConversion(white_level / 2))
    assert brighter.max() == 255


def test_the_black_level_becomes_black() -> None:
    scaled, notes = cell(SPOT.astype(np.uint16) + 100, conversion=InputConversion(355, 100))
    assert np.array_equal(scaled, SPOT)
    assert "100 became 0 and 355 became 255" in notes[0]


@pytest.mark.parametrize(
    ("pixels", "white_level"), [(SPOT / 255, 4095), (SPOT.astype(np.uint16), 1.0), (SPOT.astype(np.uint16), 1.3)]
)
def test_a_white_level_of_another_kind_of_pixels_is_refused(pixels: NDArray[Any], white_level: float) -> None:
    with pytest.raises(FileError, match="`white_level`"):
        cell(pixels, conversion=InputConversion(white_level))


@pytest.mark.parametrize(
    ("brightest", "dtype", "expected"),
    [
        (0.8, np.float32, 1), (1.0, np.float64, 1), (0.01, np.float32, 0.01), (200.0, np.float32, 255),
        (3000.0, np.float32, 3000),
        (200, np.int64, 255), (3000, np.int32, 3000), (200, np.uint16, 200), (4000, np.uint16, 4000), (0, np.uint16, 1),
        (1, np.int32, 1), (200, ">u2", 200), (200, ">i4", 255),
    ],
)  # fmt: skip
def test_the_scale_of_pixels_is_told_by_their_type_and_the_brightest(
    brightest: float, dtype: type | str, expected: float
) -> None:
    assert default_white_level(BrightestPixel(brightest), np.dtype(dtype)) == expected


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ((0.5, 1.0), 1), ((0.5, 1.25), 1.25), ((0.5, 3.75), 3.75), ((0.5, 2.0), 2), ((1.0, 2.0), 255), ((15.0, 0.5), 15),
        ((15.0, 3.0), 255), ((0.5, 16.0), 255), ((0.5, 255.0), 255), ((0.5, 255.5), 255.5), ((0.0, 0.0), 1),
    ],
)  # fmt: skip
def test_fractions_beyond_1_are_no_8_bit_pixels(pixels: tuple[float, ...], expected: float) -> None:
    brightest = BrightestPixel()
    for pixel in pixels:
        brightest.add(np.full((2, 2), pixel, dtype=np.float32))
    assert default_white_level(brightest, np.dtype(np.float32)) == expected


def test_black_images_stay_black() -> None:
    for pixels in (BLACK.astype(np.uint16), BLACK.astype(np.float32)):
        assert cell(pixels, conversion=InputConversion(1.0))[0].max() == 0


def test_sizes_are_letterboxed_or_stretched() -> None:
    wide = np.hstack([SPOT, SPOT])
    padded, notes = cell(wide)
    assert np.array_equal(padded, letterbox(wide, 16, 16))
    assert "padded" in notes[0]
    stretched, notes = cell(wide, conversion=InputConversion(resize="stretch"))
    assert np.array_equal(stretched, np.asarray(Image.fromarray(wide).resize((16, 16), Image.Resampling.BICUBIC)))
    assert "stretched" in notes[0]
    for resize in ("letterbox", "stretch"):
        assert "(bicubic)" in cell(SPOT, (1, 8, 8), InputConversion(resize=resize))[1][0]


def test_a_conversion_survives_json() -> None:
    for conversion in (DEFAULT_CONVERSION, InputConversion(4095.0, 12.0, "stretch", 2)):
        assert InputConversion.from_dict(conversion.to_dict()) == conversion
    assert InputConversion.from_dict({}) == DEFAULT_CONVERSION
    for values in (
        {"white_level": float("nan")}, {"white_level": "4095"}, {"resize": "crop"}, {"channel": -1}, {"channel": True},
        {"white_level": 5, "black_level": 5}, {"gamma": 2}, {"black_level": None},
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError)):
            InputConversion.from_dict(values)


def test_a_user_overrides_what_is_given() -> None:
    trained = InputConversion(4095, 100, "stretch", 2)
    assert trained.override() == trained
    assert trained.override(white_level=255) == InputConversion(255, 0, "stretch", 2)
    assert trained.override(channel=0) == InputConversion(4095, 100, "stretch", 0)
    for parameter, value in (("white_level", 0), ("white_level", float("nan")), ("white_level", 1e12), ("channel", -1)):
        with pytest.raises(InvalidArgument) as exc_info:
            trained.override(**{parameter: value})  # type: ignore[arg-type]
        assert exc_info.value.parameter == parameter


def test_three_planes_one_after_the_other_may_be_channels() -> None:
    planes = np.dstack([SPOT, OTHER, SPOT[::-1] // 2 + 60])
    with pytest.raises(FileError, match="`channel`"):
        select(planes, "planes")
    assert np.array_equal(select(planes, "planes", channel=1).pixels, OTHER)
    assert "colors" not in str(select(planes, "color").notes)
    image = select(planes, "planes", channels=3)
    assert image.layout == "color"
    assert "one after the other" in image.notes[-1]
    assert np.array_equal(select(np.dstack([SPOT] * 3), "planes").pixels[..., 0], SPOT)


def test_pixels_above_the_white_level_are_noted() -> None:
    pixels = np.tile(np.arange(16, dtype=np.uint16) * 100, (16, 1))
    assert not any("above" in note for note in cell(pixels, conversion=InputConversion(white_level=1500))[1])
    converted, notes = cell(pixels, conversion=InputConversion(white_level=1000))
    assert (converted == 255).sum() == 6 * 16
    assert "above the white level" in notes[-1]
