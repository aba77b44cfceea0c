"""How the chunks of arrays lie in their shards: what it costs readers, and how to change it."""
