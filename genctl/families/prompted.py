"""Conditions from prompts, by a frozen text encoder: what text-to-image families share.

A condition is (states [B, L, T], present [B, L], pooled [B, T]): the encoder's states in L slots, which slots hold any,
and one vector of the whole text. A row without text has no slot present, and the network puts learned vectors there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genctl import hub
from genctl.errors import ModelError
from genctl.families.base import Blend, Family
from genctl.nets.text import TextEncoder, Tokenizer, load_text_encoder

Conditions = tuple[Tensor, ...]  # states, present, pooled; or nothing


class Prompted(Family):
    """A family whose config has `text` (the encoder's name) and `net` with text_slots and text_width, and whose `net`
    has the parameters empty_slot and empty_pooled."""

    net: nn.Module

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.used: dict[str, dict[str, str]] = {}  # the parts that were loaded: name and sha256

    def facts(self) -> dict[str, Any]:
        return {"parts": self.used} if self.used else {}

    def text(self) -> tuple[Tokenizer, TextEncoder]:
        """The frozen text encoder, loaded at first use."""
        if "text" not in self.parts:
            tensors, header = hub.load_part(self.config.text)
            self._check_part("text", hub.weights_sha256(hub.resolve(self.config.text, kind="part"), header))
            encoder = load_text_encoder(tensors).to(self.device).requires_grad_(False).eval()
            self.parts["text"] = (Tokenizer(header.metadata["tokenizer"]), encoder)
        return self.parts["text"]

    def _check_part(self, part: str, found: str) -> None:
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
        return states[0, : int(mask.sum())].float().cpu(), pooled[0].float().cpu(), cut[0]

    def cuts(self, prompt: str) -> bool:
        return self.text()[0].encode([prompt], max_tokens=self.config.net.text_slots)[2][0]

    def conditions(self, prompts: list[str | Blend]) -> Conditions:
        """The network's conditions of some prompts; each distinct one is encoded once, alone."""
        slots, learned = self.config.net.text_slots, ("empty_slot", "empty_pooled")
        empty_slot, empty_pooled = (self.net.get_parameter(name).detach().float().cpu() for name in learned)
        known: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

        def one(text: str) -> tuple[Tensor, Tensor, Tensor]:
            if text not in known:
                states, pooled, _ = self.encode_text(text)
                filled = torch.cat([states, empty_slot[len(states) :]])
                known[text] = (filled, torch.arange(slots) < len(states), pooled if len(states) else empty_pooled)
            return known[text]

        rows = []
        for prompt in prompts:
            if isinstance(prompt, str):
                rows.append(one(prompt))
            else:  # between two prompts; a slot that only one fills moves to or from the learned empty one
                (a, in_a, pa), (b, in_b, pb) = one(prompt.start), one(prompt.end)
                rows.append((torch.lerp(a, b, prompt.share), in_a | in_b, torch.lerp(pa, pb, prompt.share)))
        return tuple(torch.stack(part).to(self.device) for part in zip(*rows, strict=True))
