"""The task `thumbnail` makes sheets that open, of every photograph and in every variant."""

from io import BytesIO
from typing import Any

import photos
import pytest
import thumbnail
from PIL import Image
from pod import Item, WorkError


def a_sheet(**params: Any) -> Image.Image:
    artifact = thumbnail.thumbnail(Item("item-7", 1, "thumbnail", {"photo": "coffee", **params}))
    return Image.open(BytesIO(artifact.content))


@pytest.mark.parametrize("photo", photos.PHOTOS)
def test_every_photograph_is_shipped_and_makes_a_sheet(photo: str) -> None:
    sheet = a_sheet(photo=photo)
    sheet.load()
    assert sheet.format == "JPEG"
    assert sheet.width >= 860


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_a_sheet_has_its_format_and_names_its_item_and_its_owner(format: str) -> None:
    sheet = a_sheet(format=format)
    assert sheet.format == format.upper()
    assert dict(sheet.getexif()) == {0x010E: "item-7", 0x8298: "Rachel Michetti, CC0"}


def test_every_variant_makes_a_sheet_of_its_own() -> None:
    variants = [
        {"crop": crop, "effect": effect}
        for crop in thumbnail.ANCHORS
        for effect in ("none", "grayscale", "sepia", "sharpen")
    ]
    assert len({a_sheet(**variant).tobytes() for variant in variants}) == len(variants)


def test_a_crop_keeps_the_side_it_names() -> None:
    photo = Image.new("RGB", (300, 100), "black")
    photo.paste("white", (0, 0, 100, 100))
    left, right = (
        thumbnail.cut(photo, (50, 50), thumbnail.Order("coffee", crop, 160, "none", "jpeg"))
        for crop in ("left", "right")
    )
    assert left.getpixel((25, 25)) == (255, 255, 255)
    assert right.getpixel((25, 25)) == (0, 0, 0)


def test_sepia_is_brown_and_grayscale_is_grey() -> None:
    photo = Image.new("RGB", (100, 100), (40, 160, 90))
    order = thumbnail.Order("coffee", "center", 160, "none", "jpeg")

    def middle(effect: str) -> Any:
        done = thumbnail.cut(photo, (50, 50), thumbnail.Order(order.photo, order.crop, 160, effect, "jpeg"))
        return done.getpixel((25, 25))

    red, green, blue = middle("sepia")
    assert red > green > blue
    assert len(set(middle("grayscale"))) == 1


def test_a_photograph_that_is_not_shipped_is_said_with_those_that_are() -> None:
    with pytest.raises(WorkError, match="no photograph named 'nessie' is shipped; there are: astronaut, brick, camera"):
        a_sheet(photo="nessie")


def test_credits_can_be_written_with_the_shipped_typeface() -> None:
    assert all(f"{photo.title}{photo.credit}".isascii() for photo in photos.PHOTOS.values())
