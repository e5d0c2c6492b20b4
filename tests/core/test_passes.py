"""The registry: found without importing, options typed and bounded, errors in sentences."""

import pytest

from modelkit.core import passes
from modelkit.core.errors import ModelkitError


def test_built_in_passes_are_installed():
    assert {"quantize.rtn", "quantize.mse"} <= set(passes.installed())


def test_strings_are_read_as_the_options_type():
    built = passes.build("quantize.rtn", {"bits": "4", "group-size": "32", "symmetric": "true"})
    assert (built.options.bits, built.options.group_size, built.options.symmetric) == (4, 32, True)
    assert passes.build("quantize.rtn", {"symmetric": "none"}).options.symmetric is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bits": "nine"}, "not a value"),
        ({"bits": 9}, "out of bounds"),
        ({"colour": 1}, "no option"),
        ({"symmetric": "perhaps"}, "not a value"),
    ],
)
def test_wrong_options_are_refused(given, said):
    with pytest.raises(ModelkitError, match=said):
        passes.build("quantize.rtn", given)


def test_an_unknown_algorithm_names_those_there_are():
    with pytest.raises(ModelkitError, match="rtn") as refused:
        passes.load("quantize.magic")
    assert "auto" in refused.value.fix


def test_every_option_says_what_it_is():
    for name in passes.installed():
        for option in passes.options_of(passes.load(name)):
            assert option.help, f"{name}: {option.name}"
