"""The packages, checked by hash, and what each draws: style -> key -> a picture's bytes.

One key joins all sources: the code points in lower-case hex without leading zeros and without fe0f, joined by "-". Sets
without code points are joined by name (joining.py).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from joining import by_hand, join, ways

PACKAGES = {  # name@version -> sha256 of the packed file
    "@lobehub/fluent-emoji-3d@1.1.0": "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    "@lobehub/fluent-emoji-flat@1.1.0": "8f9113c027c7c20eced0070354715a4093a459b8bef6332b91d45f38c9bdb147",
    "@lobehub/fluent-emoji-modern@1.0.0": "080906de394ad8335c24f67e1b33f12a9ac1b6d99324d26ae63cad8d27359769",
    "@iconify-json/noto@1.2.9": "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    "@discordapp/twemoji@16.0.1": "2278fd609501e20dc646a546c1d7bbcab86a4c38010ded12b45e61f9687b9d0a",
    "@iconify-json/noto-v1@1.2.5": "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
    "@iconify-json/emojione@1.2.3": "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
    "@iconify-json/fxemoji@1.2.2": "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
    "@iconify-json/streamline-emojis@1.2.4": "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc",
    "emojibase-data@17.0.0": "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
}
STYLES = {  # style -> the drawing that it shades; the first five decide what is kept of a thing that is all held out
    "3d": "fluent", "flat": "fluent", "modern": "fluent", "noto": "noto", "twemoji": "twemoji",
    "noto-old": "noto-old", "emojitwo": "emojitwo", "firefox": "firefox", "streamline": "streamline",
}  # fmt: skip
NAMED = {  # styles whose packages know names alone
    "noto-old": "@iconify-json/noto-v1", "emojitwo": "@iconify-json/emojione", "firefox": "@iconify-json/fxemoji",
    "streamline": "@iconify-json/streamline-emojis",
}  # fmt: skip
TONES = {"1f3fc": "1f3fd", "1f3fd": "1f3fc"}  # the Fluent packs carry these two skin tones under each other's name
ATTRIBUTION = """# Where the pictures come from
- 3d, flat, modern: Fluent Emoji (c) Microsoft Corporation, MIT; packaged by LobeHub.
- noto, noto-old: Noto Emoji (c) Google, Apache License 2.0 (noto-old: its first version).
- twemoji: Twemoji graphics (c) 2014-2021 Twitter and contributors, (c) 2022- Jason Sofonia & Justine De Caires,
  CC-BY 4.0.
- emojitwo: EmojiOne 2.3 (c) Emoji One, kept by EmojiTwo (github.com/EmojiTwo/emojitwo), CC-BY 4.0.
- firefox: Firefox OS Emoji (fxemoji) (c) Mozilla, Apache License 2.0.
- streamline: Streamline Emojis (c) Streamline (Webalys), CC-BY 4.0.
- noto, noto-old, emojitwo, firefox, streamline: packaged by Iconify. All are rendered anew, at another size, on white;
  the pictures in pairs/ put several of one style together or turn a colour.
- names and tags: emojibase-data (c) Miles Johnson, MIT.
"""
Pictures = dict[str, bytes]  # key -> WebP or SVG
Styles = dict[str, Pictures]


def key_of(name: str) -> str:
    """The joining key of a file name such as `1f9d1-200d-1f373`, `2764-FE0F` or `1f3f4-e0067_e0062...`."""
    parts = [f"{int(part, 16):x}" for part in name.replace("_", "-").split("-")]
    if parts[0] == "1f3f4" and len(parts) > 2 and parts[1].startswith("e00") and parts[-1] != "e007f":
        parts.append("e007f")  # the three UK nations lack their end tag in some packs
    return "-".join(part for part in parts if part != "fe0f")


def fetch(folder: Path, packages: dict[str, str] = PACKAGES) -> dict[str, Path]:
    """Each package's tar file in `folder`, fetched by `npm pack` where missing, checked by sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for package, digest in packages.items():
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


def by_key(files: dict[str, bytes], folder: str) -> Pictures:
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


def swap_tones(table: Pictures) -> Pictures:
    return {"-".join(TONES.get(part, part) for part in key.split("-")): data for key, data in table.items()}


def svg(icons: dict[str, Any], name: str) -> bytes:
    """An icon of an Iconify set as an SVG file; a size or corner of its own goes before the set's."""
    left, top, width, height = (
        icons["icons"][name].get(side, icons.get(side, default))
        for side, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {spaces} viewBox="{left} {top} {width} {height}">'
    return f"{head}{icons['icons'][name]['body']}</svg>".encode()


def concepts(path: Path) -> tuple[list[dict[str, Any]], dict[int, str], dict[str, list[str]]]:
    """Of emojibase: its rows, the names of subgroups, and key -> short codes."""
    files = members(path, ".json")
    kinds = {row["order"]: row["key"] for row in json.loads(files["en/messages.json"])["subgroups"]}
    codes: dict[str, list[str]] = {}
    for name in sorted(name for name in files if name.startswith("en/shortcodes/")):
        for point, found in json.loads(files[name]).items():
            codes.setdefault(key_of(point), []).extend([found] if isinstance(found, str) else found)
    return json.loads(files["en/data.json"]), kinds, codes


def core(table: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """key -> row of what is neither a component nor a flag."""
    return {key_of(row["hexcode"]): row for row in table if row.get("group") not in (None, 2, 9)}


def sources(paths: dict[str, Path]) -> tuple[Styles, dict[str, dict[str, str]]]:
    """style -> key -> bytes (WebP for 3d, SVG text for the others), and style -> key -> the way it was joined."""
    noto = members(paths["@iconify-json/noto"], ".json")
    icons, chars = json.loads(noto["icons.json"]), json.loads(noto["chars.json"])
    found = {
        "3d": swap_tones(by_key(members(paths["@lobehub/fluent-emoji-3d"], ".webp"), "assets/")),
        "flat": swap_tones(by_key(members(paths["@lobehub/fluent-emoji-flat"], ".svg"), "assets/")),
        "modern": swap_tones(by_key(members(paths["@lobehub/fluent-emoji-modern"], ".svg"), "assets/")),
        "noto": {key_of(point): svg(icons, name) for point, name in chars.items() if name in icons["icons"]},
        "twemoji": by_key(members(paths["@discordapp/twemoji"], ".svg"), "dist/svg/"),
    }
    table, _, codes = concepts(paths["emojibase-data"])
    lists = ways(core(table), codes, {name: key_of(point) for point, name in chars.items()} | older(icons, chars))
    joined = {}
    for style, package in NAMED.items():
        icons = json.loads(members(paths[package], "icons.json")["icons.json"])
        pairs = join(icons["icons"], aliases(icons), lists, by_hand(style))
        found[style] = {key: svg(icons, icon) for key, (icon, _) in pairs.items()}
        joined[style] = {key: way for key, (_, way) in pairs.items()}
    return found, joined


def aliases(icons: dict[str, Any]) -> dict[str, str]:
    """Other name -> icon of an Iconify set."""
    return {name: alias["parent"] for name, alias in icons.get("aliases", {}).items()}


def older(icons: dict[str, Any], chars: dict[str, str]) -> dict[str, str]:
    """Other names of a set with code points -> key: what things were called before."""
    keys = {name: key_of(point) for point, name in chars.items()}
    return {name: keys[icon] for name, icon in aliases(icons).items() if icon in keys}
