"""Which folder becomes which package, and the compiled part. Everything else about the project is in pyproject.toml."""

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, find_namespace_packages, setup
from setuptools.command.build_ext import build_ext

# Architecture folders at the root, without __init__.py: `array` and `codecs` are standard-library names too.
ROOT_FOLDERS = ("stores", "array", "codecs")

packages = find_namespace_packages("src", include=["zarrdock", "zarrdock.*"])
package_dir = {"zarrdock": "src/zarrdock"}
for folder in ROOT_FOLDERS:
    package_dir[f"zarrdock.{folder}"] = folder
    packages += [f"zarrdock.{folder}", *(f"zarrdock.{folder}.{name}" for name in find_namespace_packages(folder))]

# Of each library: macro, name for pkg-config, header, a function that has to be there, and what a linker has to be told
# where pkg-config does not know: one of several lists of libraries, the last of which are static ones on Windows.
LIBRARIES = (
    ("HAVE_ZSTD", "libzstd", "zstd.h", "ZSTD_findFrameCompressedSize", (("zstd",), ("zstd_static",))),
    (
        "HAVE_BLOSC", "blosc", "blosc.h", "blosc_cbuffer_validate",
        (("blosc",), ("libblosc",), ("libblosc", "lz4", "snappy", "zlib", "zstd")),
    ),
    ("HAVE_DEFLATE", "libdeflate", "libdeflate.h", "libdeflate_gzip_decompress_ex", (("deflate",), ("deflatestatic",))),
    ("HAVE_LZ4", "liblz4", "lz4.h", "LZ4_decompress_safe", (("lz4",),)),
)  # fmt: skip


class BuildWhatIsThere(build_ext):
    """The compiled part is optional: without a compiler it is left out, without a library its codec is."""

    def build_extensions(self) -> None:
        for extension in self.extensions:
            for library in LIBRARIES:
                self.add_library(extension, *library)
        try:
            super().build_extensions()
        except Exception as error:  # whatever a compiler may do
            self.warn(f"built without the compiled part: {error}")
        # What was not built is not installed either.
        self.extensions[:] = [found for found in self.extensions if Path(self.get_ext_fullpath(found.name)).exists()]

    def add_library(
        self,
        extension: Extension,
        macro: str,
        package: str,
        header: str,
        function: str,
        others: tuple[tuple[str, ...], ...],
    ) -> None:
        """Use a library, where a program with it can be linked."""
        known = pkg_config(package)
        for flags in [known] if known else [[f"-l{name}" for name in names] for names in others]:
            if self.links(extension, macro, header, function, flags):
                return

    def links(self, extension: Extension, macro: str, header: str, function: str, flags: list[str]) -> bool:
        """True where a program can be linked so, and so can the extension."""
        folders = [flag[2:] for flag in flags if flag.startswith("-I")]
        places = [flag[2:] for flag in flags if flag.startswith("-L")]
        names = [flag[2:] for flag in flags if flag.startswith("-l")]
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch, "probe.c")
            source.write_text(
                f"#include <stddef.h>\n#include <{header}>\nint main(void) {{ return (size_t){function} == 0; }}\n"
            )
            try:
                objects = self.compiler.compile(
                    [str(source)], scratch, include_dirs=[*self.compiler.include_dirs, *folders]
                )
                self.compiler.link_executable(
                    objects, str(Path(scratch, "probe")), libraries=names, library_dirs=places
                )
            except Exception:  # no compiler, no header, no library, or one that is too old
                return False
        extension.define_macros.append((macro, "1"))
        extension.include_dirs += folders
        extension.library_dirs += places
        extension.libraries += names
        return True


def pkg_config(package: str) -> list[str]:
    """Flags to build a program with a library; empty where they are not known."""
    program = os.environ.get("PKG_CONFIG", "pkg-config")
    if shutil.which(program) is None:
        return []
    done = subprocess.run([program, "--cflags", "--libs", package], capture_output=True, text=True, check=False)
    return shlex.split(done.stdout) if done.returncode == 0 else []


def readme() -> str:
    """The README with absolute links: where the package is shown, files of the repository are not beside it."""
    text = Path("README.md").read_text("utf-8")
    pictures = "https://raw.githubusercontent.com/zarrdock/zarrdock/main/"
    files = "https://github.com/zarrdock/zarrdock/blob/main/"
    text = re.sub(r"(!\[[^\]]*\]\()(?![a-z]+:)", rf"\g<1>{pictures}", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?![a-z]+:|#)", rf"\g<1>{files}", text)


# One file for Python 3.11 and all later ones, where there is such a thing.
stable = not sysconfig.get_config_var("Py_GIL_DISABLED")
compiled = Extension(
    "zarrdock.codecs._compiled",
    ["codecs/_compiled.c"],
    depends=["codecs/_chunks.h"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")] if stable else [],
    py_limited_api=stable,
    optional=True,
)

setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    packages=[name for name in packages if "__pycache__" not in name],
    package_dir=package_dir,
    ext_modules=[compiled] if os.environ.get("ZARRDOCK_BUILD_COMPILED", "1") != "0" else [],
    cmdclass={"build_ext": BuildWhatIsThere},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if stable else {},
)
