"""One parser a file: each takes a `Request` and gives a `RawImage` or raises.

They run in the parser process only (see `passband.micrographs.parsing`).
"""
