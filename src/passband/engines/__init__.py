"""Independent tasks done by this process, by processes beside it, or by Dask."""
