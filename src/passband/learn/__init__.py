"""Networks, their training, inference, and the bundles they are deployed in."""
