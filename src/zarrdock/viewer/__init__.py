"""Pictures of arrays: planes, multiscale images, Neuroglancer."""
