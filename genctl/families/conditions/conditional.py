"""Conditions: what a picture is asked for. The same for flows, adversarial and token models.

A condition is (states [B, L, T], present [B, L], pooled [B, T]): vectors in L slots, which slots hold any, and one
vector of the whole. A text fills many slots with a frozen encoder's states, a class one slot with its one-hot vector,
and a row without any condition has no slot present: the network puts learned vectors there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from genctl import files, hub
from genctl.data.pictures import Pictures
from genctl.errors import InputError, ModelError, UsageError, nearest
from genctl.families.base import Blend, Family, Request, Source
from genctl.families.conditions import words
from genctl.nets.text import TextEncoder, Tokenizer, load_text_encoder

MOST_STRANGE = 3  # unknown words of which a remark speaks
Conditions = tuple[Tensor, ...]  # states, present, pooled; or nothing
NAMES = ("states", "present", "pooled")  # in a batch
N = TypeVar("N")
Row = tuple[Tensor, Tensor, Tensor]  # of one picture: states [L, T], present [L], pooled [T]


class Conditional(Family):
    """A family whose config has `text` (the encoder's name), perhaps `condition` ("text", "class" or "none"; text where
    it has none) and `classes`, and whose `net` has the parameters empty_slot and empty_pooled."""

    net: nn.Module

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.used: dict[str, dict[str, str]] = {}  # the parts that were loaded: name and sha256
        if config is not None:
            self.can = self.can - {"text", "class"} | ({condition_of(config)} - {"none"})

    @property
    def condition(self) -> str:
        return condition_of(self.config)

    @staticmethod
    def fitted(config: Any, pictures: Pictures) -> Any:
        if condition_of(config) != "class":
            return config
        return replace(config, classes=classes_of(config, pictures))

    def facts(self) -> dict[str, Any]:
        return {"parts": self.used} if self.used else {}

    @staticmethod
    def part_hashes(config: Any) -> dict[str, str]:
        return {"text": part_hash(config.text, "part")} if condition_of(config) == "text" else {}

    def text(self) -> tuple[Tokenizer, TextEncoder]:
        """The frozen text encoder, loaded at first use."""
        if "text" not in self.parts:
            tensors, header = hub.load_part(self.config.text)
            self.check_part("text", hub.weights_sha256(hub.resolve(self.config.text, kind="part"), header))
            encoder = load_text_encoder(tensors).to(self.device).requires_grad_(False).eval()
            self.parts["text"] = (Tokenizer(header.metadata["tokenizer"]), encoder)
        return self.parts["text"]

    def check_part(self, part: str, found: str) -> None:
        """Raises ModelError where the part of hash `found` is not the one that this model was trained with."""
        recorded = self.info.get("parts", {}).get(part, {}).get("sha256", found)
        self.used[part] = {"name": getattr(self.config, part), "sha256": found}
        if recorded != found:
            raise ModelError(
                f"this model was trained with another {part} {getattr(self.config, part)!r} "
                f"(sha256 {recorded[:12]}, found {found[:12]})"
            )

    @torch.inference_mode()
    def encode_text(self, text: str) -> tuple[Tensor, Tensor, bool]:
        """States [n, T] (n <= slots) and pooled [T] of one text, and whether it was cut; an empty text has n = 0."""
        tokenizer, encoder = self.text()
        if not text.strip():
            width = self.config.net.text_width
            return torch.zeros(0, width), torch.zeros(width), False
        ids, mask, cut = tokenizer.encode([text], max_tokens=self.config.net.text_slots)
        states, pooled = encoder(ids.to(self.device), mask.to(self.device))
        if pooled.shape[-1] != self.config.net.text_width:
            width = f"{pooled.shape[-1]}, where this model's net.text_width is {self.config.net.text_width}"
            raise ModelError(f"text encoder {self.config.text!r} gives vectors of {width}")
        return states[0, : int(mask.sum())].float().cpu(), pooled[0].float().cpu(), cut[0]

    def conditions(self, asked: list[str | Blend]) -> Conditions:
        """The network's conditions of some prompts or classes; each distinct one is encoded once, alone."""
        if self.condition == "none":
            return ()
        encode = self._text_row if self.condition == "text" else self._class_row
        once = cache(encode)
        rows = [_between(once(a), once(b), share) for a, b, share in map(ends_of, asked)]
        return tuple(torch.stack(part).to(self.device) for part in zip(*rows, strict=True))

    def _text_row(self, text: str) -> Row:
        learned = ("empty_slot", "empty_pooled")
        empty_slot, empty_pooled = (self.net.get_parameter(name).detach().float().cpu() for name in learned)
        states, pooled, _ = self.encode_text(text)
        slots = torch.arange(len(empty_slot)) < len(states)
        return torch.cat([states, empty_slot[len(states) :]]), slots, pooled if len(states) else empty_pooled

    def _class_row(self, name: str) -> Row:
        """One slot that holds the one-hot vector of a class. Raises UsageError for an unknown one."""
        classes = self.config.classes
        if not classes:
            raise ModelError("this model is one of classes, and names none")
        if name and name not in classes:
            some = ", ".join(classes[:8]) + ", ..." * (len(classes) > 8)
            raise UsageError(f"no class {name!r}{nearest(name, list(classes))}; known: {some}")
        hot = torch.tensor([float(name == known) for known in classes])
        return hot[None], torch.tensor([bool(name)]), hot

    # in training -----------------------------------------------------------------------------------------------------
    def preview(self, source: Source) -> Tensor:
        """Sixteen pictures, or one of each prompt that the source has for it."""
        return self.drawn_for(self._asked(source))

    def drawn_for(self, asked: list[str]) -> Tensor:
        """A picture of each condition, by weights that training still changes; seeds from 0 on."""
        request = Request(seeds=list(range(len(asked))), conditions=[*asked], packed=False)
        with torch.autocast(self.device.type, enabled=False):
            return torch.cat([part.pictures for part in self.sample(request) if part.final])

    def previewed(self, source: Source) -> list[dict[str, Any]]:
        key = "class" if "class" in self.can else "prompt"
        return [{key: text, "seed": seed, "label": text} for seed, text in enumerate(self._asked(source))]

    def _asked(self, source: Source) -> list[str]:
        return [str(text) for text in getattr(source, "preview_prompts", [""] * 16)]

    # what is said ----------------------------------------------------------------------------------------------------
    def remarks(self, request: Request) -> list[str]:
        if self.condition != "text":
            return []
        tokenizer, slots = self.text()[0], self.config.net.text_slots
        texts = dict.fromkeys(end for asked in request.conditions for end in ends_of(asked)[:2] if end)
        cut = [
            f"prompt cut to its first words: {text[:40]!r}..."
            for text in texts
            if tokenizer.encode([text], max_tokens=slots)[2][0]
        ]
        return cut + self._unknown_words(list(texts))

    def _unknown_words(self, texts: list[str]) -> list[str]:
        """A line on words that the model was never trained on, and which of its own are near them."""
        known = self.info.get("words", [])
        strange = dict.fromkeys(word for text in texts for word in words.unknown(text, known)) if known else {}
        shown = [*strange][:MOST_STRANGE]
        said = [f"{word!r} (near it: {', '.join(words.near(word, known, *self.text()))})" for word in shown]
        return [f"not among the words that the model was trained on: {'; '.join(said)}"] if said else []


def condition_of(config: Any) -> str:
    return getattr(config, "condition", "text")


def conditioned(net: N, condition: str, classes: tuple[str, ...]) -> N:
    """A network's configuration, with the shape of its conditions."""
    made: Any = net
    if condition == "none":
        return replace(made, text="none")
    return replace(made, text_width=max(1, len(classes)), text_slots=1) if condition == "class" else net


def conditions_of(batch: dict[str, Tensor]) -> Conditions:
    """Of a training batch."""
    return tuple(batch[name] for name in NAMES if name in batch)


def ends_of(asked: str | Blend) -> tuple[str, str, float]:
    """What a condition lies between, and where."""
    return (asked, asked, 0.0) if isinstance(asked, str) else (asked.start, asked.end, asked.share)


def _between(a: Row, b: Row, share: float) -> Row:
    """A slot that only one of them fills moves to or from the learned empty one."""
    if share == 0:
        return a
    return torch.lerp(a[0], b[0], share), a[1] | b[1], torch.lerp(a[2], b[2], share)


def part_hash(name: str, kind: str = "model") -> str:
    """What identifies the tensors of a model or part that a configuration names, without loading it."""
    path = hub.resolve(name, kind=kind)
    return hub.weights_sha256(path, files.read_header(path))


def classes_of(config: Any, pictures: Pictures) -> tuple[str, ...]:
    """The classes of a configuration, or where it has none those of the pictures. Raises UsageError or InputError."""
    classes = tuple(sorted({entry.concept for entry in pictures.entries}))
    if config.classes:
        unknown = [name for name in classes if name not in config.classes]
        if unknown:
            raise UsageError(f"model.classes lacks {unknown[0]!r}, of which the data have pictures")
        return config.classes
    if len(classes) < 2:
        raise InputError("the pictures are of no two classes; sort them into folders, or model.condition = none")
    return classes
