"""Models of cards, and cards that they did not see."""

import pytest

from made_cards import made_ours, made_reference, unseen_cards


@pytest.fixture(scope="module")
def ours():
    return made_ours()


@pytest.fixture(scope="module")
def reference():
    return made_reference()


@pytest.fixture(scope="module")
def unseen():
    return unseen_cards()
