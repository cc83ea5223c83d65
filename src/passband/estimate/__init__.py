"""Label-free estimates of a score, with intervals."""
