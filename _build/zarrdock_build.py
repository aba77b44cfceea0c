"""The build backend: setuptools, with two settings that no static file can express.

An editable install must be in strict mode. setuptools' default one finds packages by their parent folder, and
``stores/``, ``array/`` and ``codecs/`` are renamed on the way into the package.

A wheel must not be built over the leftovers of an earlier build: setuptools reuses ``build/lib``, and a module
deleted since then would be shipped again.
"""

import tempfile
from collections.abc import Mapping
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (every other hook is setuptools' own)

Settings = Mapping[str, Any] | None
Path = str | None


def build_editable(wheel_directory: str, config_settings: Settings = None, metadata_directory: Path = None) -> str:
    settings = {"editable_mode": "strict", **(config_settings or {})}
    return build_meta.build_editable(wheel_directory, settings, metadata_directory)


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: Path = None) -> str:
    with tempfile.TemporaryDirectory(prefix="zarrdock-build-") as scratch:
        settings = {"--global-option": ["build", f"--build-base={scratch}"], **(config_settings or {})}
        return build_meta.build_wheel(wheel_directory, settings, metadata_directory)
