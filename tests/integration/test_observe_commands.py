"""The commands ``foreshard observe …``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.integration.test_observe_stage import HOUR, REQUEST_TYPES, SECRET, access, emit, history, wiring

from foreshard.cli.main import main
from foreshard.wiring import Wiring

__all__ = ["wiring"]


@pytest.fixture
def environment(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = wiring.settings
    monkeypatch.setenv("FORESHARD_CONTROL_URI", settings.control_uri.get_secret_value())
    monkeypatch.setenv("FORESHARD_CONTROL_DATABASE", settings.control_database)
    monkeypatch.setenv("FORESHARD_KAFKA_BOOTSTRAP", settings.kafka_bootstrap)
    monkeypatch.setenv("FORESHARD_ACCESS_TOPIC", settings.access_topic)
    monkeypatch.setenv("FORESHARD_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("FORESHARD_USER_KEY", SECRET)
    monkeypatch.setenv("FORESHARD_OBSERVE__REQUEST_TYPES", json.dumps(REQUEST_TYPES))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["observe", *arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.mark.usefixtures("environment")
def test_import_hour_and_show(wiring: Wiring, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history(3).to_csv(tmp_path / "log.csv", index=False)
    code, out, _ = run(capsys, "import", str(tmp_path / "log.csv"))
    assert (code, "imported 180 accesses of 7 keys in 3 hours" in out) == (0, True)
    emit(wiring, [access("[bold]odd[/bold]"), access("station 1")])
    code, out, _ = run(capsys, "hour", f"{HOUR:%Y-%m-%dT%H}")
    assert (code, "2 records accepted, 0 quarantined, 0 duplicates" in out, "counted 2 accesses of 2 keys" in out) == (
        0,
        True,
        True,
    )
    code, out, _ = run(capsys, "show", f"{HOUR:%Y-%m-%dT%H}")
    assert (code, "[bold]odd[/bold]" in out, "2 accesses of 2 keys" in out) == (0, True, True)


@pytest.mark.usefixtures("environment")
def test_an_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"no")
    for arguments, said in (
        (("import", str(tmp_path / "bad.parquet")), "nothing of it was counted"),
        (("import", str(tmp_path / "gone.csv")), "no such file"),
        (("show", "2014-01-01T00"), "no tally"),
    ):
        code, _, err = run(capsys, *arguments)
        assert code == 1
        assert said in err
        assert len(err.strip().splitlines()) == 1
    monkeypatch.setenv("FORESHARD_CONTROL_URI", "mongodb://someone:secret@127.0.0.1:1/?serverSelectionTimeoutMS=200")
    code, _, err = run(capsys, "show", "2014-01-01T00")
    assert (code, "control database at 127.0.0.1:1 does not answer" in err, "secret" in err) == (1, True, False)


@pytest.mark.usefixtures("environment")
def test_an_apache_log_is_checked_and_imported_with_the_proposed_mapping(
    wiring: Wiring, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f'10.0.0.{n} - ann [{HOUR:%d/%b/%Y:%H}:{n:02}:00 +0000] "GET /bikes/{n % 7} HTTP/1.1" 200 17' for n in range(60)]
    (tmp_path / "access.log").write_text("\n".join(lines))
    code, out, _ = run(capsys, "check", str(tmp_path / "access.log"))
    assert (code, "60 records read, 60 would be counted" in " ".join(out.split())) == (0, True)
    assert "ann" not in out
    (tmp_path / "m.toml").write_text(out[out.index("# A proposal") :])
    code, out, _ = run(capsys, "import", str(tmp_path / "access.log"), "--mapping", str(tmp_path / "m.toml"))
    assert (code, "imported 60 accesses of 7 keys in 1 hours" in out) == (0, True)
    assert set(wiring.raw_hours.load(HOUR)["partitionable_key"]) == {f"bikes {n}" for n in range(7)}
    code, _, err = run(capsys, "check", str(tmp_path / "m.toml"))
    assert (code, "its lines are neither JSON nor Apache's formats" in err, len(err.strip().splitlines())) == (1, True, 1)
