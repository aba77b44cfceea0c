"""Stores and views over HTTP, read-only."""
