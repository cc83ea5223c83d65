"""HRTEM from atoms to micrographs: specimens, exit waves, images, labels, and datasets on disk."""
