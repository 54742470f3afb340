"""One process that stays against as many calls: python examples/bench/stay.py --models ldm ldm-fast --count 50

Prompts go into `genctl sample --prompts - --json` one by one, each when the line of the last one was read; then each is
drawn by a call of its own. Says whether the bytes are the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLOURS = ("red", "blue", "green", "old", "small")
THINGS = ("cat", "dog", "fox", "apple", "house", "car", "bus", "rocket", "tree", "star")
SAMPLE = [sys.executable, "-m", "genctl", "sample", "--seed", "1"]


def staying(model: str, prompts: list[str], folder: Path) -> tuple[float, float]:
    """Seconds until the first picture, and until the last."""
    begin, first = time.perf_counter(), 0.0
    command = [*SAMPLE, "--model", model, "--prompts", "-", "--json", "-o", f"{folder}/one-{{i}}.png"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for prompt in prompts:
            process.stdin.write(prompt + "\n")
            assert json.loads(process.stdout.readline())["prompt"] == prompt
            first = first or time.perf_counter() - begin
        process.stdin.close()
    return first, time.perf_counter() - begin


def calls(model: str, prompts: list[str], folder: Path) -> float:
    begin = time.perf_counter()
    for index, prompt in enumerate(prompts):
        command = [*SAMPLE, "--model", model, "-p", prompt, "-q", "-o", f"{folder}/many-{index}.png"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=["ldm", "ldm-fast"])
    parser.add_argument("--count", type=int, default=50)
    arguments = parser.parse_args()
    prompts = [" ".join(words) for words in itertools.product(COLOURS, THINGS)][: arguments.count]
    print("| model | first picture, all | as many calls | ratio | same bytes |\n| --- | --- | --- | --- | --- |")
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            first, whole = staying(model, prompts, folder)
            each = calls(model, prompts, folder)
            same = all(
                (folder / f"one-{index}.png").read_bytes() == (folder / f"many-{index}.png").read_bytes()
                for index in range(len(prompts))
            )
        print(f"| {model} | {first:.1f} s, {whole:.1f} s | {each:.1f} s | {each / whole:.1f} | {same} |", flush=True)


if __name__ == "__main__":
    main()
