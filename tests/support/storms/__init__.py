"""Storms: many writers, readers, kills, faults and broken inputs at once, and a count of what was lost.

``python -m tools.storm_table`` runs them.
"""
