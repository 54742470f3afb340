"""Join several sets of pictures into one that `genctl train` reads, each with a weight.

    python examples/join.py data/joined data/emoji data/clipart:0.5 data/photos:2 --style emojitwo:0.25

Pictures are linked, not copied (copied where links across disks are not possible); each set is a folder with a
metadata.jsonl and becomes a folder of its name. A weight multiplies the rows' own (1 unless given); that of a style,
those of its rows in every set. What one set holds out of a thing in a style (`codepoint` and `style`), all do, or a
clip's still would tell what the clip shows. What their ATTRIBUTION.md say is joined too, and becomes a part of a
model's file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

SPLITS = ("split", "family_split")  # columns that say what is held out
Row = dict[str, Any]


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # a table that names a picture twice
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def named(text: str) -> tuple[Path, float]:
    """`data/photos:2` -> the folder and its weight."""
    name, _, weight = text.rpartition(":")
    try:
        return Path(name), float(weight)
    except ValueError:
        return Path(text), 1.0


def held_out_alike(rows: list[Row]) -> None:
    """Hold out each thing in a style that any of the rows holds out."""
    for column in SPLITS:
        held = {_drawing(row) for row in rows if row.get(column, "train") != "train"} - {None}
        for row in rows:
            if _drawing(row) in held and row.get(column, "train") == "train":
                row[column] = "test"


def _drawing(row: Row) -> tuple[str, str] | None:
    return (row["codepoint"], row["style"]) if row.get("codepoint") and row.get("style") else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("sets", nargs="+", help="FOLDER or FOLDER:WEIGHT")
    parser.add_argument("--style", action="append", default=[], metavar="STYLE:WEIGHT")
    given = parser.parse_args()
    styles = {name: float(weight) for name, _, weight in (text.rpartition(":") for text in given.style)}
    sets = [named(text) for text in given.sets]
    names = [folder.resolve().name for folder, _ in sets]
    if len(set(names)) < len(names):
        sys.exit(f"two sets have one name ({', '.join(names)}); each becomes a folder of its name")
    given.output.mkdir(parents=True)
    rows, attributions = list[Row](), dict[str, None]()
    for (folder, weight), name in zip(sets, names, strict=True):
        for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").split("\n"):
            if line.strip():
                row = json.loads(line)
                link(folder / row["file_name"], given.output / name / row["file_name"])
                row["file_name"] = f"{name}/{row['file_name']}"
                row["weight"] = row.get("weight", 1.0) * weight * styles.get(row.get("style"), 1.0)
                rows.append(row)
        if (said := folder / "ATTRIBUTION.md").exists():
            attributions[said.read_text(encoding="utf-8").strip() + "\n"] = None  # once, where sets share it
    held_out_alike(rows)
    (given.output / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if attributions:
        (given.output / "ATTRIBUTION.md").write_text("\n".join(attributions), encoding="utf-8")
    print(f"{len(rows)} pictures of {len(sets)} sets")


if __name__ == "__main__":
    main()
