"""Build a set of crops of public photographs, so that a codec learns more than drawings on white.

    pip install scikit-image scikit-learn
    python examples/photos/build.py data/photos          # and `apt-get download lomiri-wallpapers-16.04` (16 MB)

Photographs: fourteen of scikit-image (public domain and CC0), the two of scikit-learn (CC BY 2.0) and the ten in Ubuntu
Touch's wallpapers that are under CC BY 4.0 or CC0; ATTRIBUTION.md names their makers. From each, squares of between 128
px and the whole, at random places, are written at 128 px with the name of their photograph; all of three photographs
are held out. More photographs may be given by path.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PACKAGE = "lomiri-wallpapers-16.04"
SCIKIT_IMAGE = """
    astronaut.png chelsea.png coffee.png rocket.jpg hubble_deep_field.jpg motorcycle_left.png retina.jpg coins.png
    camera.png grass.png gravel.png brick.png ihc.png moon.png"""
SCIKIT_LEARN = "china.jpg flower.jpg"
WALLPAPERS = """
    aitzgorri_by_Aitzol_Berasategi friends_by_Aitzol_Berasategi life_by_Aitzol_Berasategi
    picosdeeuropa_by_Aitzol_Berasategi sunset_by_Aitzol_Berasategi Picture_0B_by_freespace Picture_1A_by_freespace
    seeding_by_Clements_Engelhardt umang_by_Abhishek_Mudgal Wine_by_Jakkub_Mede"""
ATTRIBUTION = """# Where the photographs come from
- scikit-image's data folder: public domain, CC0, or no known copyright restrictions.
- china (c) danielbuechele, flower (c) vultilion, both on Flickr, CC BY 2.0; packaged by scikit-learn.
- Wallpapers of Ubuntu Touch, (c) 2018 Aitzol Berasategi, Trevor "Freespace", Abhishek Mudgal, Jakub Mede, CC BY 4.0;
  Clemens Engelhardt, CC0.
All are cropped and made smaller.
"""
HELD_OUT = ("chelsea", "china", "Wine_by_Jakkub_Mede")
PIXELS = 128


def within(package: str, folder: str, names: str) -> list[Path]:
    """Files that an installed package brings."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"{package} is not installed: pip install scikit-image scikit-learn")
    return [Path(found.submodule_search_locations[0]) / folder / name for name in names.split()]


def wallpapers(folder: Path) -> list[Path]:
    """The wallpapers, out of the Debian package unpacked in `folder`."""
    subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True, stdout=sys.stderr)
    subprocess.run(["dpkg", "-x", str(next(folder.glob("*.deb"))), "unpacked"], cwd=folder, check=True)
    return [next(folder.glob(f"unpacked/usr/share/backgrounds/**/{name}.jpg")) for name in WALLPAPERS.split()]


def crop(picture: Image.Image, draw: random.Random) -> Image.Image:
    """A square of the picture at a random place, its side even in the logarithm; mirrored half of the time."""
    side = round(PIXELS * (min(picture.size) / PIXELS) ** draw.random())
    x, y = draw.randint(0, picture.width - side), draw.randint(0, picture.height - side)
    square = picture.crop((x, y, x + side, y + side)).resize((PIXELS, PIXELS), Image.Resampling.LANCZOS)
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else square


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("more", type=Path, nargs="*", help="further photographs")
    parser.add_argument("--crops", type=int, default=60, help="of each photograph")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photographs = within("skimage", "data", SCIKIT_IMAGE) + within("sklearn", "datasets/images", SCIKIT_LEARN)
        photographs += wallpapers(Path(folder)) + given.more
        given.output.mkdir(parents=True)
        rows = []
        for path in photographs:
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
            draw, split = random.Random(path.stem), "test" if path.stem in HELD_OUT else "train"
            for index in range(given.crops):
                name = f"{path.stem}-{index:03d}.webp"
                crop(picture, draw).save(given.output / name, lossless=True)
                rows.append({"file_name": name, "text": path.stem.split("_by_")[0].replace("_", " "), "split": split})
    lines = (json.dumps(row) + "\n" for row in rows)
    (given.output / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    (given.output / "ATTRIBUTION.md").write_text(ATTRIBUTION, encoding="utf-8")
    print(f"{len(rows)} crops of {len(photographs)} photographs, {sum(r['split'] == 'test' for r in rows)} held out")


if __name__ == "__main__":
    main()
