"""Helper stores, servers, fakes of services, faults and storms, shared by the tests and the programs of ``tools/``.

Tests import it as ``support`` (``pythonpath`` in ``pyproject.toml``). A test that starts another interpreter for code
that imports it hands on its own ``sys.path``.
"""
