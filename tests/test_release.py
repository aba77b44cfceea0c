"""Files that speak of a release agree with the package."""

import re
import tomllib
from pathlib import Path

import zarrdock


def test_all_files_have_one_version(repository: Path) -> None:
    text = {name: (repository / name).read_text("utf-8") for name in ("CITATION.cff", "recipe/recipe.yaml")}
    assert f"\nversion: {zarrdock.__version__}\n" in text["CITATION.cff"]
    assert f"\n  version: {zarrdock.__version__}\n" in text["recipe/recipe.yaml"]
    changelog = (repository / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## {re.escape(zarrdock.__version__)}\b", changelog, re.MULTILINE)


def test_the_recipe_needs_what_the_package_needs(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    recipe = (repository / "recipe" / "recipe.yaml").read_text("utf-8")
    run = set(
        re.findall(r"^    - (\S+ >=\S+)$", recipe.partition("  run:\n")[2].partition("\ntests:")[0], re.MULTILINE)
    )
    wanted = [*project["dependencies"], *project["optional-dependencies"]["cli"]]
    assert run == {requirement.replace(">=", " >=") for requirement in wanted}
    assert f'python_min: "{project["requires-python"].removeprefix(">=")}"' in recipe
