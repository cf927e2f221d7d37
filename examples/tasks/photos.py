"""The photographs of the task `thumbnail`: where they come from, who made them, and how to open one.

They ship in the package scikit-image. The package is never imported (that would import numpy and scipy); its
data folder is found and Pillow reads the file.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from pod import WorkError
from world_data import shipped_folder


@dataclass(frozen=True)
class Photo:
    """A shipped photograph and what its owner wants said about it."""

    file: str
    title: str
    credit: str


PHOTOS = {
    "astronaut": Photo("astronaut.png", "Eileen Collins, astronaut", "NASA, public domain"),
    "brick": Photo("brick.png", "Brick wall", "CC0Textures, CC0"),
    "camera": Photo("camera.png", "Photographer with a tripod", "Lav Varshney, CC0"),
    "chelsea": Photo("chelsea.png", "Chelsea the cat", "Stefan van der Walt, CC0"),
    "coffee": Photo("coffee.png", "Espresso at Pikolo", "Rachel Michetti, CC0"),
    "coins": Photo("coins.png", "Greek coins from Pompeii", "Brooklyn Museum, no known restrictions"),
    "grass": Photo("grass.png", "Grass", "linolafett, CC0"),
    "gravel": Photo("gravel.png", "Gravel", "CC0Textures, CC0"),
    "hubble": Photo("hubble_deep_field.jpg", "Hubble eXtreme Deep Field", "NASA, public domain"),
    "retina": Photo("retina.jpg", "Retina of a healthy eye", "Mikael Haggstrom, CC0"),
    "rocket": Photo("rocket.jpg", "Falcon 9 with DSCOVR at Cape Canaveral", "SpaceX, public domain"),
    "tissue": Photo("ihc.png", "Stained tissue of the colon", "CMMI, no known restrictions"),
}


def open_photo(name: str, side_max: int) -> Image.Image:
    """The photograph in full colour; a large one is decoded at a smaller scale, never below `side_max`."""
    photo = PHOTOS.get(name)
    if photo is None:
        raise WorkError(f"no photograph named {name!r} is shipped; there are: {', '.join(PHOTOS)}")
    path = shipped_folder("skimage", "data") / photo.file
    try:
        image = Image.open(path)
        image.draft("RGB", (side_max, side_max))  # JPEG only: decoding a quarter of the pixels is enough
        return image.convert("RGB")
    except OSError as error:
        raise WorkError(f"cannot read the photograph {path}: {error}") from error
