"""Build the emoji text-image set: ~1,600 things, each drawn in up to nine styles, 128 px on white, with captions.

    pip install 'genctl[emoji]'
    python examples/emoji/build.py data/emoji            # fetches ten packages with `npm pack` (61 MB), 2-4 minutes
    python examples/emoji/build.py data/emoji --captions --pairs 3000
    python examples/emoji/build.py data/emoji --styles 3d flat modern noto twemoji   # what the shipped models learned

Writes a Hugging Face imagefolder: STYLE/KEY.webp (lossless) and metadata.jsonl with
`file_name, text, captions, tags, style, group, codepoint, colours, weight, flip, split, family_split`, plus
ATTRIBUTION.md and contact.png. `text` is the plain label; `captions` has three to five further forms, and `--captions`
makes `text` a list of the label and those that name no style (genctl adds `style` itself); `flip` says whether a
mirrored picture shows the same. `--pairs N` adds N pictures in pairs/ of several things, numbers and colours
(composing.py), weighted to be 15 % of what is drawn; they have no `style`, so no
measure takes them for one thing in one style, and their captions name it instead.

Held out (`split` = "test") are the (key, style) pairs whose sha256("KEY|STYLE") begins below 5 % of 2^64, so anyone who
builds the set holds out the same pairs. The Fluent styles (3d, flat, modern) are one drawing shaded three ways, so that
split measures restyling; `family_split` holds out whole drawings (seven: fluent and each other style) and measures
composition.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import colours
import composing
import wording
from drawing import draw, encoded, on_white
from packages import ATTRIBUTION, NAMED, STYLES, Styles, concepts, fetch, key_of, sources
from PIL import Image

GROUPS = ("smileys-emotion", "people-body", "component", "animals-nature", "food-drink", "travel-places", "activities",
          "objects", "symbols", "flags")  # fmt: skip
PAIRS_SHARE = 0.15  # of what is drawn in training
Row = dict[str, Any]


def held_out(text: str) -> bool:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") < 0.05 * 2**64


def held(base: str, there: list[str], name: Callable[[str], str]) -> set[str]:
    """Which of a thing's styles are held out. Where that were all of the first five, those stay in training: the
    later styles were added when models had been trained on the first, and move none of their rows."""
    out = {style for style in there if held_out(f"{base}|{name(style)}")}
    kept = {style for style in there if style not in NAMED} or set(there)
    return out - kept if kept <= out else out


def rows(table: list[Row], kinds: dict[int, str], styles: Styles, variants: bool) -> tuple[list[Row], dict[str, str]]:
    """metadata.jsonl rows: core concepts, and with `variants` skin tones (weight .1) and flags (weight .05); and key ->
    subgroup. table, kinds: of `packages.concepts`."""
    found: list[Row] = []
    subgroups: dict[str, str] = {}
    labels = {concept["label"].lower() for concept in table}
    for concept in table:
        group = GROUPS[concept["group"]] if "group" in concept else "component"
        if group == "component" or (group == "flags" and not variants):
            continue
        base = key_of(concept["hexcode"])
        entries = [(base, concept["label"], 1.0 if group != "flags" else 0.05)]
        if variants:
            entries += [(key_of(skin["hexcode"]), skin["label"], 0.1) for skin in concept.get("skins", [])]
        for key, label, weight in entries:
            found += concept_rows(base, key, label, own_tags(concept, labels), group, weight, styles)
            subgroups[key] = kinds.get(concept.get("subgroup", -1), "")
    return found, subgroups


def own_tags(concept: Row, labels: set[str]) -> list[str]:
    """A concept's tags without those that are another's label: an astronaut's `rocket` would answer to "rocket"."""
    return [tag for tag in concept.get("tags", []) if tag.lower() not in labels - {concept["label"].lower()}]


def concept_rows(
    base: str, key: str, label: str, tags: list[str], group: str, weight: float, styles: Styles
) -> list[Row]:
    """A concept's rows, one a style that draws it. A skin tone follows its base's split, or the answer would leak."""
    there = [style for style in STYLES if key in styles.get(style, {})]
    drawn = [style for style in STYLES if base in styles.get(style, {})]  # fewer styles may draw a tone than its base
    pairs = held(base, drawn, str) if group != "flags" else set()
    drawings = held(base, drawn, STYLES.__getitem__) if group != "flags" else set()
    return [
        {
            "file_name": f"{style}/{key}.webp",
            "text": label,
            "tags": tags,
            "style": style,
            "group": group,
            "codepoint": key,
            "weight": weight,
            "split": "test" if style in pairs else "train",
            "family_split": "test" if style in drawings else "train",
        }
        for style in there
    ]


def render(job: tuple[str, bytes, int]) -> tuple[bytes, list[str]]:
    """One picture as lossless WebP bytes, `pixels` square, on white, and the colours that dominate it."""
    image = draw(*job)
    return encoded(on_white(image)), colours.named(colours.shares(image))


def described(row: Row, subgroup: str, found: list[str]) -> Row:
    """A row with its captions and colours, in the order of the docstring above."""
    said = {"captions": wording.captions(row, subgroup, found), "colours": found}
    order = ("file_name", "text", "captions", "tags", "style", "group", "codepoint", "colours")
    whole = row | said
    return {name: whole[name] for name in order} | whole | {"flip": wording.flips(whole, subgroup)}


def several(row: Row) -> Row:
    """A row whose `text` is a list: the label first, then the forms that do not name the style of the row."""
    mark = f", {row['style']} style"
    forms = [form for form in row["captions"] if not (row["style"] and form.endswith(mark))]
    return row | {"text": [row["text"], *(form for form in forms if form != row["text"])]}


def pair_row(plan: composing.Plan, number: int, weight: float) -> Row:
    """The row of a composed picture; every second form names the style, since the row itself has none."""
    style = plan.rows[0]["style"]
    split = "test" if held_out(f"pair|{plan.combination}") else "train"
    forms = [form for said in plan.captions for form in (said, f"{said}, {style} style")]
    row = {
        "file_name": f"pairs/{number:05d}.webp", "text": forms[0], "captions": forms, "tags": [], "style": "",
        "group": f"pairs: {plan.kind}", "codepoint": "pairs", "colours": [plan.colour] if plan.colour else [],
        "drawn": [row["file_name"] for row in plan.rows], "weight": weight, "split": split, "family_split": split,
    }  # fmt: skip
    return row | {"flip": wording.flips(row, "")}


def composed(
    table: list[Row],
    subgroups: dict[str, str],
    styles: Styles,
    options: argparse.Namespace,
    pool: Any,
) -> Iterator[tuple[composing.Plan, bytes]]:
    """`options.pairs` plans with their pictures, or fewer where a small set has no more combinations."""
    for kind, share in composing.SHARES:
        wanted = round(share * options.pairs)
        planned = composing.plans(table, subgroups, options.seed, kind)
        while wanted > 0 and (chunk := list(itertools.islice(planned, 64))):
            parts = [[styles[row["style"]][row["codepoint"]] for row in plan.rows] for plan in chunk]
            jobs = [(plan, data, options.pixels) for plan, data in zip(chunk, parts, strict=True)]
            made = [(plan, data) for plan, data in zip(chunk, pool.map(composing.compose, jobs), strict=True) if data]
            yield from made[:wanted]
            wanted -= len(made)


def contact_sheet(folder: Path, table: list[Row], count: int = 24) -> Image.Image:
    """Rows of styles, columns of concepts spread over the set: look at it before training on anything."""
    keys = list(dict.fromkeys(row["codepoint"] for row in table if row["weight"] == 1))
    keys = keys[:: max(1, len(keys) // count)][:count]
    sheet = Image.new("RGB", (64 * len(keys), 64 * len(STYLES)), "white")
    for row in table:
        if row["codepoint"] in keys:
            place = (64 * keys.index(row["codepoint"]), 64 * list(STYLES).index(row["style"]))
            sheet.paste(thumbnail(folder / row["file_name"]), place)
    return sheet


def thumbnail(file: Path) -> Image.Image:
    return Image.open(file).resize((64, 64), Image.Resampling.LANCZOS)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--packages", type=Path, help="folder of the packed npm files (default: OUT/.packages)")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=list(STYLES), help="only these (default: all)")
    parser.add_argument("--variants", action="store_true", help="add skin tones and flags, down-weighted")
    parser.add_argument("--captions", action="store_true", help="`text` is a list of several captions, the label first")
    parser.add_argument("--pairs", type=int, default=0, metavar="N", help="add N composed pictures (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the composed pictures (default: 0)")
    parser.add_argument("--limit", type=int, help="only the first N concepts of each group (for a quick try)")
    parser.add_argument("--jobs", type=int, help="processes (default: one a core)")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    paths = fetch(options.packages or options.out / ".packages")
    styles, joined = sources(paths)
    styles = {style: styles[style] for style in options.styles}
    table, kinds, _ = concepts(paths["emojibase-data"])
    found, subgroups = rows(table, kinds, styles, options.variants)
    if options.limit:
        kept = {key for group in GROUPS for key in group_keys(found, group)[: options.limit]}
        found = [row for row in found if row["codepoint"] in kept]
    with multiprocessing.Pool(options.jobs) as pool:
        written = [*write(options, found, subgroups, styles, pool)]
        drawn = [*write_pairs(options, written, subgroups, styles, pool)]
    (options.out / "ATTRIBUTION.md").write_text(ATTRIBUTION, encoding="utf-8")
    contact_sheet(options.out, written).save(options.out / "contact.png")
    lines = [several(row) if options.captions else row for row in written + drawn]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
    (options.out / "metadata.jsonl").write_text(text, encoding="utf-8")
    report(options, written, drawn, joined)


def write(
    options: argparse.Namespace,
    table: list[Row],
    subgroups: dict[str, str],
    styles: Styles,
    pool: Any,
) -> Iterator[Row]:
    """Write each row's picture; yields the rows, described."""
    for style in styles:
        (options.out / style).mkdir(parents=True, exist_ok=True)
    jobs = [(row["style"], styles[row["style"]][row["codepoint"]], options.pixels) for row in table]
    for row, (data, named) in zip(table, pool.imap(render, jobs, chunksize=32), strict=True):
        (options.out / row["file_name"]).write_bytes(data)
        yield described(row, subgroups[row["codepoint"]], named)


def write_pairs(
    options: argparse.Namespace,
    table: list[Row],
    subgroups: dict[str, str],
    styles: Styles,
    pool: Any,
) -> Iterator[Row]:
    """Write the composed pictures; yields their rows."""
    made = list(composed(table, subgroups, styles, options, pool))
    if made:
        (options.out / "pairs").mkdir(exist_ok=True)
    training = sum(row["weight"] for row in table if row["split"] == "train")
    weight = round(PAIRS_SHARE / (1 - PAIRS_SHARE) * training / (0.95 * len(made) or 1), 4)
    for number, (plan, data) in enumerate(made):
        row = pair_row(plan, number, weight)
        (options.out / row["file_name"]).write_bytes(data)
        yield row


def report(options: argparse.Namespace, table: list[Row], drawn: list[Row], joined: dict[str, dict[str, str]]) -> None:
    """Say what was built, and how sets without code points were joined."""
    for style in options.styles:
        mine = [row for row in table if row["style"] == style]
        counts = Counter(joined[style][row["codepoint"]] for row in mine if style in joined)
        ways = ", ".join(f"{count} {way}" for way, count in counts.most_common())
        print(f"{style}: {len(mine)} pictures" + (f" ({ways})" if ways else ""))
    out = sum(row["split"] == "test" for row in table)
    print(f"{len(table)} pictures of {len({row['codepoint'] for row in table})} things, {out} held out: {options.out}")
    if drawn:
        held_pairs = sum(row["split"] == "test" for row in drawn)
        print(f"{len(drawn)} composed pictures, {held_pairs} held out, weight {drawn[0]['weight']} each")


def group_keys(table: list[Row], group: str) -> list[str]:
    return list(dict.fromkeys(row["codepoint"] for row in table if row["group"] == group))


if __name__ == "__main__":
    main()
