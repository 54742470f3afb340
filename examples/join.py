"""Join several sets of pictures into one that `genctl train` reads, each with a weight.

    python examples/join.py data/joined data/emoji data/clipart:0.5 data/photos:2 --style emojitwo:0.25

Pictures are linked, not copied (copied where links across disks are not possible); each set is a folder with a
metadata.jsonl and becomes a folder of its name. A weight multiplies the rows' own (1 unless given); that of a style,
those of its rows in every set. What their ATTRIBUTION.md say is joined too, and becomes a part of a model's file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("sets", nargs="+", help="FOLDER or FOLDER:WEIGHT")
    parser.add_argument("--style", action="append", default=[], metavar="STYLE:WEIGHT")
    given = parser.parse_args()
    styles = {name: float(weight) for name, _, weight in (text.rpartition(":") for text in given.style)}
    given.output.mkdir(parents=True)
    lines, attributions = [], dict[str, None]()
    for text in given.sets:
        name, _, weight = text.partition(":")
        folder = Path(name)
        for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            link(folder / row["file_name"], given.output / folder.name / row["file_name"])
            row["file_name"] = f"{folder.name}/{row['file_name']}"
            row["weight"] = row.get("weight", 1.0) * float(weight or 1) * styles.get(row.get("style"), 1.0)
            lines.append(json.dumps(row) + "\n")
        if (said := folder / "ATTRIBUTION.md").exists():
            attributions[said.read_text(encoding="utf-8").strip() + "\n"] = None  # once, where sets share it
    (given.output / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    if attributions:
        (given.output / "ATTRIBUTION.md").write_text("\n".join(attributions), encoding="utf-8")
    print(f"{len(lines)} pictures of {len(given.sets)} sets")


if __name__ == "__main__":
    main()
