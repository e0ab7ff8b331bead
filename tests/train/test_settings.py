"""Settings by name: typed, nested, refused in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from headsplat.errors import HeadsplatError
from headsplat.train.settings import override


@dataclass(frozen=True)
class Net:
    width: int = 8


@dataclass(frozen=True)
class Config:
    count: int = 1
    rate: float = 0.5
    on: bool = False
    mode: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    limit: int | None = None
    net: Net = field(default_factory=Net)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("count is negative")


def test_every_kind_of_field() -> None:
    given = ["count=3", "rate=1e-3", "on=true", "mode=b", "sizes=4,5,6", "limit=7", "net.width=16"]
    assert override(Config(), given) == Config(3, 1e-3, True, "b", (4, 5, 6), 7, Net(16))
    assert override(Config(limit=3), ["limit=none"]).limit is None
    assert override(Config(), []) == Config()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("count", "write it like name=value"),
        ("colour=1", "there are count, rate"),
        ("cuont=1", "did you mean count"),
        ("count=x", "it is int"),
        ("on=maybe", "true or false"),
        ("mode=c", "one of a, b"),
        ("net=1", "Net"),
        ("net.depth=1", "did you mean width"),
        ("count.x=1", "has no parts"),
        ("count=-1", "count is negative"),
    ],
)
def test_mistakes_are_refused_in_words(change: str, words: str) -> None:
    with pytest.raises(HeadsplatError, match=words):
        override(Config(), [change])
