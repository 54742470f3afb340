"""Flows in pixel space: conditions by text, class and nothing; both networks; inversion, variation and inpainting."""

from pathlib import Path

import pytest
import torch
from helpers import flow_request, shape_folder

from genctl.config import build
from genctl.data.pictures import DataConfig, Pictures, load
from genctl.diffusion.path import PATHS
from genctl.diffusion.target import TARGETS, solve
from genctl.errors import InputError, UsageError
from genctl.families.base import Blend
from genctl.families.flow.meanflow import STEP, around
from genctl.families.flow.settings import DiffusionConfig, SamplingConfig
from genctl.families.rf import RF, RFConfig
from genctl.nets.dit import DiTConfig
from genctl.nets.unet import UNetConfig
from genctl.rng import Draw

UNET = UNetConfig((16, 32), 1, (False, True), head=16, patch=2, text_slots=8)
DIT = DiTConfig(width=64, depth=2, heads=2, patch=4, text_slots=8)
COARSE = DiTConfig(width=64, depth=2, heads=2, patch=4, text_slots=8, coarse_from=0.65)
NETS = {"unet": {"unet": UNET}, "dit": {"dit": DIT}, "coarse": {"architecture": "dit", "dit": COARSE}}


def made(condition: str = "class", architecture: str = "unet", **settings: object) -> RF:
    torch.manual_seed(0)
    config = RFConfig(
        16, condition, ("blue", "red", "green")[: 3 if condition == "class" else 0],
        **{"architecture": architecture} | NETS[architecture] | settings,
    )  # type: ignore[arg-type]  # fmt: skip
    model = RF(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def drawn(model: RF, **request: object) -> torch.Tensor:
    asked = flow_request(**({"steps": 3, "dtype": torch.float32} | request))  # type: ignore[arg-type]
    return torch.cat([part.pictures for part in model.sample(asked) if part.final])


@pytest.fixture
def shapes(tmp_path: Path) -> Pictures:
    return load(shape_folder(tmp_path / "data", 1), 16, DataConfig())


@pytest.mark.parametrize("architecture", NETS)
@pytest.mark.parametrize("condition", ["text", "class", "none"])
def test_every_condition_trains_and_draws(shapes: Pictures, condition: str, architecture: str) -> None:
    config = RFConfig(16, condition, **{"architecture": architecture} | NETS[architecture])  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = RF(RF.fitted(config, shapes))
    assert (condition in model.can) == (condition != "none")
    source = model.source(shapes, torch.device("cpu"))
    batch = source.batch(torch.tensor([0, 5, 9]), Draw(0, 3))
    assert torch.equal(batch["x"], shapes.pixels[[0, 5, 9]].float() / 127.5 - 1)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(25):
        ((_, loss, figures),) = model.training_step(batch, Draw(step, 3), 0.0)
        assert not any(value.requires_grad for value in figures.values())  # they would hold the step's memory
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    prompt = {"text": "red circle", "class": "red-circle", "none": ""}[condition]
    assert drawn(model.eval(), seeds=[1], prompts=[prompt]).shape == (1, 3, 16, 16)


def test_classes_are_those_of_the_data_and_their_rows_are_their_own(shapes: Pictures) -> None:
    config = RF.fitted(RFConfig(16, "class", unet=UNET), shapes)
    assert len(config.classes) == 8
    assert "red-circle" in config.classes
    batch = RF(config).source(shapes, torch.device("cpu")).batch(torch.tensor([4, 11]), Draw(0, 2))
    named = [config.classes[int(row.argmax())] for row in batch["pooled"]]
    assert named == [shapes.entries[4].concept, shapes.entries[11].concept]
    assert torch.equal(batch["states"][:, 0], batch["pooled"])


def test_class_conditions() -> None:
    model = made()
    _, present, pooled = model.conditions(["red", "", Blend("red", "green", 0.25)])
    assert pooled.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0.75, 0.25]]
    assert present.tolist() == [[True], [False], [True]]
    with pytest.raises(UsageError, match=r"no class 'gren' \(did you mean \"green\"\?\); known: blue, red, green"):
        model.conditions(["gren"])
    assert (drawn(model, seeds=[1], prompts=["red"]) - drawn(model, seeds=[1], prompts=["green"])).abs().max() > 1e-3


def test_settings_that_fit_no_network_or_data_are_refused(shapes: Pictures) -> None:
    with pytest.raises(UsageError, match="lacks 'blue-circle'"):
        RF.fitted(RFConfig(16, "class", ("red-circle",), unet=UNET), shapes)
    with pytest.raises(ValueError, match=r"net.head is 64; it wants to divide the channels \[208, 208\]"):
        RF(RFConfig(16, "none", unet=UNetConfig((16, 208), 1, (False, True), head=64)))
    with pytest.raises(UsageError, match=r"model\.pixels is 0"):
        RF(RFConfig(0, "none", unet=UNET))
    with pytest.raises(UsageError, match=r"density_std is -1\.0; it wants a number above 0"):
        DiffusionConfig(density_std=-1.0)
    with pytest.raises(UsageError, match="steps is 0; it wants"):
        build(SamplingConfig, {"steps": 0})


def test_pictures_of_one_class_are_refused(tmp_path: Path) -> None:
    pictures = load(shape_folder(tmp_path / "data", 1), 16, DataConfig())
    one = Pictures(pictures.pixels[:1], pictures.entries[:1], "x", pictures.config, [])
    with pytest.raises(InputError, match="no two classes"):
        RF.fitted(RFConfig(16, "class", unet=UNET), one)


@pytest.mark.parametrize("architecture", NETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pictures_do_not_depend_on_their_batch(architecture: str, dtype: torch.dtype) -> None:
    model = made(architecture=architecture)
    request = {"guidance_scale": 3.0, "dtype": dtype}
    together = drawn(model, seeds=[1, 2, 3], prompts=["red", "green", ""], **request)
    alone = drawn(model, seeds=[2], prompts=["green"], **request)
    assert torch.equal(together[1:2], alone)
    assert torch.equal(together, drawn(model, seeds=[1, 2, 3], prompts=["red", "green", ""], chunk=2, **request))


@pytest.mark.parametrize("architecture", NETS)
def test_sampling_is_the_slow_loop(architecture: str) -> None:
    model, steps, scale = made(architecture=architecture), 4, 3.0
    got = drawn(model, seeds=[5], prompts=["red"], steps=steps, guidance_scale=scale)
    x = torch.randn(model.shape, generator=torch.Generator().manual_seed(5))[None]
    cond, uncond = model.conditions(["red"]), model.conditions([""])
    with torch.no_grad():
        for index in range(steps):
            t = 1 - index / steps
            v = model.net(x, torch.tensor([t]), *cond)
            if 0.1 <= t <= 0.95:
                v0 = model.net(x, torch.tensor([t]), *uncond)
                v = v0 + scale * (v - v0)
            x = x - v / steps
    assert torch.allclose(got, x.clamp(-1, 1), atol=1e-4)


@pytest.mark.parametrize("path", ["linear", "cosine", "vp", "subvp", "ve", "edm"])
@pytest.mark.parametrize("target", TARGETS)
def test_every_path_and_target_trains_and_draws(shapes: Pictures, path: str, target: str) -> None:
    weighting = "elbo" if target == "score" else "unit"  # a score grows without bound where the noise is small
    config = DiffusionConfig(path, target, weighting, "uniform")  # type: ignore[arg-type]
    model = made("none", diffusion=config)
    batch = model.source(shapes, torch.device("cpu")).batch(torch.arange(8), Draw(0, 8))
    ((_, loss, _),) = model.training_step(batch, Draw(0, 8), 0.0)
    assert torch.isfinite(loss)
    assert torch.isfinite(drawn(model, seeds=[1])).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_conditions_are_dropped_in_their_share(shapes: Pictures, share: float) -> None:
    config = RFConfig(16, "class", unet=UNET, diffusion=DiffusionConfig(condition_dropout=share))
    model = RF(RF.fitted(config, shapes))
    seen: list[torch.Tensor] = []
    forward = model.net.forward
    model.net.forward = lambda x, t, states, present, pooled: (  # type: ignore[method-assign]
        seen.append(present) or forward(x, t, states, present, pooled)  # type: ignore[func-returns-value]
    )
    batch = model.source(shapes, torch.device("cpu")).batch(torch.arange(16).repeat(8), Draw(0, 128))
    list(model.training_step(batch, Draw(0, 128), 0.0))
    assert float(seen[0].float().mean()) == pytest.approx(1 - share, abs=0.15)
    list(model.training_step(batch, Draw(0, 128), 0.0))
    assert torch.equal(seen[0], seen[1])
    model.validation_loss(batch, Draw(0, 128))
    assert seen[2].all()


@pytest.mark.parametrize(
    "path", [pytest.param("cosine", marks=pytest.mark.slow), "vp", pytest.param("edm", marks=pytest.mark.slow)]
)
def test_guidance_and_strength_mean_the_same_along_any_path(shapes: Pictures, path: str) -> None:
    """The interval and the strength are about the model's own times, whatever path is walked."""
    model, image = made(), shapes.pixels[3].float() / 127.5 - 1
    spacing = "karras" if path == "edm" else "uniform"
    for asked in ({"guidance_interval": (0.3, 0.6)}, {"image": image, "strength": 0.2, "guidance_scale": 1.0}):
        request = {"seeds": [1, 2], "prompts": ["red", "green"], "steps": 60, "solver": "heun", "guidance_scale": 4.0}
        exact = drawn(model, **(request | asked))
        got = drawn(model, **(request | asked), path=path, spacing=spacing)
        assert (got - exact).abs().mean() < 0.04


@pytest.mark.parametrize(
    "path", [pytest.param("cosine", marks=pytest.mark.slow), "vp", pytest.param("edm", marks=pytest.mark.slow)]
)
def test_any_path_leads_a_models_noise_to_the_same_picture(path: str) -> None:
    """The ODEs of all paths are one, in other coordinates. VP and EDM begin where a little signal is left."""
    model = made("none")
    exact = drawn(model, seeds=[1, 2], steps=100, solver="heun")
    spacing = "karras" if path == "edm" else "uniform"  # sigma from 80 down: even steps would all be at the noisy end
    got = drawn(model, seeds=[1, 2], steps=100, solver="heun", path=path, spacing=spacing)
    assert (got - exact).abs().mean() < 0.03
    assert (exact[0] - exact[1]).abs().mean() > 0.2


def test_noise_and_back_is_the_picture(shapes: Pictures) -> None:
    """The ODE is invertible; what is lost is the solver's error, which falls with the steps."""
    model = made("none")
    pictures = shapes.pixels[:2].float() / 127.5 - 1
    errors = []
    for steps in (10, 40):
        noise = model.invert(pictures, steps=steps)
        assert noise.shape == pictures.shape
        errors.append(float((model.from_noise(noise, steps=steps) - pictures).abs().max()))
    assert errors[1] < 0.01
    assert errors[1] < errors[0] / 2
    assert torch.equal(model.invert(pictures[1:], steps=10), model.invert(pictures, steps=10)[1:])


def test_a_picture_is_varied_as_far_as_the_strength_goes(shapes: Pictures) -> None:
    model, image = made("none"), shapes.pixels[3].float() / 127.5 - 1
    far = [
        float((drawn(model, seeds=[1], image=image, strength=strength, steps=8) - image).abs().mean())
        for strength in (0.01, 0.5, 1.0)
    ]
    assert far[0] < 0.05
    assert far[0] < far[1] < far[2]


def test_what_is_kept_is_seen_while_the_rest_is_drawn(shapes: Pictures) -> None:
    """Inpainting is the slow loop: before each step, the kept half is the known picture with the sample's noise."""
    model, image = made("none"), shapes.pixels[3].float() / 127.5 - 1
    mask = torch.zeros(1, 16, 16)
    mask[:, :, 8:] = 1
    got = drawn(model, seeds=[5], image=image, mask=mask, steps=4)
    noise = torch.randn(model.shape, generator=torch.Generator().manual_seed(5))[None]
    x = noise
    with torch.no_grad():
        for t in (1.0, 0.75, 0.5, 0.25):
            x = torch.where(mask > 0, x, (1 - t) * image + t * noise)
            x = x - model.net(x, torch.tensor([t])) / 4
    assert torch.allclose(got[:, :, :, 8:], x.clamp(-1, 1)[:, :, :, 8:], atol=1e-4)


@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m", "ancestral"])
def test_inpainting_keeps_what_the_mask_keeps(shapes: Pictures, solver: str) -> None:
    model, image = made("none"), shapes.pixels[3].float() / 127.5 - 1
    mask = torch.zeros(1, 16, 16)
    mask[:, :, 8:] = 1
    got = drawn(model, seeds=[1, 2], image=image, mask=mask, solver=solver, steps=8)
    assert torch.equal(got[:, :, :, :8], image[:, :, :8].expand(2, -1, -1, -1))
    assert (got[0, :, :, 8:] - got[1, :, :, 8:]).abs().mean() > 0.05


def test_a_weak_guide_is_extrapolated_away_from() -> None:
    """Autoguidance with scale w is the slow loop over both networks; w = 1 is the model alone."""
    model, weak = made(), made()
    with torch.no_grad():
        for parameter in weak.parameters():
            parameter.mul_(0.9)
    alone = drawn(model, seeds=[2], prompts=["red"], guidance_scale=1.0)
    assert torch.equal(drawn(model, seeds=[2], prompts=["red"], guidance_scale=1.0, guide=weak), alone)
    got = drawn(model, seeds=[2], prompts=["red"], guidance_scale=2.0, guide=weak, guidance_interval=(0.0, 1.0))
    x = torch.randn(model.shape, generator=torch.Generator().manual_seed(2))[None]
    with torch.no_grad():
        for t in (1.0, 2 / 3, 1 / 3):
            strong, other = (net(x, torch.tensor([t]), *model.conditions(["red"])) for net in (model.net, weak.net))
            x = x - (other + 2 * (strong - other)) / 3
    assert torch.allclose(got, x.clamp(-1, 1), atol=1e-4)
    far = made(diffusion=DiffusionConfig(path="cosine"))
    got = drawn(model, seeds=[2], prompts=["red"], guidance_scale=2.0, guide=far, guidance_interval=(0.0, 1.0))
    x, cosine = torch.randn(model.shape, generator=torch.Generator().manual_seed(2))[None], PATHS["cosine"]
    with torch.no_grad():
        for t in (1.0, 2 / 3, 1 / 3):
            guess = x - t * model.net(x, torch.tensor([t]), *model.conditions(["red"]))
            s = cosine.from_log_snr(PATHS["linear"].log_snr(torch.tensor([t])).clamp(min=-30))
            scaled = x * torch.sqrt((cosine.a(s) ** 2 + cosine.b(s) ** 2) / ((1 - t) ** 2 + t**2))
            weak_guess, _ = solve("velocity", cosine, scaled, far.net(scaled, s, *far.conditions(["red"])), s)
            guided = weak_guess + 2 * (guess - weak_guess)
            x = x - (x - guided) / t / 3
    assert torch.allclose(got, x.clamp(-1, 1), atol=1e-3)
    with pytest.raises(UsageError, match="takes the place of the negative"):
        drawn(model, seeds=[2], prompts=["red"], negative="green", guide=weak)
    other = RF(RFConfig(32, "class", ("blue", "red", "green"), unet=UNET))
    with pytest.raises(UsageError, match="of another size"):
        drawn(model, seeds=[2], guide=other)


def test_composed_prompts_are_the_slow_sum() -> None:
    model = made()
    got = drawn(model, seeds=[2], prompts=["red"], also=[("green", 0.5)], guidance_scale=2.0,
                guidance_interval=(0.0, 1.0))  # fmt: skip
    x = torch.randn(model.shape, generator=torch.Generator().manual_seed(2))[None]
    with torch.no_grad():
        for t in (1.0, 2 / 3, 1 / 3):
            red, green, none = (model.net(x, torch.tensor([t]), *model.conditions([p])) for p in ("red", "green", ""))
            x = x - (none + 2 * ((red - none) + 0.5 * (green - none))) / 3
    assert torch.allclose(got, x.clamp(-1, 1), atol=1e-4)


def test_wrong_shapes_of_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="64 pixels do not divide by 96"):
        RF(RFConfig(64, "none", unet=UNetConfig(patch=24)))
    with pytest.raises(ValueError, match="one entry a level"):
        RF(RFConfig(64, "none", unet=UNetConfig((16, 16), attention=(True,))))
    with pytest.raises(UsageError, match='condition = "none" instead'):
        RF(RFConfig(64, "text", unet=UNetConfig(text="none")))


def test_differences_in_time_do_not_cross_to_coarser_patches() -> None:
    edge = torch.tensor([0.65, 0.65 + 1e-6, 0.65 - 1e-6, 1.0, 1e-3])
    t = torch.cat([torch.linspace(1e-3, 1, 500), edge])
    low, high = around(t, 0.65)
    for side in (low, high):
        assert torch.equal(side > 0.65, t > 0.65)
    assert (high - low).min() > 0.7 * STEP
    assert ((low <= t) & (t <= high)).all()
    low, high = around(t, 1.0)
    assert torch.equal(high, (t + STEP).clamp(max=1))
