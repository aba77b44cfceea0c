"""What pyproject.toml promises other libraries is there."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest


def entry_points() -> list[EntryPoint]:
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text("utf-8")
    groups = tomllib.loads(text)["project"]["entry-points"]
    return [EntryPoint(name, value, group) for group, members in groups.items() for name, value in members.items()]


@pytest.mark.parametrize("point", entry_points(), ids=lambda point: f"{point.group}:{point.name}")
def test_entry_points_lead_to_classes(point: EntryPoint) -> None:
    assert isinstance(point.load(), type)
