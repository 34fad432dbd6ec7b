"""An image and a model that do not fit each other."""

from __future__ import annotations

import pytest

from unimo_paddle.data.images import ImageConfig
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.segments import check_image

PATCHES = ImageConfig(image_size=12, patch_size=4)  # 3 x 3 patches of 48 numbers
OBJECTS = ImageConfig(kind="objects", patch_size=4)
REGIONS = ImageConfig(kind="regions", feature_size=48)


@pytest.mark.parametrize(
    ("image", "patch_grid"),
    [(PATCHES, 0), (PATCHES, 1), (PATCHES, 3), (OBJECTS, 0), (OBJECTS, 1), (REGIONS, 0)],
)
def test_sizes_that_fit_are_taken(image: ImageConfig, patch_grid: int) -> None:
    check_image(image, ModelConfig(region_feature_size=48, patch_grid=patch_grid))


@pytest.mark.parametrize(
    ("image", "sizes", "message"),
    [
        (PATCHES, {"region_feature_size": 12}, "is 12 but task.data.image makes 48 numbers a row"),
        (PATCHES, {"patch_grid": 2}, "patch_grid is 2, but task.data.image makes 3 patches a side"),
        (REGIONS, {"patch_grid": 1}, "kind is regions; set patch_grid to 0$"),
        (OBJECTS, {"patch_grid": 3}, "kind is objects; set patch_grid to 0, or 1 for convolutions"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(image: ImageConfig, sizes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_image(image, ModelConfig(**{"region_feature_size": 48, **sizes}))
