import re
import unittest

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
