"""Build the emoji text-clip set: some 730 things that move, 24 frames at 7.94 a second, on white, with captions.

    python examples/emoji-motion/build.py data/motion    # fetches five packages with `npm pack` (737 MB), 2 minutes

Writes clips/KEY.webp (animated, endless) and metadata.jsonl with the columns of the emoji set (examples/emoji): `style`
is "3d", whose drawings move here, and `loop` true, for after the last frame comes the first. Of the packages' 23.8
frames a second every third is kept; most have 72, so that 24 remain.

Held out (`split` = "test") are the things whose sha256("KEY|anim") begins below 5 % of 2^64.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "emoji"))

import colours
from build import GROUPS, Row, described, held_out, own_tags
from drawing import on_white
from packages import ATTRIBUTION as OF_PICTURES
from packages import PACKAGES, by_key, concepts, fetch, key_of, members

MOVING = {  # name@version -> sha256 of the packed file
    "@lobehub/fluent-emoji-anim-1@1.0.0": "4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea",
    "@lobehub/fluent-emoji-anim-2@1.0.0": "e431da8172e394036c330faa77648d6fbbae1fd3b0be95637c4497c9075019c0",
    "@lobehub/fluent-emoji-anim-3@1.0.0": "3624d0c34c819c1794b74ccf6ae9034adff7c4cb6318dd2a645145f0196feb43",
    "@lobehub/fluent-emoji-anim-4@1.0.0": "3d4c08f1e321f70808ef4996aba0ab575a9d97b6c56ffffc92cf6161a7836aa3",
    "emojibase-data@17.0.0": PACKAGES["emojibase-data@17.0.0"],
}
EVERY = 3  # of the packages' frames, so many one
MILLISECONDS = 126  # a frame of ours
LEAST = 4  # frames of a clip that is kept
ATTRIBUTION = """# Where the clips come from
- Animated Fluent Emoji (c) Microsoft Corporation, MIT; packaged by LobeHub.
"""


def frames(data: bytes, pixels: int) -> list[Image.Image]:
    """Every third frame of an animated WebP, `pixels` square; none of a file that does not move."""
    image = Image.open(io.BytesIO(data))
    if getattr(image, "n_frames", 1) < EVERY * LEAST:
        return []
    found = []
    for place in range(image.n_frames - image.n_frames % EVERY):
        image.seek(place)
        if place % EVERY == 0:
            found.append(image.convert("RGBA").resize((pixels, pixels), Image.Resampling.LANCZOS))
    return found


def rendered(job: tuple[bytes, int]) -> tuple[bytes, list[str], int]:
    """A clip as animated WebP bytes on white, the colours that dominate its first frame, and how many frames it has."""
    made = frames(*job)
    if not made:
        return b"", [], 0
    out = io.BytesIO()
    shown = [on_white(frame) for frame in made]
    options: dict[str, Any] = {"duration": MILLISECONDS, "loop": 0, "quality": 95, "method": 3}
    shown[0].save(out, "WEBP", save_all=True, append_images=shown[1:], **options)
    return out.getvalue(), colours.named(colours.shares(made[0])), len(made)


def rows(table: list[Row], kinds: dict[int, str], there: dict[str, bytes]) -> list[tuple[Row, str]]:
    """A row of metadata.jsonl and its subgroup for each thing that has a clip, without flags and skin tones."""
    labels = {concept["label"].lower() for concept in table}
    found = []
    for concept in table:
        key, group = key_of(concept["hexcode"]), GROUPS[concept["group"]] if "group" in concept else "component"
        if key not in there or group in ("component", "flags"):
            continue
        row = {
            "file_name": f"clips/{key}.webp", "text": concept["label"], "tags": own_tags(concept, labels),
            "style": "3d", "group": group, "codepoint": key, "weight": 1.0, "loop": True,
            "split": "test" if held_out(f"{key}|anim") else "train",
        }  # fmt: skip
        found.append((row, kinds.get(concept.get("subgroup", -1), "")))
    return found


def several(row: Row) -> Row:
    """A row whose `text` is a list: the label, then the captions that do not name the style."""
    forms = [form for form in row["captions"] if not form.endswith(" style") and form != row["text"]]
    return row | {"text": [row["text"], *forms]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--packages", type=Path, help="folder of the packed npm files (default: OUT/.packages)")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--limit", type=int, help="only the first N clips (for a quick try)")
    parser.add_argument("--jobs", type=int, help="processes (default: one a core)")
    options = parser.parse_args()
    paths = fetch(options.packages or options.out / ".packages", MOVING)
    packs = [path for name, path in paths.items() if "anim" in name]
    there = {key: data for path in packs for key, data in by_key(members(path, ".webp"), "assets/").items()}
    table, kinds, _ = concepts(paths["emojibase-data"])
    wanted = rows(table, kinds, there)[: options.limit]
    (options.out / "clips").mkdir(parents=True, exist_ok=True)
    lines, counts = [], []
    with multiprocessing.Pool(options.jobs) as pool:
        jobs = ((there[row["codepoint"]], options.pixels) for row, _ in wanted)
        for (row, subgroup), (data, named, count) in zip(wanted, pool.imap(rendered, jobs, chunksize=4), strict=True):
            if data:
                (options.out / row["file_name"]).write_bytes(data)
                lines.append(json.dumps(several(described(row, subgroup, named)), ensure_ascii=False) + "\n")
                counts.append(count)
    (options.out / "ATTRIBUTION.md").write_text(ATTRIBUTION + OF_PICTURES.splitlines(True)[-1], encoding="utf-8")
    (options.out / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    held = sum('"split": "test"' in line for line in lines)
    print(f"{len(lines)} clips of {min(counts)} to {max(counts)} frames, {held} held out: {options.out}")


if __name__ == "__main__":
    main()
