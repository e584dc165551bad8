"""What is built from pyproject.toml: a wheel holds every module and every file that they read."""

from pathlib import Path

from setuptools.dist import Distribution

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mimic_core", "resources", "mimic_assets")


def test_a_wheel_holds_every_file_of_the_packages(monkeypatch):
    monkeypatch.chdir(ROOT)
    distribution = Distribution({"script_name": "setup.py"})  # as the build names it where there is none
    distribution.parse_config_files(["pyproject.toml"])
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    built = {Path(source) for source in build.get_output_mapping().values()}
    files = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()}
    assert {path for path in files if "__pycache__" not in path.parts} == built
