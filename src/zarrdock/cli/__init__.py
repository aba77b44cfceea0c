"""The command ``zarrdock``. Nothing here is imported by the library."""
