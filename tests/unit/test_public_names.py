"""The names that ``foreshard`` itself exposes."""

from __future__ import annotations

import subprocess
import sys

import pytest

import foreshard

DEPENDENCIES = ("pymongo", "pydantic", "xxhash", "click", "numpy", "pandas", "confluent_kafka")


def test_every_public_name_can_be_imported():
    for name in foreshard.__all__:
        assert getattr(foreshard, name) is not None
    assert set(foreshard.__all__) <= set(dir(foreshard))


def test_public_names_are_the_ones_of_their_modules():
    from foreshard.client import RoutedClient
    from foreshard.errors import ForeshardError
    from foreshard.settings import Settings

    assert (foreshard.RoutedClient, foreshard.ForeshardError, foreshard.Settings) == (RoutedClient, ForeshardError, Settings)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        foreshard.Nothing  # noqa: B018


def test_importing_foreshard_loads_no_dependency():
    code = f"import foreshard, sys; print([name for name in {DEPENDENCIES!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
