"""Networks that find objects: their training, inference, and the bundles they are deployed in."""
