"""Links and paths in the documentation lead somewhere. Building the site checks anchors as well."""

import builtins
import re
from pathlib import Path

import pytest

from zarrdock import errors

LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w/.-])docs/[\w/.-]+\.(?:md|ipynb|png|svg|json)\b")
# Made when the site is built, which checks links to them.
MADE = re.compile(r"docs/reference/(?:api/\w+|commands)\.md$")
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def texts(repository: Path) -> dict[Path, str]:
    """Every text file of the checkout that may name a page."""
    folders = ("docs", "src", "stores", "array", "codecs", "tools", "tests", "benchmarks")
    paths = [path for folder in folders for path in (repository / folder).rglob("*")] + [*repository.glob("*.*")]
    named = [path for path in paths if path.suffix in {".md", ".py", ".toml", ".ini", ".yml"}]
    return {path: path.read_text("utf-8") for path in named if "node_modules" not in path.parts}


def leads_somewhere(path: Path) -> bool:
    return path.exists() or MADE.search(path.resolve().as_posix()) is not None


def test_relative_links_lead_somewhere(texts: dict[Path, str]) -> None:
    pages = {path: text for path, text in texts.items() if path.suffix == ".md"}
    assert len(pages) > 30
    broken = [
        f"{path}: {target}"
        for path, text in pages.items()
        for target in LINK.findall(CODE.sub("", text))
        if not re.match(r"[a-z]+:|#", target) and not leads_somewhere(path.parent / target.partition("#")[0])
    ]
    assert broken == []


def test_pages_that_are_named_are_there(repository: Path, texts: dict[Path, str]) -> None:
    named = [(path, page) for path, text in texts.items() for page in PATH.findall(text)]
    assert len(named) > 30
    assert [f"{path}: {page}" for path, page in named if not (repository / page).exists()] == []


def test_pages_show_public_modules_only(repository: Path, texts: dict[Path, str]) -> None:
    public = {"adapters", "errors", "storage", "testing", "tools", "views"}
    for_authors = {"codecs.codec", "codecs.conditional", "codecs.builtin"}
    promise = texts[repository / "docs" / "project" / "support.md"]
    assert [
        name for name in public | for_authors if name.partition(".")[2] not in promise and name not in promise
    ] == []
    pages = {
        path: text
        for path, text in texts.items()
        if path.suffix == ".md"
        and (path.name == "README.md" or "docs" in path.parts)
        and not {"design", "measurements"} & {*path.parts}
    }
    packages = "|".join(sorted({path.parent.name for path in (repository / "src" / "zarrdock").glob("*/__init__.py")}))
    named = re.compile(rf"zarrdock\.((?:{packages}|stores|array|codecs)\.\w+)")
    private = [
        f"{path}: {name}"
        for path, text in pages.items()
        for name in named.findall(text)
        if name.partition(".")[0] not in public and name not in for_authors
    ]
    assert len(pages) > 30
    assert private == []


def test_every_error_has_a_cause_and_a_cure(repository: Path) -> None:
    page = (repository / "docs" / "reference" / "errors.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+) \| (.+) \|$", page, re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(errors.__all__)
    for name, base, *_ in rows:
        other = getattr(errors, base, None) or getattr(builtins, base)
        assert issubclass(getattr(errors, name), other), name


def test_messages_of_the_page_of_troubles_are_the_programs(repository: Path, texts: dict[Path, str]) -> None:
    ours = tuple(f"{repository / folder}/" for folder in ("src", "stores", "array", "codecs"))
    program = " ".join(text for path, text in texts.items() if path.suffix == ".py" and f"{path}".startswith(ours))
    # A message may go on in the next string.
    program = re.sub(r'"\s*\n\s*f?"', "", program)
    page = texts[repository / "docs" / "how-to" / "troubleshooting.md"]
    tables = page.partition("## Performance")[0]
    messages = re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\| (`.+?`) \|", tables, re.MULTILINE)))
    assert len(messages) > 25
    fragments = {part.strip() for message in messages for part in message.split("…")}
    elsewhere = {"Protocol not known"}  # fsspec's
    assert [fragment for fragment in sorted(fragments - elsewhere) if fragment not in program] == []


def test_lines_of_prose_are_short(repository: Path, texts: dict[Path, str]) -> None:
    """Tables, code and addresses may be longer, and so may pages that a command writes."""
    fences = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
    made = repository / "docs" / "measurements"
    long = [
        f"{path}: {line}"
        for path, text in texts.items()
        for line in fences.sub("", text).splitlines()
        if path.suffix == ".md" and path.parent != made and len(line) > 120
        if not line.lstrip().startswith("|") and "http" not in line
    ]
    assert long == []
