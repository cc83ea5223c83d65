"""Studies of how a network generalises: many networks, each trained under one condition, tested under all."""
