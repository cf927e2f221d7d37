"""The task `thumbnail`: a set of thumbnails of one photograph, delivered as one contact sheet.

For people who try the demo, and as a pattern for workers of their own. The sheet shows the photograph with the
region that was cut out and its main colours, and the thumbnails in the sizes and shapes that a web site would
ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

from photos import PHOTOS, Photo, open_photo
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps
from pod import Artifact, Item, run_pod

MARGIN, GAP, CAPTION, HEADER, SWATCH = 36, 24, 26, 92, 56
COLOURS = 8
ORIGINAL_SIDE_MAX = 520
PAPER, INK, QUIET, FRAME = "#f4f1ec", "#1d2733", "#6a7581", "#c2410c"
SEPIA = ("#1c0f05", "#a9794b", "#fff3dc")
ANCHORS = {
    "center": (0.5, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
}
EXIF_DESCRIPTION, EXIF_COPYRIGHT = 0x010E, 0x8298
SAVE_OPTIONS: dict[str, dict[str, Any]] = {"jpeg": {"quality": 88}, "webp": {"quality": 84, "method": 2}}
SUFFIXES = {"jpeg": ".jpg", "webp": ".webp"}


@dataclass(frozen=True)
class Order:
    """What the item asks for."""

    photo: str
    crop: str
    width: int
    effect: str
    format: str

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Order:
        """The params, with the defaults that the schema tells."""
        return cls(
            photo=params["photo"],
            crop=params.get("crop", "center"),
            width=params.get("width", 240),
            effect=params.get("effect", "none"),
            format=params.get("format", "jpeg"),
        )

    def shapes(self) -> list[tuple[int, int]]:
        """The sizes of the thumbnails: three squares, a wide one and a tall one."""
        w = self.width
        return [(w, w), (w // 2, w // 2), (w // 4, w // 4), (w, w * 9 // 16), (w // 2, w * 3 // 4)]


def thumbnail(item: Item) -> Artifact:
    """The contact sheet for one item."""
    order = Order.from_params(item.params)
    original = open_photo(order.photo, side_max=2 * ORIGINAL_SIDE_MAX)
    sheet = contact_sheet(original, order, item.id)
    summary = f"{PHOTOS[order.photo].title}, {len(order.shapes())} thumbnails up to {order.width} px"
    return Artifact(SUFFIXES[order.format], encode(sheet, order, item.id), summary)


def contact_sheet(original: Image.Image, order: Order, item_id: str) -> Image.Image:
    """The photograph on the left, its thumbnails on the right, each with its size below."""
    shown = ImageOps.contain(original, (ORIGINAL_SIDE_MAX, ORIGINAL_SIDE_MAX), Image.Resampling.BICUBIC)
    big, half, quarter, wide, tall = (cut(original, shape, order) for shape in order.shapes())
    first_row, second_row = [big, half, quarter], [wide, tall]
    left = MARGIN + shown.width + 2 * GAP
    second_top = HEADER + row_height(first_row)
    width = max(left + max(row_width(first_row), row_width(second_row)) + MARGIN, 860)
    left_foot = HEADER + shown.height + 2 * CAPTION + 2 * GAP + SWATCH
    height = max(left_foot, second_top + row_height(second_row)) - GAP + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    write_header(draw, PHOTOS[order.photo], order, item_id, width)
    sheet.paste(shown, (MARGIN, HEADER))
    mark_crop(draw, shown, order)
    caption(draw, (MARGIN, HEADER + shown.height), "original; the frame is what the squares show")
    paint_colours(draw, shown, HEADER + shown.height + CAPTION + GAP)
    paste_row(sheet, draw, first_row, left, HEADER)
    paste_row(sheet, draw, second_row, left, second_top)
    return sheet


def cut(original: Image.Image, shape: tuple[int, int], order: Order) -> Image.Image:
    """One thumbnail: cropped to its shape, scaled, and given the effect."""
    fitted = ImageOps.fit(original, shape, Image.Resampling.LANCZOS, centering=ANCHORS[order.crop])
    match order.effect:
        case "grayscale":
            return ImageOps.grayscale(fitted).convert("RGB")
        case "sepia":
            dark, middle, light = SEPIA
            return ImageOps.colorize(ImageOps.grayscale(fitted), dark, light, middle)
        case "sharpen":
            return fitted.filter(ImageFilter.UnsharpMask(radius=2, percent=160, threshold=2))
        case _:
            return fitted


def mark_crop(draw: ImageDraw.ImageDraw, shown: Image.Image, order: Order) -> None:
    """Frame the square that the crop takes out of the photograph."""
    side = min(shown.size)
    across, down = ANCHORS[order.crop]
    x, y = MARGIN + round((shown.width - side) * across), HEADER + round((shown.height - side) * down)
    draw.rectangle((x, y, x + side - 1, y + side - 1), outline=FRAME, width=3)


def paint_colours(draw: ImageDraw.ImageDraw, shown: Image.Image, top: int) -> None:
    """The main colours of the photograph as one bar, each as wide as its share."""
    reduced = shown.resize((64, 64), Image.Resampling.BOX).quantize(COLOURS, Image.Quantize.MEDIANCUT)
    palette, shares = reduced.getpalette() or [], reduced.histogram()
    left, seen = MARGIN, 0
    for entry in sorted((entry for entry in range(COLOURS) if shares[entry]), key=lambda entry: -shares[entry]):
        seen += shares[entry]
        red, green, blue = palette[3 * entry : 3 * entry + 3]
        right = MARGIN + round(shown.width * seen / (64 * 64))
        draw.rectangle((left, top, max(left, right - 1), top + SWATCH - 1), fill=(red, green, blue))
        left = right
    caption(draw, (MARGIN, top + SWATCH), "main colours by share")


def write_header(draw: ImageDraw.ImageDraw, photo: Photo, order: Order, item_id: str, width: int) -> None:
    """The title, who made the photograph, what was asked for, and the item that asked."""
    draw.text((MARGIN, 22), photo.title, fill=INK, font=font(28))
    asked = f"Photo: {photo.credit}   |   crop {order.crop}, effect {order.effect}, {order.format}"
    draw.text((MARGIN, 58), asked, fill=QUIET, font=font(15))
    draw.text((width - MARGIN, 34), item_id[:60], fill=QUIET, font=font(15), anchor="ra")


def paste_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: list[Image.Image], left: int, top: int) -> None:
    """Thumbnails beside each other, their feet on one line."""
    foot = top + max(image.height for image in row)
    for image in row:
        sheet.paste(image, (left, foot - image.height))
        caption(draw, (left, foot), f"{image.width} x {image.height}")
        left += cell_width(image) + GAP


def caption(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str) -> None:
    """A few quiet words below an image."""
    draw.text((corner[0], corner[1] + 6), text, fill=QUIET, font=font(14))


def cell_width(image: Image.Image) -> int:
    """As wide as the image, and never narrower than its caption."""
    return max(image.width, 72)


def row_width(row: list[Image.Image]) -> int:
    """How wide a row is."""
    return sum(cell_width(image) for image in row) + GAP * (len(row) - 1)


def row_height(row: list[Image.Image]) -> int:
    """How high a row is, with its captions and the space below."""
    return max(image.height for image in row) + CAPTION + GAP


def encode(sheet: Image.Image, order: Order, item_id: str) -> bytes:
    """The file's content; the item and the photograph's owner are written into its metadata."""
    exif = Image.Exif()
    exif[EXIF_DESCRIPTION] = item_id
    exif[EXIF_COPYRIGHT] = PHOTOS[order.photo].credit
    content = BytesIO()
    sheet.save(content, format=order.format, exif=exif, **SAVE_OPTIONS[order.format])
    return content.getvalue()


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface that ships with Pillow, so that a sheet looks the same everywhere."""
    return ImageFont.load_default(size)


if __name__ == "__main__":
    run_pod(thumbnail)
