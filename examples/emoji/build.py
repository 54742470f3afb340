"""Build the emoji text-image set: ~1,600 things, each drawn in up to five styles, 128 px on white, with captions.

    pip install 'genctl[emoji]'
    python examples/emoji/build.py data/emoji            # fetches six packages with `npm pack` (57 MB), 1-3 minutes

Writes a Hugging Face imagefolder: STYLE/KEY.webp (lossless) and metadata.jsonl with
`file_name, text, tags, style, group, codepoint, weight, split, family_split`, plus ATTRIBUTION.md and contact.png.

One key joins all sources: the code points in lower-case hex without leading zeros and without fe0f, joined by "-".
Held out (`split` = "test") are the (key, style) pairs whose sha256("KEY|STYLE") begins below 5 % of 2^64, so anyone who
builds the set holds out the same pairs. The Fluent styles (3d, flat, modern) are one drawing shaded three ways, so that
split measures restyling; `family_split` holds out whole drawings (fluent, noto, twemoji) and measures composition.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image

PACKAGES = {  # name@version -> sha256 of the packed file
    "@lobehub/fluent-emoji-3d@1.1.0": "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    "@lobehub/fluent-emoji-flat@1.1.0": "8f9113c027c7c20eced0070354715a4093a459b8bef6332b91d45f38c9bdb147",
    "@lobehub/fluent-emoji-modern@1.0.0": "080906de394ad8335c24f67e1b33f12a9ac1b6d99324d26ae63cad8d27359769",
    "@iconify-json/noto@1.2.9": "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    "@discordapp/twemoji@16.0.1": "2278fd609501e20dc646a546c1d7bbcab86a4c38010ded12b45e61f9687b9d0a",
    "emojibase-data@17.0.0": "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
}
STYLES = {"3d": "fluent", "flat": "fluent", "modern": "fluent", "noto": "noto", "twemoji": "twemoji"}
GROUPS = ("smileys-emotion", "people-body", "component", "animals-nature", "food-drink", "travel-places", "activities",
          "objects", "symbols", "flags")  # fmt: skip
TONES = {"1f3fc": "1f3fd", "1f3fd": "1f3fc"}  # the Fluent packs carry these two skin tones under each other's name
ATTRIBUTION = """# Where the pictures come from
- 3d, flat, modern: Fluent Emoji (c) Microsoft Corporation, MIT; packaged by LobeHub.
- noto: Noto Emoji (c) Google, Apache License 2.0.
- twemoji: Twemoji graphics (c) 2014-2021 Twitter and contributors, (c) 2022- Jason Sofonia & Justine De Caires,
  CC-BY 4.0.
- names and tags: emojibase-data (c) Miles Johnson, MIT.
"""


def key_of(name: str) -> str:
    """The joining key of a file name such as `1f9d1-200d-1f373`, `2764-FE0F` or `1f3f4-e0067_e0062...`."""
    parts = [f"{int(part, 16):x}" for part in name.replace("_", "-").split("-")]
    if parts[0] == "1f3f4" and len(parts) > 2 and parts[1].startswith("e00") and parts[-1] != "e007f":
        parts.append("e007f")  # the three UK nations lack their end tag in some packs
    return "-".join(part for part in parts if part != "fe0f")


def held_out(text: str) -> bool:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") < 0.05 * 2**64


def fetch(folder: Path) -> dict[str, Path]:
    """Each package's tar file in `folder`, fetched by `npm pack` where missing, checked by sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for package, digest in PACKAGES.items():
        name, version = package.rsplit("@", 1)
        path = folder / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
        if not path.exists():
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=sys.stderr)
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            sys.exit(f"{path}: not the expected bytes of {package}; delete it and run again")
        paths[name] = path
    return paths


def members(path: Path, ending: str) -> dict[str, bytes]:
    """File name -> bytes of a package's members with that ending (streamed; nothing is extracted to a path)."""
    with tarfile.open(path, "r|gz") as tar:
        return {
            member.name.removeprefix("package/"): tar.extractfile(member).read()  # type: ignore[union-attr]
            for member in tar
            if member.isfile() and member.name.endswith(ending)
        }


def by_key(files: dict[str, bytes], folder: str) -> dict[str, bytes]:
    """key -> bytes; of two names for one key the longer is the padded duplicate and gives way."""
    table: dict[str, tuple[int, bytes]] = {}
    for name, data in files.items():
        if not name.startswith(folder):
            continue
        stem = name.rsplit("/", 1)[1].rsplit(".", 1)[0]
        try:
            key = key_of(stem)
        except ValueError:
            continue  # not a code point: a logo or an index
        if key not in table or len(stem) < table[key][0]:
            table[key] = (len(stem), data)
    return {key: data for key, (_, data) in table.items()}


def swap_tones(table: dict[str, bytes]) -> dict[str, bytes]:
    return {"-".join(TONES.get(part, part) for part in key.split("-")): data for key, data in table.items()}


def sources(paths: dict[str, Path]) -> dict[str, dict[str, bytes]]:
    """style -> key -> bytes (WebP for 3d, SVG text for the others)."""
    twemoji = by_key(members(paths["@discordapp/twemoji"], ".svg"), "dist/svg/")
    noto = members(paths["@iconify-json/noto"], ".json")
    icons, chars = json.loads(noto["icons.json"])["icons"], json.loads(noto["chars.json"])
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 128 128">'
    return {
        "3d": swap_tones(by_key(members(paths["@lobehub/fluent-emoji-3d"], ".webp"), "assets/")),
        "flat": swap_tones(by_key(members(paths["@lobehub/fluent-emoji-flat"], ".svg"), "assets/")),
        "modern": swap_tones(by_key(members(paths["@lobehub/fluent-emoji-modern"], ".svg"), "assets/")),
        "noto": {
            key_of(point): f"{head}{icons[name]['body']}</svg>".encode()
            for point, name in chars.items()
            if name in icons
        },
        "twemoji": twemoji,
    }


def rows(paths: dict[str, Path], styles: dict[str, dict[str, bytes]], variants: bool) -> list[dict[str, Any]]:
    """metadata.jsonl rows: core concepts, and with `variants` skin tones (weight .1) and flags (weight .05)."""
    table = json.loads(members(paths["emojibase-data"], "en/data.json")["en/data.json"])
    found: list[dict[str, Any]] = []
    for concept in table:
        group = GROUPS[concept["group"]] if "group" in concept else "component"
        if group == "component" or (group == "flags" and not variants):
            continue
        base = key_of(concept["hexcode"])
        entries = [(base, concept["label"], 1.0 if group != "flags" else 0.05)]
        if variants:
            entries += [(key_of(skin["hexcode"]), skin["label"], 0.1) for skin in concept.get("skins", [])]
        for key, label, weight in entries:
            found += concept_rows(base, key, label, concept.get("tags", []), group, weight, styles)
    return found


def concept_rows(
    base: str, key: str, label: str, tags: list[str], group: str, weight: float, styles: dict[str, dict[str, bytes]]
) -> list[dict[str, Any]]:
    """A concept's rows, one a style that draws it. A skin tone follows its base's split, or the answer would leak."""
    there = [style for style in STYLES if key in styles[style]]
    pairs = [style for style in there if held_out(f"{base}|{style}")] if group != "flags" else []
    drawings = [style for style in there if held_out(f"{base}|{STYLES[style]}")] if group != "flags" else []
    return [
        {
            "file_name": f"{style}/{key}.webp",
            "text": label,
            "tags": tags,
            "style": style,
            "group": group,
            "codepoint": key,
            "weight": weight,
            "split": "test" if style in pairs and len(pairs) < len(there) else "train",
            "family_split": "test" if style in drawings and len(drawings) < len(there) else "train",
        }
        for style in there
    ]


def render(job: tuple[str, bytes, int]) -> bytes:
    """One picture as lossless WebP bytes, `pixels` square, on white. `modern` is drawn double and halved: its shadow
    filters threshold alpha and would be jagged. Twemoji, drawn to the very edge, gets the others' margin."""
    style, data, pixels = job
    inner = round(pixels * 0.9) if style == "twemoji" else pixels
    if style == "3d":
        image = Image.open(io.BytesIO(data)).convert("RGBA")
    else:
        import resvg_py

        wanted = 2 * inner if style == "modern" else inner
        png = bytes(
            resvg_py.svg_to_bytes(svg_string=data.decode(), width=wanted, height=wanted, skip_system_fonts=True)
        )
        image = Image.open(io.BytesIO(png)).convert("RGBA")
    scale = inner / max(image.size)
    if scale != 1:  # premultiplied by Pillow for RGBA, so edges do not darken
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (pixels, pixels), "white")
    canvas.alpha_composite(image, ((pixels - image.width) // 2, (pixels - image.height) // 2))
    out = io.BytesIO()
    canvas.convert("RGB").save(out, "WEBP", lossless=True, quality=60, method=3)
    return out.getvalue()


def contact_sheet(folder: Path, table: list[dict[str, Any]], concepts: int = 24) -> Image.Image:
    """Rows of styles, columns of concepts spread over the set: look at it before training on anything."""
    keys = list(dict.fromkeys(row["codepoint"] for row in table if row["weight"] == 1))
    keys = keys[:: max(1, len(keys) // concepts)][:concepts]
    sheet = Image.new("RGB", (64 * len(keys), 64 * len(STYLES)), "white")
    for row in table:
        if row["codepoint"] in keys:
            place = (64 * keys.index(row["codepoint"]), 64 * list(STYLES).index(row["style"]))
            sheet.paste(Image.open(folder / row["file_name"]).resize((64, 64), Image.Resampling.LANCZOS), place)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--packages", type=Path, help="folder of the packed npm files (default: OUT/.packages)")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--variants", action="store_true", help="add skin tones and flags, down-weighted")
    parser.add_argument("--limit", type=int, help="only the first N concepts of each group (for a quick try)")
    options = parser.parse_args()
    paths = fetch(options.packages or options.out / ".packages")
    styles = sources(paths)
    table = rows(paths, styles, options.variants)
    if options.limit:
        kept = {key for group in GROUPS for key in group_keys(table, group)[: options.limit]}
        table = [row for row in table if row["codepoint"] in kept]
    for style in STYLES:
        (options.out / style).mkdir(parents=True, exist_ok=True)
    jobs = [(row["style"], styles[row["style"]][row["codepoint"]], options.pixels) for row in table]
    with multiprocessing.Pool() as pool:
        for row, data in zip(table, pool.imap(render, jobs, chunksize=32), strict=True):
            (options.out / row["file_name"]).write_bytes(data)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
    (options.out / "metadata.jsonl").write_text(lines, encoding="utf-8")
    (options.out / "ATTRIBUTION.md").write_text(ATTRIBUTION, encoding="utf-8")
    contact_sheet(options.out, table).save(options.out / "contact.png")
    out = sum(row["split"] == "test" for row in table)
    print(f"{len(table)} pictures of {len({row['codepoint'] for row in table})} things, {out} held out: {options.out}")


def group_keys(table: list[dict[str, Any]], group: str) -> list[str]:
    return list(dict.fromkeys(row["codepoint"] for row in table if row["group"] == group))


if __name__ == "__main__":
    main()
