"""Settings: where they come from, and that the page about them is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from zarrdock.config import Config, available_cpus, config, cpu_quota


def test_the_page_names_every_setting(repository: Path) -> None:
    page = (repository / "docs/reference/configuration.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", page, re.MULTILINE)
    assert rows == [(field.name, str(field.default)) for field in fields(Config)]
    documented = {line.strip().partition(":")[0] for line in (Config.__doc__ or "").splitlines()}
    assert {field.name for field in fields(Config)} <= documented


def test_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZARRDOCK_THREADS", "3")
    monkeypatch.setenv("ZARRDOCK_WHOLE_FRACTION", "0.5")
    assert (Config().threads, Config().whole_fraction, Config().n_threads) == (3, 0.5, 3)
    monkeypatch.setenv("ZARRDOCK_THREADS", "many")
    with pytest.raises(ValueError, match="ZARRDOCK_THREADS='many' is not a number"):
        Config()


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("THREADS", "abc", "is not a number"),
        ("THREADS", "-3", "too small"),
        ("THREADS", "2.5", "is not a number"),
        ("ROUND_BYTES", "0", "too small: the least is 1"),
        ("WHOLE_FRACTION", "nan", "too small"),
        ("CACHE_BYTES", "1M", "is not a number"),
        ("S3_DIRECT_READS", "", "is not a number"),
    ],
)
def test_nonsense_in_the_environment(variable: str, value: str, problem: str, tmp_path: Path) -> None:
    environment = {**os.environ, f"ZARRDOCK_{variable}": value}
    command = [sys.executable, "-m", "zarrdock", "info", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: ZARRDOCK_{variable}=")
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1
    code = "import zarrdock; a = zarrdock.create_array({}, shape=(4,), dtype='u1'); a[:] = 1; a[:]"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith(f"ValueError: ZARRDOCK_{variable}=")


@pytest.mark.parametrize(("name", "value"), [("threads", -1), ("job_bytes", 0), ("whole_fraction", float("nan"))])
def test_nonsense_at_run_time(name: str, value: float) -> None:
    before = getattr(config, name)
    with pytest.raises(ValueError, match=f"zarrdock.config.{name}="):
        setattr(config, name, value)
    with pytest.raises(ValueError, match="too small"), config.set(**{name: value}):
        pass
    with pytest.raises(ValueError, match="is not a number"):
        setattr(config, name, "3")
    assert getattr(config, name) == before


def test_the_variable_is_read_at_import() -> None:
    code = "import zarrdock; print(zarrdock.config.round_bytes)"
    environment = {"ZARRDOCK_ROUND_BYTES": "4096"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "4096\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n", "a/b/cpu.max": "max 100000\n"}, 0.5),
        ("0::/not/here\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
        (
            "4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"},
            3.0,
        ),
        ("3:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_quotas_of_control_groups(tmp_path: Path, groups: str, files: dict[str, str], expected: float | None) -> None:
    (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cpu_quota(str(tmp_path / "cgroup"), str(tmp_path / "mount")) == expected


def test_no_control_groups(tmp_path: Path) -> None:
    assert cpu_quota(str(tmp_path / "nothing"), str(tmp_path)) is None
    assert available_cpus() >= 1
