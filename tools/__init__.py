"""Programs for those who work on zarrdock: ``python -m tools.NAME`` from the root of the repository. Not packaged.

They measure, and write pages of the documentation. They share servers, storms and matrices with the tests
(``tests/support``), which are put on the path here.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
