"""What a flow's pictures can be asked for beside their prompt. Without torch: the command line reads it for --help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from genctl import config
from genctl.diffusion.names import SYNONYMS, PathName, Rule, SolverName, Spacing
from genctl.errors import UsageError
from genctl.families.flow.settings import SamplingConfig
from genctl.options import ModelSource, Options, Span, Weighted, option

GUIDANCE, SAMPLER = "Guidance", "Sampler"  # panels of --help
FLOW_MAP_SOLVERS = ("euler", "consistency")  # whose every step says where it ends
DISTILLED = "a student's guidance is distilled into it, of which --cfg is the scale alone"


@dataclass(frozen=True)
class FlowOptions(Options):
    """None means: as the model file says."""

    cfg: float | None = option(
        None, "Guidance scale; 1 = none (default: as the model file says).", low=-1e6, high=1e6,
        flags=("--cfg", "--cfg-scale"), key="guidance_scale", aliases=("cfg_scale",),
    )  # fmt: skip
    steps: int | None = option(
        None, "Solver steps (default: as the model file says).", low=1, high=1000, aliases=("num_inference_steps",)
    )
    negative: str = option(
        "", "What to steer away from.", panel=GUIDANCE, flags=("--negative", "--negative-prompt"),
        aliases=("negative_prompt",),
    )  # fmt: skip
    also: Weighted = option((), "A further prompt and its weight, such as hat:0.5 (repeatable).", panel=GUIDANCE)
    guide: ModelSource | None = option(
        None, "Autoguidance: a weaker model of the same kind to steer away from.", panel=GUIDANCE, restored=False
    )
    guidance: Rule = option("cfg", "Rule of guidance", panel=GUIDANCE)
    interval: Span | None = option(
        None,
        "Guide only for times t within LOW,HIGH (1 = noise).",
        panel=GUIDANCE,
        low=0,
        high=1,
        key="guidance_interval",
    )
    rescale: float = option(
        0.0, "Rescale guidance to the unguided contrast, by so much (arXiv:2305.08891).", panel=GUIDANCE, low=0, high=1
    )
    solver: SolverName | None = option(
        None, "Solver", panel=SAMPLER, flags=("--solver", "--sampler"),
        aliases=("sampler", "sampler_name"), synonyms=SYNONYMS,
    )  # fmt: skip
    path: PathName | None = option(
        None, "Noise schedule to sample along, if not that of training", panel=SAMPLER, aliases=("diffusion_path",)
    )
    spacing: Spacing | None = option(None, "Spacing of the times", panel=SAMPLER)
    shift: float | None = option(
        None, "Shift of the times; above 1 takes more steps at high noise.", panel=SAMPLER, low=0.01, high=1e6
    )

    @classmethod
    def refused(cls, document: Mapping[str, Any]) -> dict[str, str]:
        refused: dict[str, str] = {}
        if not {"text", "class"} & set(document["can"]):
            refused |= dict.fromkeys(("negative", "also"), "it takes no condition")
        if scalars_of(document):
            refused |= dict.fromkeys(("negative", "also", "guide", "guidance", "interval", "rescale"), DISTILLED)
        return refused

    @classmethod
    def check_document(cls, document: Mapping[str, Any]) -> None:
        said = document["config"]
        config.build(SamplingConfig, said.get("sampling", {}), "sampling.")
        architecture = said.get("architecture", "net")
        if not isinstance(architecture, str):
            raise UsageError(f"setting architecture is {architecture!r:.60}; it wants a name")
        net = said.get(architecture, {})
        if not isinstance(net, dict) or not _listed(net.get("scalars", []), str):
            raise UsageError("setting net is no table of settings of a network")
        if not _listed(net.get("channels", []), int) or not _listed(
            [said.get("factor") or 1, net.get("patch", 1)], int
        ):
            raise UsageError("settings factor, patch and channels want whole numbers")

    @classmethod
    def sides(cls, document: Mapping[str, Any]) -> int:
        """A transformer with rotary places draws any grid of patches, a U-Net any that it can halve."""
        said = document["config"]
        net = said.get(said.get("architecture", "net"), {})
        if "patch" not in net:
            return 0
        halvings = len(net.get("channels", [0])) - 1
        coarsest = int(net.get("patch", 1)) * (2 if net.get("coarse_from", 1) < 1 else 1)  # nets/dit.py
        return int(said.get("factor") or 1) * coarsest * 2**halvings

    def settled(self, document: Mapping[str, Any], conditional: bool = True) -> FlowOptions:
        sampling = config.build(SamplingConfig, document["config"].get("sampling", {}))
        solver = self.solver or sampling.solver
        guided = conditional or bool(self.negative) or bool(self.also) or self.guide is not None
        self._check(document, sampling, solver)
        return replace(
            self,
            steps=self.steps or sampling.steps,
            solver=solver,
            cfg=(sampling.guidance_scale if self.cfg is None else self.cfg) if guided else None,
            interval=(self.interval or sampling.guidance_interval) if guided and not scalars_of(document) else None,
        )

    def _check(self, document: Mapping[str, Any], sampling: SamplingConfig, solver: str) -> None:
        """Raise UsageError for options that do not go together, or with this model."""
        if self.guide is not None and (self.negative or self.also):
            raise UsageError("--guide takes the place of the negative prompt, and does not go with further ones")
        if self.cfg is not None and self.guide is None and not {"text", "class"} & set(document["can"]):
            raise UsageError("--cfg: the model takes no condition to guide by; --guide names a weaker model")
        interval = self.interval if self.interval != sampling.guidance_interval else None
        shaping = {"negative": self.negative, "guidance": self.guidance != "cfg", "interval": interval,
                   "rescale": self.rescale}  # fmt: skip
        for name in filter(shaping.get, shaping):
            if self.cfg == 1 and not self.also and self.guide is None:
                raise UsageError(f"--{name} has no effect at --cfg 1, which does not guide; leave it out")
        if is_flow_map(document) and solver not in FLOW_MAP_SOLVERS:
            raise UsageError(f"--solver {solver}: this model is a flow map, sampled by {' or '.join(FLOW_MAP_SOLVERS)}")


def _listed(values: Any, kind: type) -> bool:
    """Whether a value is a list of values of this type, numbers above 0."""
    good = isinstance(values, (list, tuple)) and all(type(one) is kind for one in values)
    return good and (kind is str or min(values, default=1) >= 1)


def scalars_of(document: Mapping[str, Any]) -> list[str]:
    """What a model's network is conditioned on beside t: "guidance", "end"; nothing for a flow of many steps."""
    said = document["config"]
    return list(said.get(said.get("architecture", "net"), {}).get("scalars", []))


def is_flow_map(document: Mapping[str, Any]) -> bool:
    """Whether its guess is where a step along the ODE ends, not the mean of the data that x_t may come from."""
    scalars, solver = scalars_of(document), document["config"].get("sampling", {}).get("solver")
    return "end" in scalars or (bool(scalars) and solver == "consistency")
