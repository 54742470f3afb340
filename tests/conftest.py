import functools
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite has a process for each core


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _short_sheets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sheets of runs are drawn in one step, but for tests that ask for `whole_sheets`: sixteen pictures in all
    steps would be most of a short run."""
    flow = sys.modules.get("genctl.families.flow.flow")
    if flow is not None and "whole_sheets" not in request.fixturenames:
        from genctl.families.flow.video_options import VideoOptions  # of pictures too

        monkeypatch.setattr(flow, "Request", functools.partial(flow.Request, options=VideoOptions(steps=1)))


@pytest.fixture
def whole_sheets() -> None:
    """See `_short_sheets`."""


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models with random weights: tiny-vae, tiny-ldm, tiny-rf and tiny-gan (classes red and green),
    tiny-latent-gan, tiny-vq, tiny-vq-grids, tiny-ar (masked), tiny-raster (classes red and green), tiny-scale,
    tiny-clipvae and tiny-video, that commands can name through GENCTL_MODELS."""
    import torch

    from genctl.families.adversarial.settings import CriticConfig, GANConfig, GeneratorConfig
    from genctl.families.ar import AR, ARConfig
    from genctl.families.clipvae import ClipNetConfig, ClipVAE, ClipVAEConfig
    from genctl.families.codec import ConvConfig
    from genctl.families.gan import GAN
    from genctl.families.ldm import LDM, LDMConfig
    from genctl.families.rf import RF, RFConfig
    from genctl.families.saved import kept, save
    from genctl.families.vae import VAE, NetConfig, VAEConfig
    from genctl.families.video import Video, VideoConfig
    from genctl.families.vq import VQ, QuantiserConfig, VQConfig
    from genctl.nets.dit import DiTConfig
    from genctl.nets.gpt import GPTConfig
    from genctl.nets.unet import UNetConfig

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    vae = VAE(VAEConfig(pixels=32, net=NetConfig((8, 8), (1, 1), (1, 1), latent=2)))
    ldm = LDM(
        LDMConfig(32, codec="tiny-vae", channels=2, factor=4, net=DiTConfig(width=64, depth=2, heads=2, text_slots=8))
    )
    unet = UNetConfig((16, 32), 1, (False, True), head=16)
    rf = RF(RFConfig(32, "class", ("green", "red"), unet=unet))
    nets = GeneratorConfig(latent=8, style=12, width=4, most=8, text_slots=8), CriticConfig(width=4, most=8)
    gan = GAN(GANConfig(32, "class", ("green", "red"), generator=nets[0], critic=nets[1]))
    latent = GAN(GANConfig(32, codec="tiny-vae", channels=2, factor=4, generator=nets[0], critic=nets[1]))
    trained = [*vae.parameters(), *ldm.net.parameters(), *rf.net.parameters(), *gan.net.parameters()]
    with torch.no_grad():
        for parameter in [*trained, *latent.net.parameters()]:
            parameter.add_(0.05 * torch.randn_like(parameter))
    vq = VQ(VQConfig(32, ConvConfig((8, 8), (1, 1), (1, 1)), QuantiserConfig(levels=(4, 3))))
    grids = QuantiserConfig("vq", codes=16, width=4, sides=(1, 2, 8))
    vq_grids = VQ(VQConfig(32, ConvConfig((8, 8), (1, 1), (1, 1)), grids))
    net = GPTConfig(width=32, depth=2, heads=2, text_slots=8)
    of = {"codes": 12, "factor": 4, "width": 2, "sides": (), "architecture": net}
    tokens = {
        "tiny-ar": AR(ARConfig(32, codec="tiny-vq", **of)),
        "tiny-raster": AR(ARConfig(32, "class", ("green", "red"), codec="tiny-vq", order="raster", **of)),
        "tiny-scale": AR(
            ARConfig(
                32, "none", codec="tiny-vq-grids", order="scale", **of | {"codes": 16, "width": 4, "sides": grids.sides}
            )
        ),
    }
    with torch.no_grad():
        for parameter in [
            p for model in (vq, vq_grids, *(one.net for one in tokens.values())) for p in model.parameters()
        ]:
            parameter.add_(0.1 * torch.randn_like(parameter))
    clip_net = ClipNetConfig((8, 8), (1, 1), (1, 1), latent=2, times=(True,), pasts=(0, 1))
    clipvae = ClipVAE(ClipVAEConfig(32, frames=5, net=clip_net))
    video_net = DiTConfig(width=64, depth=2, heads=2, text_slots=8, patch=2)
    video = Video(
        VideoConfig(32, codec="tiny-clipvae", channels=2, factor=4, frames=5, fps=8.0, period=2, net=video_net)
    )
    with torch.no_grad():
        for parameter in [*clipvae.parameters(), *video.net.parameters()]:
            parameter.add_(0.05 * torch.randn_like(parameter))
    before = os.environ.get("GENCTL_MODELS")
    os.environ["GENCTL_MODELS"] = str(folder)
    save(vae, folder / "tiny-vae.safetensors", kept(vae, vae.state_dict()), {})
    ldm.codec(), ldm.text(), latent.codec(), latent.text()
    save(ldm, folder / "tiny-ldm.safetensors", ldm.state_dict(), {})
    save(rf, folder / "tiny-rf.safetensors", rf.state_dict(), {})
    save(gan, folder / "tiny-gan.safetensors", kept(gan, gan.state_dict()), {})
    save(latent, folder / "tiny-latent-gan.safetensors", kept(latent, latent.state_dict()), {})
    for name, codec in (("tiny-vq", vq), ("tiny-vq-grids", vq_grids)):
        save(codec, folder / f"{name}.safetensors", kept(codec, codec.state_dict()), {})
    for name, model in tokens.items():
        model.codec()
        if "text" in model.can:
            model.text()
        save(model, folder / f"{name}.safetensors", model.state_dict(), {})
    save(clipvae, folder / "tiny-clipvae.safetensors", kept(clipvae, clipvae.state_dict()), {})
    video.codec(), video.text()
    save(video, folder / "tiny-video.safetensors", video.state_dict(), {})
    if before is None:
        del os.environ["GENCTL_MODELS"]
    return folder


@pytest.fixture
def models(model_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the small models, named by GENCTL_MODELS, with the test's own folder as the current one."""
    monkeypatch.setenv("GENCTL_MODELS", str(model_folder))
    monkeypatch.chdir(tmp_path)
    return model_folder
