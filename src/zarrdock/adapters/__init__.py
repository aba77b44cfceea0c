"""zarrdock for other readers: one file a reader, each importing it only when used."""
