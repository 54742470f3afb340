"""What a model over tokens fixes in its file, and what its pictures can be asked for. Without torch: the command line
reads it for --help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from genctl import config
from genctl.config import above, below, within
from genctl.errors import UsageError
from genctl.options import Options, option

OrderName = Literal["raster", "masked", "scale"]
TOKENS = "Tokens"  # panel of --help


@dataclass(frozen=True)
class LossConfig:
    condition_dropout: Annotated[float, within(0, 1)] = 0.1  # share of pictures that are asked for without a condition
    token_dropout: Annotated[float, below(1)] = 0.1  # raster: share of tokens that the next ones do not get to know
    smoothing: Annotated[float, below(1)] = 0.0  # of the wanted token's probability, to all
    random_order: Annotated[tuple[float, float], within(0, 1)] = (0.0, 0.0)  # raster: in any order up to the first
    # share of the run, in this one from the second on, less and less between (RAR, arXiv:2411.00776; .5, .75)


@dataclass(frozen=True)
class SamplingConfig:
    guidance_scale: float = 3.0
    temperature: Annotated[float, above(0, 100)] = 1.0
    top_k: Annotated[int, within(0)] = 0  # 0: all
    top_p: Annotated[float, above(0, 1)] = 1.0
    passes: Annotated[int, within(1, 1 << 16)] = 12  # masked


@dataclass(frozen=True)
class TokenOptions(Options):
    """None means: as the model file says."""

    cfg: float | None = option(
        None, "Guidance scale; 1 = none (default: as the model file says).", low=-1e6, high=1e6,
        flags=("--cfg", "--cfg-scale"), key="guidance_scale", aliases=("cfg_scale",),
    )  # fmt: skip
    rising: bool = option(False, "Guidance rises from 1 at the first pass to --cfg at the last.", panel=TOKENS)
    temperature: float | None = option(
        None, "Sampling temperature; 0 = always the likeliest token.", panel=TOKENS, low=0, high=100
    )
    top_k: int | None = option(None, "Draw among the K likeliest tokens; 0 = all.", panel=TOKENS, low=0, high=1 << 24)
    top_p: float | None = option(
        None, "Draw among the likeliest tokens with this share of the probability.", panel=TOKENS, low=0.001, high=1
    )
    passes: int | None = option(None, "Number of parallel passes (masked order).", panel=TOKENS, low=1, high=1 << 16)

    @classmethod
    def refused(cls, document: Mapping[str, Any]) -> dict[str, str]:
        order = document["config"].get("order", "masked")
        refused = {} if order == "masked" else {"passes": f"its order ({order}) says how many there are"}
        if not {"text", "class"} & set(document["can"]):
            refused |= dict.fromkeys(("cfg", "rising"), "it takes no condition to guide by")
        return refused

    @classmethod
    def check_document(cls, document: Mapping[str, Any]) -> None:
        config.build(SamplingConfig, document["config"].get("sampling", {}), "sampling.")

    def settled(self, document: Mapping[str, Any], conditional: bool = True) -> TokenOptions:
        said = config.build(SamplingConfig, document["config"].get("sampling", {}))
        guided = conditional and "cfg" not in self.refused(document)
        if self.rising and not guided:
            raise UsageError("--rising has no effect without a prompt: there is nothing to guide by")
        return replace(
            self,
            cfg=(said.guidance_scale if self.cfg is None else self.cfg) if guided else None,
            temperature=said.temperature if self.temperature is None else self.temperature,
            top_k=said.top_k if self.top_k is None else self.top_k,
            top_p=said.top_p if self.top_p is None else self.top_p,
            passes=None if "passes" in self.refused(document) else self.passes or said.passes,
        )
