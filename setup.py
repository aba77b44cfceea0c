"""Which folder becomes which package. Everything else about the project is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

# Architecture folders at the root, without __init__.py: `array` and `codecs` are standard-library names too.
ROOT_FOLDERS = ("stores", "array", "codecs")

packages = find_namespace_packages("src", include=["zarrdock", "zarrdock.*"])
package_dir = {"zarrdock": "src/zarrdock"}
for folder in ROOT_FOLDERS:
    package_dir[f"zarrdock.{folder}"] = folder
    packages += [f"zarrdock.{folder}", *(f"zarrdock.{folder}.{name}" for name in find_namespace_packages(folder))]

setup(packages=[name for name in packages if "__pycache__" not in name], package_dir=package_dir)
