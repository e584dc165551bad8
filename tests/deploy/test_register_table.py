"""deploy/register_table.py brings a table back that is gone from Glue, as the runbook pipes it into a pod."""

import subprocess
import sys
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_core.errors import NotFoundError
from resources.aws import client
from resources.environments import local_resources

ROOT = Path(__file__).resolve().parents[2]
NAME = "haven.features"


def register(*arguments: str) -> list[list[str]]:
    """Return the words of each line that the script prints."""
    with (ROOT / "deploy/register_table.py").open() as script:
        command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-", *arguments]
        done = subprocess.run(command, stdin=script, cwd=ROOT, capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def test_a_table_that_is_gone_from_glue_is_registered_by_a_file_of_which_all_is_there(aws, monkeypatch, tmp_path):
    monkeypatch.setenv("MIMIC_CATALOG", "glue:haven")
    monkeypatch.setenv("MIMIC_WAREHOUSE", "s3://mimic-tests/warehouse")
    tables = local_resources(tmp_path)["tables"]
    for sizes in ([1.5, 2.5], [3.5, 4.5]):
        pq.write_table(pa.table({"_individual": [1, 2], "size": sizes}), tmp_path / "a.parquet")
        tables.import_files(NAME, [tmp_path / "a.parquet"])
    client("glue").delete_table(DatabaseName="haven", Name="features")
    with pytest.raises(NotFoundError):
        tables.pin(NAME)

    newest, *older = register(NAME)
    assert newest[-1] == "intact"
    assert [each[0] for each in (newest, *older)] == sorted((each[0] for each in (newest, *older)), reverse=True)
    s3 = boto3.resource("s3").Bucket("mimic-tests")
    data = {each.key: each.get()["Body"].read() for each in s3.objects.filter(Prefix="warehouse/haven.db/features/data/")}
    for key in data:
        s3.Object(key).delete()
    assert register(NAME)[0][3:5] == ["lacks", "1:"]
    for key, body in data.items():
        s3.put_object(Key=key, Body=body)
    (said,) = register(NAME, newest[0])
    assert said[-1].endswith(f"/metadata/{newest[0]}")
    pin = tables.pin(NAME)
    assert [row for batch in tables.batches(pin) for row in batch["size"].to_pylist()] == [3.5, 4.5]
