"""Put a trained model into weights/: name, licence and figures into its header, its line into weights/index.json.

    python examples/weights/publish.py runs/vae vae --licence "..." --figures figures.json
    python examples/weights/publish.py runs/ldm ldm --set codec=vae --set sampling.guidance_interval=[0.5,1.0]
    python examples/weights/publish.py gan gan --attribution data/nine/ATTRIBUTION.md   # its header anew
    python examples/weights/publish.py            # only rebuild index.json from what lies in weights/

A model that names parts (an ldm its codec and text encoder) gets the hashes of the shipped ones. A codec whose decoder
alone was trained further has the same codes, so a model trained on the earlier one stays valid: publish it again. What
a header says already stays unless it is given anew; no path of the machine that trained it does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from genctl import config, files, hub

WEIGHTS = Path(__file__).parents[2] / "weights"


def publish(source: str, name: str, given: argparse.Namespace) -> None:
    tensors, header = files.load_tensors(hub.resolve(source))
    before = header.document
    shipped = {row["tensors"]: known for known, row in hub.index().items()}
    licence = given.licence or before.get("licence", "Apache-2.0")
    title = given.title or before.get("title", name)
    document = before | {"title": title, "licence": licence}
    document["figures"] = document.get("figures", {}) | (json.loads(given.figures.read_text()) if given.figures else {})
    if given.attribution:
        document["data"] = document.get("data", {}) | {"attribution": given.attribution.read_text(encoding="utf-8")}
    if "model" in document["figures"]:
        document["figures"] = {k: v for k, v in document["figures"].items() if k != "sha256"} | {"model": name}
    if begun := document.get("training", {}).get("init"):
        document["training"] = document["training"] | {"init": hub.plain_name(begun)}
    for text in given.sets:
        document["config"] = config.merge(document["config"], config.parse_override(text))
    for kind, part in document.get("parts", {}).items():
        part["name"] = document["config"][kind]
        path = WEIGHTS / f"{part['name']}.safetensors"
        part["sha256"] = hub.weights_sha256(path, files.read_header(path))
    if teacher := document.get("teacher"):  # by the name that it is shipped under
        document["teacher"] = teacher | {"name": shipped.get(teacher["sha256"], hub.plain_name(teacher["name"]))}
    metadata = header.metadata | {
        "genctl": json.dumps(document, sort_keys=True, ensure_ascii=False),
        "modelspec.title": title,
        "modelspec.license": licence,
        "modelspec.hash_sha256": "0x" + files.tensors_sha256(tensors),
    }
    copied = {key: tensor.clone() for key, tensor in tensors.items()}  # the file may be the one we replace
    files.save_tensors(WEIGHTS / f"{name}.safetensors", copied, metadata)


def rebuild_index() -> None:
    """weights/index.json from the files' own headers."""
    table = {}
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        header = files.read_header(path)
        document = header.document
        table[path.stem] = {
            "file": path.name,
            "kind": document.get("kind", "model"),
            "sha256": files.file_sha256(path),
            "tensors": hub.weights_sha256(path, header),
            "bytes": path.stat().st_size,
            "licence": document.get("licence", ""),
        }
    files.write_whole(WEIGHTS / "index.json", (json.dumps(table, indent=1) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", help="run folder or model file")
    parser.add_argument("name", nargs="?", help="its name in weights/")
    parser.add_argument("--licence", default="")
    parser.add_argument("--title", default="")
    parser.add_argument("--attribution", type=Path, help="an ATTRIBUTION.md: who made what it was trained on")
    parser.add_argument("--figures", type=Path, help="JSON document of measured figures")
    parser.add_argument("--set", action="append", default=[], dest="sets", help="change its configuration: codec=vae")
    options = parser.parse_args()
    if options.source:
        publish(options.source, options.name, options)
    rebuild_index()
    print((WEIGHTS / "index.json").read_text(), end="")


if __name__ == "__main__":
    main()
