"""Configuration is strict: unknown keys and wrong types are named, presets all build."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import pytest

from genctl import config
from genctl.data.pictures import DataConfig
from genctl.errors import UsageError
from genctl.families.distill.settings import DistillConfig, Method
from genctl.families.registry import family_class
from genctl.training.optim import TrainConfig


@dataclass(frozen=True)
class Inner:
    depth: int = 3
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[float, float] = (0.0, 1.0)
    kind: Literal["a", "b"] = "a"
    most: int | None = None


def test_round_trip() -> None:
    made = config.build(Outer, {"inner": {"rate": 1}, "sizes": [4], "pair": [1, 2.5], "kind": "b", "most": 7})
    assert made == Outer(Inner(3, 1.0), (4,), (1.0, 2.5), "b", 7)
    assert config.build(Outer, config.to_dict(made)) == made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"dept": 2}}, r'inner\.dept \(did you mean "depth"\?\)'),
        ({"inner": {"depth": 2.5}}, r"inner\.depth is 2\.5; it wants int"),
        ({"inner": {"depth": True}}, r"inner\.depth is True; it wants int"),
        ({"inner": 3}, "table of settings"),
        ({"kind": "c"}, "'a', 'b'"),
        ({"sizes": 3}, "wants a list"),
        ({"pair": [1]}, "wants 2 values"),
        ({"most": "7"}, "wants int"),
    ],
)
def test_mistakes_are_named(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config.build(Outer, values)


def test_overrides() -> None:
    assert config.parse_override("net.depth=6") == {"net": {"depth": 6}}
    assert config.parse_override("a.b.c=[1, 2]") == {"a": {"b": {"c": [1, 2]}}}
    assert config.parse_override("codec=runs/mine") == {"codec": "runs/mine"}
    assert config.merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) == {"a": {"b": 1, "c": 3}}
    with pytest.raises(UsageError, match="key=value"):
        config.parse_override("depth")


@pytest.mark.parametrize("name", config.presets())
def test_every_preset_builds(name: str) -> None:
    family, preset = name.split(".", 1)
    values = config.load_preset(family, preset)
    methods = {method: values.pop(method) for method in get_args(Method) if family == "distill" and method in values}
    assert set(values) <= {"model", "train", "data"} | ({"distill"} if family == "distill" else set())
    kind, section = (DistillConfig, "distill") if family == "distill" else (family_class(family).Config, "model")
    built = config.build(kind, values.get(section, {}))
    assert config.build(kind, config.to_dict(built)) == built
    config.build(DataConfig, values.get("data", {}))
    train = config.build(TrainConfig, values.get("train", {}))
    assert train.minutes or train.steps
    for own in methods.values():
        config.build(TrainConfig, config.merge(values, own)["train"])


def test_unknown_preset_suggests() -> None:
    with pytest.raises(UsageError, match='did you mean "cpu"'):
        config.load_preset("vae", "cpy")
