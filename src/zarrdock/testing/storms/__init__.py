"""Storms: many writers, readers, kills, faults and broken inputs at once, and a count of what was lost.

``python -m zarrdock.testing.storms`` runs them in full, ``--quick`` in the short form of the tests, ``--only NAME`` one
of them, ``--markdown docs/reliability.md`` writes the table of that document anew.
"""
