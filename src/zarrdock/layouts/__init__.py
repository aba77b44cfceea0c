"""Layouts of chunks in shards: their cost for readers, and tools to change them."""
