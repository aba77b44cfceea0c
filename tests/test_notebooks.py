"""Errors and plans as notebooks show them."""

import subprocess
import sys
from types import SimpleNamespace

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
    assert "nosuch.zarr does not exist" in text
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


class Shown:
    """A display of IPython: the texts it showed."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def display(self, html: str, *, display_id: bool) -> "Shown":
        assert display_id
        self.update(html)
        return self

    def update(self, html: str) -> None:
        self.texts.append(html)


def test_a_copy_shows_a_bar_in_a_notebook_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown()
    display = SimpleNamespace(HTML=str, display=shown.display)
    monkeypatch.setattr("zarrdock.copying.notebook_bar._WAIT_SECONDS", 0)
    monkeypatch.setattr("zarrdock.copying.notebook_bar._PAUSE_SECONDS", 0)
    source = zarrdock.create_array({}, data=np.arange(1000), chunks=10)
    for shell, is_shown in ((None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel="it"), True)):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=display, get_ipython=lambda: shell))  # noqa: B023
        zarrdock.copy(source, {}, chunks=5)
        assert bool(shown.texts) is is_shown
    assert shown.texts[-1] == "<progress value=8000 max=8000></progress> 7.8 KiB of 7.8 KiB copied"
    shown.texts.clear()
    zarrdock.copy(source, {}, chunks=5, progress=lambda progress: None)
    assert not shown.texts


@pytest.mark.slow
def test_the_bar_in_a_real_kernel() -> None:
    pytest.importorskip("ipykernel")
    client = pytest.importorskip("nbclient")
    notebook = pytest.importorskip("nbformat").v4
    code = (
        "import numpy as np, zarrdock\n"
        "from zarrdock.copying import notebook_bar\n"
        "notebook_bar._WAIT_SECONDS = 0\n"
        "_ = zarrdock.copy(np.arange(100), {})"
    )
    book = notebook.new_notebook(cells=[notebook.new_code_cell(code)])
    client.NotebookClient(book, timeout=120).execute()
    (output,) = book.cells[0].outputs
    assert "<progress value=800 max=800>" in output.data["text/html"]
