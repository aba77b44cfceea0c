"""Images in several resolutions: each level is made from the one before, and OME-Zarr says how they fit together."""
