"""From S3 to the first step of a training: one file after the other, all files at once, as they come, and from the cache.

A dataset of 16 shards, 850 MB, on a server of S3 on this machine whose answers are slowed down to so many MB a second for
each connection. Each way is a new process, so Keras is imported anew; seconds of the clock, medians of alternating
repetitions, from the begin of fetching until a step of training could begin: the files are verified, their decisions in
memory, and Keras is imported. The accelerator waits that long, once; what follows reads local files.

    python benchmarks/fetch_dataset.py [--rate MB]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import boto3

from mimic_core.manifests import unseal

HERE = Path(__file__).parent
BUCKET, FOLDER = "benchmark", "s-tfrecords/d/v"
REPETITIONS, SCALE = 5, 4
WAYS = ("one file after the other", "all files, then open", "opened as they come", "from the cache")
NAMES = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


def seconds(way: str, cache: str, entries: list[dict[str, object]]) -> float:
    """Bring the dataset here in one way; returns how long that takes."""
    from mimic_core import splits
    from mimic_core.backend import import_keras
    from resources import file_cache
    from resources.artefacts import ArtefactStore

    if way == WAYS[0]:
        file_cache.AT_ONCE = 1
    artefacts = ArtefactStore(root=f"s3://{BUCKET}", cache=cache)
    began = time.perf_counter()
    if way in WAYS[:2]:
        with artefacts.local_folder(FOLDER, entries) as folder:
            splits.read_stream(folder, "train")
            import_keras()
    else:
        with artefacts.coming_folder(FOLDER, entries) as coming:
            import_keras()
            splits.read_stream(coming.folder, "train", wait=coming.wait)
    return time.perf_counter() - began


def in_a_process(way: str, cache: str, entries: Path, environment: dict[str, str]) -> float:
    command = [sys.executable, __file__, "--way", way, "--cache", cache, "--entries", str(entries)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout.splitlines()[-1])


def fill(url: str, folder: Path) -> list[dict[str, object]]:
    """Put the dataset of another benchmark into the bucket; returns the entries of its files."""
    from read_records import write

    s3 = boto3.client("s3", endpoint_url=url)
    s3.create_bucket(Bucket=BUCKET)
    write(folder, None, SCALE)
    for path in folder.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), BUCKET, f"{FOLDER}/{path.relative_to(folder).as_posix()}")
    schema = folder / "schema.json"
    import hashlib

    sealed = {
        "path": "schema.json",
        "bytes": schema.stat().st_size,
        "sha256": hashlib.sha256(schema.read_bytes()).hexdigest(),
    }
    return [sealed, *unseal(schema.read_bytes(), "schema")["files"]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=5.0, help="MB a second of one connection")
    parser.add_argument("--way")
    parser.add_argument("--cache")
    parser.add_argument("--entries", type=Path)
    asked = parser.parse_args()
    if asked.way:
        print(seconds(asked.way, asked.cache, json.loads(asked.entries.read_text())))
        return
    server = [sys.executable, HERE.parent / "tests/aws/server.py"]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryDirectory() as home,
        subprocess.Popen(server, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process,  # noqa: S603
    ):
        url = process.stdout.readline().decode().strip()
        os.environ |= NAMES
        entries = fill(url, Path(home) / "dataset")
        (Path(home) / "entries.json").write_text(json.dumps(entries))
        faults = [{"method": "GET", "path": f"/{FOLDER}/", "rate": asked.rate * 1e6}]
        urllib.request.urlopen(f"{url}/test/faults", json.dumps(faults).encode()).close()  # noqa: S310
        environment = os.environ | {"AWS_ENDPOINT_URL": url, "PYTHONPATH": str(HERE.parent), "TF_CPP_MIN_LOG_LEVEL": "3"}
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for turn in range(REPETITIONS):
            for way in WAYS:
                cache = Path(home) / ("cache" if way == WAYS[3] else f"{turn}-{WAYS.index(way)}")
                if way == WAYS[3] and not turn:
                    in_a_process(way, str(cache), Path(home) / "entries.json", environment)
                times[way].append(in_a_process(way, str(cache), Path(home) / "entries.json", environment))
        process.stdin.close()
    size = sum(int(str(entry["bytes"])) for entry in entries) / 1e6
    print(f"{size:.0f} MB in {len(entries) - 1} files, {asked.rate:g} MB a second each; {REPETITIONS} repetitions")
    base = statistics.median(times[WAYS[0]])
    for way in WAYS:
        took = statistics.median(times[way])
        print(f"{way:<28}{took:>8.2f} s{base / took:>8.2f}")


if __name__ == "__main__":
    main()
