"""Build a set of clip art from Debian's openclipart (public domain): things, 128 px on white, with captions.

    pip install 'genctl[emoji]'
    python examples/openclipart/build.py data/clipart    # `apt-get download openclipart-svg` (25 MB), a minute

Of the 8,121 files those are taken whose title (where it is a template's, the file name) is plain English: each word is
one word piece of the shipped text encoder. The SVG package is a fifth of the PNG one, and says title, maker, subjects
and licence of each file. Left out are computer icons, shapes, signs, flags, maps, cards and smileys, drawings in black
and white of what is there in colour, near duplicates, and what renders to nothing. Writes a Hugging Face imagefolder
with `file_name, text, tags, style` (which is "clipart"), `group, creator, weight, split`; held out are names whose
sha256 begins below 5 % of 2^64, so all pictures of one name are on one side.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import io
import json
import multiprocessing
import re
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import safe_open

PACKAGE, VERSION = "openclipart-svg", "1:0.18+dfsg-19"
DIGEST = "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5"
ATTRIBUTION = """# Where the clip art comes from
- openclipart.org, public domain, packaged by Debian; each picture's maker is in metadata.jsonl.
"""
INSIDE = "./usr/share/openclipart/svg/"
# folders
LEFT_OUT = """
    computer shapes signs_and_symbols special logos buttons geography unsorted decorations roadsigns stickmen
    aiga-symbols smilies cards map_symbols duplicates flags weapons religion boating"""
TEMPLATE = re.compile(r"clip ?art|icons?$|svg|sibmission|^various|^homes|^people$", re.IGNORECASE)  # not of one file
FILLERS = "bw aj openclipart bn icon symbol illustration clothing simple generic stylized r"
# not English, no thing, or the name of somebody
NOT_SAID = """
    ours toque autos manager profile handicap glace numero verde tempus maya mascot user otto general people az
    collection example diagram rules ashton help bmw panic enthusiast gender reaching running reunion silvia ken
    olivier theory points hauled lane ahead sexy evolution hide buddy panel fr emblem grounded cycles entry
    either folks opposite signs carnegie crossroads ii jr einstein portrait shelby bach handel beethoven van
    gogh food faces color eyes from chateau easter park dead"""
MAKERS = re.compile(r"archit|rollandin|olivo|mateya", re.IGNORECASE)  # who named in Italian, or drew bar codes
Row = dict[str, Any]


def fetch(folder: Path) -> Path:
    """The Debian package in `folder`, downloaded where missing, checked by sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (found := list(folder.glob(f"{PACKAGE}*.deb"))):
        subprocess.run(["apt-get", "download", f"{PACKAGE}={VERSION}"], cwd=folder, check=True, stdout=sys.stderr)
        found = list(folder.glob(f"{PACKAGE}*.deb"))
    if hashlib.sha256(found[0].read_bytes()).hexdigest() != DIGEST:
        sys.exit(f"{found[0]}: not the expected bytes of {PACKAGE} {VERSION}; delete it and run again")
    return found[0]


def drawings(package: Path) -> dict[str, str]:
    """Path below the library's folder -> SVG text, in order of path; nothing is unpacked to a path."""
    packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True).stdout
    texts = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(".svg"):
                data = tar.extractfile(member).read()  # type: ignore[union-attr]
                texts[member.name.removeprefix(INSIDE)] = data.decode("utf-8", "replace")
    return dict(sorted(texts.items()))


def vocabulary() -> set[str]:
    """Words that the shipped text encoder knows whole."""
    with safe_open(Path(__file__).parents[2] / "weights" / "minilm.safetensors", "pt") as file:
        return set(json.loads(file.metadata()["tokenizer"])["model"]["vocab"])


def words(title: str) -> list[str]:
    """`BrushRoller (BW) #2` -> brush, roller."""
    plain = re.sub(r"\(.*?\)", " ", title)
    split = re.findall(r"[a-z]+(?:'s|-shirt)?", re.sub(r"([a-z])([A-Z])", r"\1 \2", plain).lower())
    return [word for word in split if word not in FILLERS.split()]


def name_of(path: str, title: str, known: set[str]) -> str:
    """What a file shows, or nothing where neither title nor file name says it in plain English."""
    stem = path.rsplit("/", 1)[1].rsplit(".", 1)[0]
    said = words(title)
    if not said or TEMPLATE.search(title):
        said = words(re.sub(r"(_[a-z]{1,3})?_\d*r?$", "", stem).removeprefix("contour_"))
    good = 0 < len(said) <= 5 and all(
        word in known and word not in NOT_SAID.split() and (len(word) > 1 or word == "a") for word in said
    )
    return " ".join(said) if good and len("".join(said)) > 2 else ""


def rows(texts: dict[str, str]) -> list[Row]:
    """The rows of well-named files in the public domain; `file_name` is the package's, ending in .webp."""
    known, found = vocabulary(), []
    for path, text in texts.items():
        parts = path.split("/")[:-1]
        titles = [html.unescape(title).strip() for title in re.findall(r"<dc:title>([^<]*)</dc:title>", text[:100_000])]
        makers = re.findall(r"<dc:creator>.*?<dc:title>([^<]*)", text[:100_000], re.DOTALL)
        black = re.search(r"[_-]bw|[_-]bn[_.]|silhouet|outline", path)
        if set(parts) & set(LEFT_OUT.split()) or MAKERS.search(" ".join([path, *makers])) or black:
            continue
        name = name_of(path, titles[0] if titles else "", known)
        if name and "publicdomain" in text.lower():
            tags = {tag.lower() for tag in re.findall(r"<rdf:li>([a-zA-Z ]+)</rdf:li>", text[:100_000])}
            found.append({
                "file_name": f"{parts[0]}/{path.rsplit('/', 1)[1].removesuffix('.svg')}.webp", "text": name,
                "tags": sorted(tag for tag in tags if tag in known and tag not in name), "group": parts[0],
                "style": "clipart", "creator": makers[0].strip() if makers else "", "weight": 1.0,
                "split": "test" if held_out(name) else "train", "path": path,
            })  # fmt: skip
    return found


def held_out(name: str) -> bool:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") < 0.05 * 2**64


def render(job: tuple[str, int]) -> tuple[bytes, int] | None:
    """A drawing as lossless WebP bytes, `pixels` square, on white, a margin of 6 %, and its fingerprint; None where
    it cannot be read or shows next to nothing."""
    text, pixels = job
    try:
        image = cropped(text, 2 * pixels)
        if image and max(image.size) < 1.5 * pixels:  # a small drawing on a large page
            image = cropped(text, min(4096, 4 * pixels * pixels // max(image.size)))
    except ValueError:  # not well-formed
        return None
    if not image or min(image.size) < pixels // 8:
        return None
    scale = 0.88 * pixels / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    canvas = Image.new("RGBA", (pixels, pixels), "white")
    place = (pixels - size[0]) // 2, (pixels - size[1]) // 2
    canvas.alpha_composite(image.resize(size, Image.Resampling.LANCZOS), place)
    whole = canvas.convert("RGB")
    low, high = whole.convert("L").getextrema()
    out = io.BytesIO()
    whole.save(out, "WEBP", lossless=True, quality=60, method=3)
    return (out.getvalue(), fingerprint(whole)) if high - low > 40 else None  # type: ignore[operator]


def cropped(text: str, width: int) -> Image.Image | None:
    """An SVG's page `width` pixels wide as RGBA, cut to what is drawn; None where nothing is. Raises ValueError."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=text, width=width, dpi=90, skip_system_fonts=True)  # sizes in mm, pt
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    return image.crop(box) if box else None


def fingerprint(image: Image.Image) -> int:
    """256 bits: whether each of 16 x 16 cells is darker than its right neighbour."""
    cells = list(image.convert("L").resize((17, 16), Image.Resampling.BOX).tobytes())
    return sum((cells[17 * y + x] < cells[17 * y + x + 1] - 4) << (16 * y + x) for y in range(16) for x in range(16))


def contact_sheet(folder: Path, table: list[Row], columns: int = 24, lines: int = 10) -> Image.Image:
    """Pictures spread over the set: look at it before training on anything."""
    sheet = Image.new("RGB", (64 * columns, 64 * lines), "white")
    for place, row in enumerate(table[:: max(1, len(table) // (columns * lines))][: columns * lines]):
        small = Image.open(folder / row["file_name"]).resize((64, 64), Image.Resampling.LANCZOS)
        sheet.paste(small, (place % columns * 64, place // columns * 64))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--packages", type=Path, help="folder of the Debian package (default: OUT/.packages)")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--jobs", type=int, help="processes (default: one a core)")
    options = parser.parse_args()
    texts = drawings(fetch(options.packages or options.out / ".packages"))
    table, kept, seen = rows(texts), [], list[int]()
    with multiprocessing.Pool(options.jobs) as pool:
        jobs = ((texts[row["path"]], options.pixels) for row in table)
        for row, made in zip(table, pool.imap(render, jobs, chunksize=8), strict=True):
            if made is None or any((made[1] ^ other).bit_count() < 12 for other in seen):
                continue
            seen.append(made[1])
            file = options.out / row["file_name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(made[0])
            kept.append({key: value for key, value in row.items() if key != "path"})
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    (options.out / "metadata.jsonl").write_text(text, encoding="utf-8")
    (options.out / "ATTRIBUTION.md").write_text(ATTRIBUTION, encoding="utf-8")
    contact_sheet(options.out, kept).save(options.out / "contact.png")
    groups = ", ".join(f"{count} {group}" for group, count in Counter(row["group"] for row in kept).most_common())
    held = sum(row["split"] == "test" for row in kept)
    print(
        f"{len(kept)} pictures of {len({row['text'] for row in kept})} names, {held} held out ({groups}): {options.out}"
    )


if __name__ == "__main__":
    main()
