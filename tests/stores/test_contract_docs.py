import re
import subprocess
import sys
import unittest

import pytest

from zarrdock.testing import AsyncStoreContract, RecordingStore, StoreContract


def test_the_examples_run(repository):
    page = (repository / "docs/reference/store-contract.md").read_text("utf-8")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "store-contract.md", "exec"), names)
    assert issubclass(names["TestMyStore"], StoreContract)
    assert issubclass(names["TestMyStoreAsync"], AsyncStoreContract)
    assert issubclass(names["TestMyStoreAtRandom"], unittest.TestCase)
    assert isinstance(names["recorded"], RecordingStore)
    contract = names["TestMyStore"]()
    contract._opened = []
    contract.test_update()
    names["store"].write("c/0", b"1")
    assert names["recorded"].n_writes == 1


@pytest.mark.parametrize(("name", "package"), [("StoreContract", "pytest"), ("store_machine", "hypothesis")])
def test_a_missing_package_is_named(name, package):
    code = f"import sys, zarrdock.testing; sys.modules[{package!r}] = None; from zarrdock.testing import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"UnsupportedError: zarrdock.testing.{name} needs {package}: pip install {package}" in done.stderr
