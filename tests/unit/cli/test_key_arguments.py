"""Keys as arguments of commands."""

from __future__ import annotations

import json

import pytest

from foreshard.cli.main import main


@pytest.mark.parametrize(
    "command",
    [
        ["moves", "move", "five", "b"],
        ["shadows", "show", "five", "b"],
        ["rules", "pin", "five", "b"],
        ["rules", "check", "five"],
    ],
)
def test_a_command_refuses_a_text_that_is_no_key_of_the_collections_type_in_one_line(command, monkeypatch, capsys) -> None:
    shop = {"database": "shop", "collection": "orders", "key_field": "customer", "key_type": "int"}
    monkeypatch.setenv("FORESHARD_COLLECTIONS", json.dumps([shop]))
    with pytest.raises(SystemExit) as left:
        main(command)
    assert left.value.code == 1
    assert capsys.readouterr().err == "foreshard: key 'five' is not a 64-bit integer in decimal digits\n"
