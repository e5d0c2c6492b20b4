import warnings

import pytest

from modelkit.core.errors import ModelkitWarning


@pytest.fixture
def silent():
    """Lets what users are warned of pass: it is not what these tests look at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelkitWarning)
        yield
