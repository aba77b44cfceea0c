"""Who may import whom, read from the source text: no module has to be loaded, and lazy imports count too."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

import zarrdock

FOUNDATION = {"errors", "ranges", "after_fork", "lru", "facts"}
BASE = FOUNDATION | {"config", "json_", "registry", "switch_interval"}

# Unit (a folder or file directly in the package) -> the other units it may import.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "json_": {"errors"},
    "ranges": {"errors"},
    "after_fork": set(),
    "facts": set(),
    "lru": {"after_fork"},
    "config": FOUNDATION,
    "switch_interval": FOUNDATION | {"config"},
    "registry": FOUNDATION | {"config"},
    "stores": BASE,
    "codecs": BASE,
    "array": BASE | {"stores", "codecs"},
    "adapters": BASE | {"lazy_imports", "stores", "codecs", "array"},
    "views": BASE | {"stores", "codecs", "array"},
    "viewer": BASE | {"stores", "codecs", "array", "views", "serve"},
    "serve": BASE | {"stores", "codecs", "array", "views", "viewer"},
    "testing": BASE | {"lazy_imports", "stores", "codecs", "array", "api"},
    "copying": BASE | {"stores", "codecs", "array", "views"},
    "checking": BASE | {"stores", "codecs", "array", "copying"},
    "repairing": BASE | {"stores", "codecs", "array", "copying"},
    "restoring": BASE | {"stores", "codecs", "array", "copying", "checking", "repairing"},
    "layouts": BASE | {"stores", "codecs", "array", "copying"},
    "pyramids": BASE | {"stores", "codecs", "array", "copying", "viewer"},
    "lazy_imports": set(),
    "storage": {"lazy_imports", "stores", "ranges"},
    "tools": {"lazy_imports", "array", "stores", "checking", "repairing", "restoring", "layouts", "serve"},
    "__main__": {"cli"},
    "cli": BASE
    | {
        "api",
        "stores",
        "codecs",
        "array",
        "copying",
        "checking",
        "repairing",
        "restoring",
        "layouts",
        "pyramids",
        "adapters",
        "views",
        "viewer",
        "serve",
    }
    | {"testing"},
    "demo_data": set(),
    "api": BASE | {"stores", "codecs", "array"},
    "__init__": BASE
    | {
        "lazy_imports",
        "storage",
        "testing",
        "tools",
        "stores",
        "codecs",
        "array",
        "api",
        "copying",
        "pyramids",
        "adapters",
        "views",
        "viewer",
        "serve",
    },
}

# Optional library -> where it may be imported. A trailing slash means the whole folder.
HOMES: dict[str, tuple[str, ...]] = {
    "IPython": ("copying/notebook_bar.py",),
    "icechunk": ("adapters/icechunk_urls.py",),
    "botocore": ("stores/",),
    "aiobotocore": ("stores/",),
    "gcsfs": ("stores/",),
    "adlfs": ("stores/",),
    "azure": ("stores/",),
    "aiohttp": ("stores/", "views/", "serve/"),
    "aiohappyeyeballs": ("stores/",),
    "obstore": ("stores/", "adapters/"),
    "obspec": ("adapters/",),
    "typing_extensions": ("adapters/",),  # for the type checker alone
    "zarr": (
        "adapters/",
        "copying/",
    ),
    "xarray": ("adapters/",),
    "dask": ("adapters/",),
    "distributed": ("adapters/",),
    "tensorstore": ("adapters/",),
    "neuroglancer": ("adapters/", "viewer/"),
    "ml_dtypes": ("array/", "codecs/"),
    "click": ("cli/",),
    "rich": ("cli/",),
    "rich_click": ("cli/",),
    "PIL": ("cli/", "viewer/"),
    "jinja2": ("serve/",),
    "h5py": ("views/",),
    "netCDF4": ("copying/",),
    "tifffile": ("copying/",),
    "pyarrow": ("views/",),
    "pytest": ("testing/",),
    "hypothesis": ("testing/",),
    "yarl": ("stores/",),
    # The S3 server of `zarrdock demo`.
    "s3fs": ("stores/", "cli/demo.py"),
    "moto": ("cli/demo.py",),
    "werkzeug": ("cli/demo.py",),
}

CORE_LIBRARIES = {
    "backports",
    "compression",
    "crc32c",
    "deflate",
    "fsspec",
    "google_crc32c",
    "numcodecs",
    "numpy",
    "zstandard",
}

# `import zarrdock` stays light: none of these may come with it.
HEAVY = set(HOMES) | {"pandas"}


def modules(repository: Path) -> Iterator[tuple[PurePosixPath, ast.Module]]:
    """Every module of the package: its path inside the package, and its syntax tree."""
    folders = {"": "src/zarrdock", "stores": "stores", "array": "array", "codecs": "codecs"}
    for name, inside in folders.items():
        folder = repository / inside
        for path in sorted(folder.rglob("*.py")):
            yield PurePosixPath(name) / path.relative_to(folder).as_posix(), ast.parse(path.read_bytes(), str(path))


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a module imports, wherever in it the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            if node.module == "zarrdock":  # a unit (errors) or a public name of the face (Array)
                yield from (f"zarrdock.{alias.name}" for alias in node.names)
            else:
                yield node.module


def unit_of(path: PurePosixPath) -> str:
    return path.parts[0].removesuffix(".py")


@pytest.mark.parametrize(("name", "library"), [("ZarrStore", "zarr"), ("CodecPipeline", "zarr"), ("xarray", "xarray")])
def test_a_name_without_its_library_names_the_extra(name: str, library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; from zarrdock.adapters import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    line = done.stderr.strip().splitlines()[-1]
    assert line == (f'ModuleNotFoundError: zarrdock.adapters.{name} needs {library}: pip install "zarrdock[{library}]"')


def test_imports_go_one_way(repository: Path) -> None:
    wrong = []
    for path, tree in modules(repository):
        unit = unit_of(path)
        assert unit in MAY_IMPORT, f"{path}: give {unit!r} its place in MAY_IMPORT"
        for name in imported(tree):
            head, _, rest = name.partition(".")
            if head != "zarrdock":
                continue
            target = rest.partition(".")[0] or "__init__"
            if target not in MAY_IMPORT:
                target = "__init__"
            face_ok = target == "__init__" and unit in {"cli", "adapters", "views", "viewer", "serve", "testing"}
            if target != unit and target not in MAY_IMPORT[unit] and not face_ok:
                wrong.append(f"{path} imports {name}")
    assert not wrong


def test_inside_array_imports_go_one_way(repository: Path) -> None:
    """Data types, then metadata, then planning, then execution, then the faces directly in the folder."""
    order = ["dtypes", "metadata", "planning", "execution"]
    wrong = []
    for path, tree in modules(repository):
        if path.parts[0] != "array" or len(path.parts) < 3:
            continue
        rank = order.index(path.parts[1])
        for name in imported(tree):
            head, *inside = name.split(".")[1:] or ["", ""]
            if head != "array":
                continue
            if inside[0] not in order or order.index(inside[0]) > rank:
                wrong.append(f"{path} imports {name}")
    assert not wrong


def test_optional_libraries_are_imported_at_home_only(repository: Path) -> None:
    wrong = []
    for path, tree in modules(repository):
        for name in imported(tree):
            library = name.partition(".")[0]
            if library in sys.stdlib_module_names or library in CORE_LIBRARIES or library == "zarrdock":
                continue
            assert library in HOMES, f"{path}: say in HOMES where {library!r} may be imported"
            if not str(path).startswith(HOMES[library]):
                wrong.append(f"{path} imports {library}")
    assert not wrong


def test_root_folders_are_imported_by_their_installed_names(repository: Path) -> None:
    """`import stores.base` would work by accident from the root, and nowhere else."""
    wrong = [
        f"{path} imports {name}"
        for path, tree in modules(repository)
        for name in imported(tree)
        if name.partition(".")[0] == "stores" or name.startswith(("array.", "codecs."))
    ]
    assert not wrong


def test_the_face_is_lazy_and_complete(repository: Path) -> None:
    """The names a type checker sees are those that can be had, each from where it is said to come from."""
    tree = ast.parse((repository / "src/zarrdock/__init__.py").read_bytes())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    seen = {
        alias.name: node.module
        for node in ast.walk(checked)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    modules_below = {name for name, module in seen.items() if module == "zarrdock"}
    seen = {name: module for name, module in seen.items() if module != "zarrdock"}
    assert modules_below == set(zarrdock._MODULES)
    assert {name: f"zarrdock.{place}" for name, place in zarrdock._PLACES.items()} == seen
    assert {*seen, *modules_below, "__version__", "config"} == set(zarrdock.__all__)
    assert zarrdock.__all__ == dir(zarrdock)
    for name, module in seen.items():
        assert getattr(zarrdock, name) is getattr(importlib.import_module(str(module)), name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        zarrdock.nonsense  # type: ignore[attr-defined]  # noqa: B018


READ = "zarrdock.open_array(sys.argv[1])[0, 0]"
WRITE = "a = zarrdock.open_array(sys.argv[1], 'r+'); a[0, :1] = 1; a[0, 0]; repr(a); a.resize((5, 8))"
INFO = "from zarrdock.cli.main import run; run(['info', sys.argv[1]])"

# What a local array does not need takes longer to import than the array takes to read.
REMOTE = {"asyncio", "ssl", "socket", "fsspec", "http", "email", "importlib.metadata", "concurrent.futures", "html"}


@pytest.mark.parametrize(
    ("statements", "unwanted"),
    [
        ("import zarrdock", {*REMOTE, "numpy", "json", "numcodecs", "zarrdock.api", "zarrdock.errors"}),
        (f"import zarrdock; {READ}", {*REMOTE, "numcodecs", "zarrdock.cli", "zarrdock.copying", "zarrdock.adapters"}),
        (f"import zarrdock; {WRITE}", {*REMOTE, "numcodecs", "zarrdock.cli", "zarrdock.copying", "zarrdock.adapters"}),
        (INFO, {"asyncio", "ssl", "fsspec", "rich", "rich_click", "PIL", "dask", "aiohttp", "numcodecs"}),
    ],
    ids=["import", "read", "write", "info"],
)
def test_what_is_not_needed_is_not_imported(statements: str, unwanted: set[str], tmp_path: Path) -> None:
    zarrdock.create_array(tmp_path, shape=(4, 8), chunks=(2, 2), shards=(4, 4), dtype="u2")[...] = 1
    code = f"import sys; {statements}; print(); print(*sorted({unwanted | HEAVY - {'click'}!r} & set(sys.modules)))"
    command = [sys.executable, "-P", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == []


@pytest.mark.parametrize(
    "statement", ["import zarrdock", "import zarrdock.stores.base", "import zarrdock.codecs.codec"]
)
def test_importing_zarrdock_is_light(statement: str) -> None:
    code = f"import sys; {statement}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
