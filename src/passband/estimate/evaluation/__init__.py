"""How good label-free estimates are: protocols, metrics, peers, and their page."""
