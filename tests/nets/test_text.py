"""The text encoder against recorded values of the float32 original, and its tokeniser against its ids."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genctl import files, hub
from genctl.errors import ModelError
from genctl.nets.text import HEADS, LAYERS, TextEncoder, Tokenizer, dequantise, load_text_encoder, quantise_rows

FOX = "a photo of a red fox in the snow"
FOX_IDS = [101, 1037, 6302, 1997, 1037, 2417, 4419, 1999, 1996, 4586, 102]
INT8 = 4e-3  # a component (of about 0.05) may move by this through int8 storage


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return files.load_tensors(hub.resolve("minilm", kind="part"))[0]


@pytest.fixture(scope="module")
def encoder(tensors: dict[str, Tensor]) -> TextEncoder:
    return load_text_encoder(tensors)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(files.read_header(hub.resolve("minilm", kind="part")).metadata["tokenizer"])


def pooled(encoder: TextEncoder, tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    ids, mask, _ = tokenizer.encode(texts)
    return encoder(ids, mask)[1]


def test_values_of_the_float32_original(encoder: TextEncoder, tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([FOX])[0].tolist() == [FOX_IDS]
    fox, example = pooled(encoder, tokenizer, [FOX, "This is an example sentence"])
    want = torch.tensor([-0.043509, 0.012993, -0.007203, 0.058888, 0.026747, -0.000070, 0.010263, 0.011320])
    assert torch.allclose(fox[:8], want, atol=INT8)
    assert torch.allclose(example[:4], torch.tensor([0.0677, 0.0635, 0.0487, 0.0793]), atol=INT8)


def test_nearness_of_words(encoder: TextEncoder, tokenizer: Tokenizer) -> None:
    cat, *others = pooled(encoder, tokenizer, ["cat", "kitten", "dog", "rocket"])
    found = [float(cat @ other) for other in others]
    assert found == pytest.approx([0.788, 0.661, 0.377], abs=0.012)


def test_shapes_and_unit_length(encoder: TextEncoder, tokenizer: Tokenizer) -> None:
    ids, mask, cut = tokenizer.encode(["cat", FOX])
    states, vectors = encoder(ids, mask)
    assert (states.shape, vectors.shape, cut) == ((2, 11, 384), (2, 384), [False, False])
    assert mask.sum(1).tolist() == [3, 11]
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-6)


def test_padding_and_neighbours_do_not_change_a_row(encoder: TextEncoder, tokenizer: Tokenizer) -> None:
    texts = ["cat", FOX, "keycap: 3", ""]
    ids, mask, _ = tokenizer.encode(texts)
    states, vectors = encoder(ids, mask)
    for row, text in enumerate(texts):
        alone_ids, alone_mask, _ = tokenizer.encode([text])
        alone_states, alone = encoder(alone_ids, alone_mask)
        assert torch.allclose(vectors[row], alone[0], atol=1e-5)
        assert torch.allclose(states[row, : alone_states.shape[1]], alone_states[0], atol=1e-5)


def test_forward_equals_the_slow_obvious_one(
    tensors: dict[str, Tensor], encoder: TextEncoder, tokenizer: Tokenizer
) -> None:
    """One text, one head at a time, softmax written out, the exact GELU by the error function."""
    ids, mask, _ = tokenizer.encode([FOX])
    w = {name: tensor.double() for name, tensor in dequantise(tensors).items()}

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        spread = (centred.square().mean(1, keepdim=True) + 1e-12).sqrt()
        return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = norm(w["words.weight"][ids[0]] + w["positions.weight"][: len(ids[0])], "norm")
    for at in (f"layers.{index}" for index in range(LAYERS)):
        q, k, v = (part.chunk(HEADS, 1) for part in linear(x, f"{at}.qkv").chunk(3, 1))
        heads = [torch.softmax(q[h] @ k[h].T / 32**0.5, 1) @ v[h] for h in range(HEADS)]
        x = norm(x + linear(torch.cat(heads, 1), f"{at}.out"), f"{at}.norm1")
        hidden = linear(x, f"{at}.up")
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        x = norm(x + linear(hidden, f"{at}.down"), f"{at}.norm2")
    states, vector = encoder(ids, mask)
    assert torch.allclose(states[0].double(), x, atol=1e-5)
    assert torch.allclose(vector[0].double(), x.mean(0) / x.mean(0).norm(), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "is_cut"),
    [
        ("", False),
        ("   ", False),
        ("very " * 2000, True),  # 10 kB
        ("漢字 " * 40, True),
        ("かな العربية हिन्दी русский ελληνικά", False),
        ("🦊🐱 \U0001f9d1\u200d\U0001f373", False),
        ("bad \udc80 bytes \0 and \n marks é", False),
    ],
)
def test_any_text_is_taken_and_a_cut_is_told(
    encoder: TextEncoder, tokenizer: Tokenizer, text: str, is_cut: bool
) -> None:
    ids, mask, cut = tokenizer.encode([text])
    assert cut == [is_cut]
    assert ids.shape[1] <= 64
    assert (int(ids[0, 0]), int(ids[0, -1])) == (101, 102)
    states, vector = encoder(ids, mask)
    assert torch.isfinite(states).all()
    assert float(vector.norm()) == pytest.approx(1, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(max_size=80), max_size=4), most=st.integers(2, 20))
def test_tokens_of_made_text(tokenizer: Tokenizer, texts: list[str], most: int) -> None:
    ids, mask, cut = tokenizer.encode(texts, max_tokens=most)
    assert ids.shape == mask.shape
    assert (ids.shape[0], len(cut)) == (len(texts), len(texts))
    assert ids.shape[1] <= most
    assert (ids[~mask] == 0).all()


def test_case_and_accents_do_not_matter(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(["Café OLÉ"])[0].tolist() == tokenizer.encode(["cafe ole"])[0].tolist()


def test_an_impossible_length_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="max_tokens is 1"):
        tokenizer.encode(["cat"], max_tokens=1)


def test_quantised_rows_are_within_half_a_step() -> None:
    weight = torch.randn(64, 96, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 2, 64)[:, None]
    weight[3] = 0
    codes, scale = quantise_rows(weight)
    back = dequantise({"w": codes, "w.scale": scale})["w"]
    assert (codes.dtype, scale.dtype) == (torch.int8, torch.float16)
    assert ((back - weight).abs() <= 0.5001 * scale.float()[:, None]).all()
    assert torch.equal(back[3], torch.zeros(96))


def test_words_taken_from_int8_are_those_of_the_whole_table(tensors: dict[str, Tensor], encoder: TextEncoder) -> None:
    whole = TextEncoder().eval()
    whole.load_state_dict(dequantise(tensors))
    ids, mask = torch.tensor([FOX_IDS]), torch.ones(1, len(FOX_IDS), dtype=torch.bool)
    with torch.inference_mode():
        for one, other in zip(encoder(ids, mask), whole(ids, mask), strict=True):
            assert torch.equal(one, other)
    held = {name for name, tensor in [*encoder.named_parameters(), *encoder.named_buffers()] if tensor.numel() > 4e6}
    assert held == {"words.codes"}
    assert encoder.words.codes.dtype == torch.int8


def test_wrong_files_are_model_errors(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(ModelError, match=r"layers\.0\.up\.bias"):
        load_text_encoder({name: tensor for name, tensor in tensors.items() if name != "layers.0.up.bias"})
    with pytest.raises(ModelError, match="tokeniser"):
        Tokenizer("{}")


def test_bfloat16_weights_stay_near(tensors: dict[str, Tensor], encoder: TextEncoder, tokenizer: Tokenizer) -> None:
    fast = load_text_encoder(tensors).bfloat16()
    assert float((pooled(fast, tokenizer, [FOX]).float() * pooled(encoder, tokenizer, [FOX])).sum()) > 0.995
