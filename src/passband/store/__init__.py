"""Files written whole, stores under checksums, and runs that a kill does not undo."""
