"""The checker of shapes and types in the tests: beartype, with an int welcome where a float is."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
