"""Errors and plans as notebooks show them."""

import subprocess
import sys

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import NodeNotFoundError

SESSION = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor")
shell.run_cell("import zarrdock\\ndef mine():\\n    return zarrdock.open('nosuch.zarr')\\nmine()")
"""


def test_tracebacks_in_ipython_are_short(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("IPython")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.delenv("ZARRDOCK_DEBUG", raising=False)

    def shown() -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-c", SESSION], capture_output=True, text=True, check=True, cwd=str(tmp_path)
        )
        return done.stdout

    text = shown()
    assert "in mine" in text
    assert "NodeNotFoundError: there is no array or group" in text
    assert "node_storage.py" not in text
    assert "interactiveshell.py" not in text
    monkeypatch.setenv("ZARRDOCK_DEBUG", "1")
    assert "node_storage.py" in shown()


def test_lines_without_ipython() -> None:
    with pytest.raises(NodeNotFoundError) as caught:
        zarrdock.open({})
    caught.value.add_note("a note")
    lines = caught.value._render_traceback_()
    assert "zarrdock.open({})" in lines[0]
    assert lines[-1].strip() == "a note"


def test_a_plan_has_a_table() -> None:
    array = zarrdock.create_array({}, data=np.ones((8, 8)), chunks=(2, 2), shards=(4, 4))
    html = array.plan((0, 0))._repr_html_()
    assert "2 rounds, 2 requests" in html
    assert html.count("<tr>") == 3
    assert "<table>" not in array.plan((slice(0, 0), 0))._repr_html_()
