"""The GPU of the cases: one that is not there, see ``fake_cuda``."""

import pytest
from fake_cuda import FakeCuda


@pytest.fixture
def gpu():
    with FakeCuda() as fake:
        yield fake
