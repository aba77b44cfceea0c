"""The layout keeps its promises: renamed root folders, and standard-library names left alone."""

import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

import zarrdock

ROOT_FOLDERS = ("stores", "array", "codecs")


def sources(repository: Path) -> list[Path]:
    return sorted(path for folder in (*ROOT_FOLDERS, "src") for path in (repository / folder).rglob("*.py"))


def run_from(folder: Path, code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_standard_librarys_array_and_codecs_win_at_the_root(repository: Path) -> None:
    code = (
        "import array, codecs, multiprocessing.reduction as r; print(array.array('b', [1]).itemsize, codecs.__file__)"
    )
    itemsize, codecs_file = run_from(repository, code).strip().split(" ", 1)
    assert itemsize == "1"
    assert Path(codecs_file).is_relative_to(sysconfig.get_path("stdlib"))


@pytest.mark.parametrize("folder", ROOT_FOLDERS)
def test_no_init_file_in_a_root_folder(repository: Path, folder: str) -> None:
    assert (repository / folder).is_dir()
    assert not (repository / folder / "__init__.py").exists()


@pytest.mark.parametrize("name", ["zarrdock", *ROOT_FOLDERS])
def test_no_file_at_the_root_hides_the_package(repository: Path, name: str) -> None:
    assert not (repository / f"{name}.py").exists()
    assert not (repository / "zarrdock").exists()


def test_zarrdock_imports_from_the_repositorys_root(repository: Path) -> None:
    where = run_from(repository, "import zarrdock, zarrdock.stores.base; print(zarrdock.__file__)")
    assert Path(where.strip()) == Path(zarrdock.__file__)


def test_every_source_file_is_installed(repository: Path) -> None:
    installed = Path(zarrdock.__file__).parent
    missing = []
    for path in sources(repository):
        inside = path.relative_to(repository)
        target = Path(*inside.parts[2:]) if inside.parts[0] == "src" else inside
        if not (installed / target).exists():
            missing.append(str(inside))
    assert not missing, "not in the package (an editable install must be renewed after adding a file)"


def test_the_package_is_typed() -> None:
    assert (Path(zarrdock.__file__).parent / "py.typed").is_file()


def test_the_minimum_versions_are_the_ones_that_are_tested(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = (repository / "constraints" / "minimum.txt").read_text("utf-8").splitlines()
    tested = {line.partition(";")[0].strip() for line in lines}
    asked = [
        *project["dependencies"],
        *(item for name in extras if name not in {"dev", "docs", "view"} for item in extras[name]),
    ]
    wanted = re.compile(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)")
    minimums = {f"{found[1]}=={found[2]}" for item in asked if (found := wanted.match(item))}
    assert {item for item in asked if not wanted.match(item) and not item.startswith("zarrdock[")} == set()
    assert minimums - tested == set()


def test_what_errors_and_pages_say_to_install_is_there_to_be_installed(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    folders = [repository / name for name in ("src", "stores", "array", "codecs", "docs", "tests")]
    files = [repository / "README.md", *(f for one in folders for f in one.rglob("*") if f.suffix in (".py", ".md"))]
    n_hints = 0
    for path in files:
        if "node_modules" in path.parts or path.name == "test_layout.py":
            continue
        text = path.read_text("utf-8")
        for names in re.findall(r"zarrdock\[([a-z0-9,]+)\]", text):
            n_hints += 1
            assert set(names.split(",")) - extras == set(), path
        # Single quotes are part of the name in Windows' command line.
        assert not re.search(r"pip install '", text) or path.parts[-2] == "measurements", path
    assert n_hints > 20


def test_all_is_all_but_what_is_large(repository: Path) -> None:
    extras = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(everything.removeprefix("zarrdock[").removesuffix("]").split(","))
    assert set(extras) - named == {"all", "imagecodecs", "references", "tiff", "test", "dev", "docs"}
