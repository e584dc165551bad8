"""The commands of the runbook and of Terraform's page: their options exist, and what fails installs nothing."""

import os
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "deploy/README.md", ROOT / "deploy/terraform/README.md"]
INSTALL = ROOT / "deploy/helm/install-aws.sh"
GLOBAL = {"query", "output", "region", "profile"}
CUSTOM = {"s3", "sso", "configure"}  # commands of the program itself, which have no operation of AWS
CUSTOM_COMMANDS = {("ecr", "get-login-password"), ("eks", "update-kubeconfig")}
CUSTOM_OPTIONS = {("ec2", "authorize-security-group-ingress"): {"protocol", "port", "source-group"}}


def blocks(page: Path) -> list[str]:
    found = re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(each) for each in found]  # as a list is shown


def commands(page: Path) -> Iterator[str]:
    """Give each command of `aws` in the blocks and texts of a page, on one line and without what it is piped to."""
    text = page.read_text(encoding="utf-8")
    inline = [re.sub(r"\s+", " ", each) for each in re.findall(r"(?<!`)`(aws [^`]+)`(?!`)", text)]
    for each in [*blocks(page), *inline]:
        for found in re.finditer(r"(?:^|\$\(|^ +|&& |; )(aws [^\n]*)", each.replace("\\\n", " "), re.MULTILINE):
            yield found.group(1)


@pytest.mark.parametrize("page", PAGES, ids=["runbook", "terraform"])
def test_every_command_of_aws_is_one_and_has_the_options_it_is_given(page):
    session, seen = botocore.session.get_session(), 0
    for command in commands(page):
        _, service, operation, *rest = command.split()
        if service in CUSTOM or (service, operation) in CUSTOM_COMMANDS:
            continue
        seen += 1
        service = {"s3api": "s3"}.get(service, service)
        model = session.get_service_model(service)
        known = {xform_name(name, "-"): name for name in model.operation_names}
        if operation == "wait":
            waiters = {xform_name(name, "-"): name for name in session.get_waiter_model(service).waiter_names}
            assert rest[0] in waiters, command
            operation = xform_name(session.get_waiter_model(service).get_waiter(waiters[rest[0]]).operation, "-")
        assert operation in known, command
        members = {xform_name(name, "-") for name in model.operation_model(known[operation]).input_shape.members}
        given = set(re.findall(r" --([a-z0-9-]+)", re.split(r"\$\(| \| |\) ?\\?\"?$", f" {' '.join(rest)}")[0]))
        options = {each.removeprefix("no-") if each not in members else each for each in given}
        assert options <= members | GLOBAL | CUSTOM_OPTIONS.get((service, operation), set()), command
    assert seen >= 5


@pytest.mark.parametrize("page", PAGES, ids=["runbook", "terraform"])
def test_every_block_can_be_parsed_and_no_tracked_file_is_edited_in_place(page):
    for block in blocks(page):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), block
        assert "sed -i" not in block
        assert shlex.split(block, comments=True) or block.isspace()


@pytest.mark.parametrize("works", [True, False], ids=["values", "no-values"])
def test_the_chart_is_installed_with_the_values_of_terraform_or_not_at_all(tmp_path, works):
    (tmp_path / "bin").mkdir()
    for name, line in {"terraform": "echo made: here" if works else "exit 1", "helm": 'echo "$@" >> said'}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", INSTALL, "-f", "../mine.yaml"], cwd=tmp_path, env=environment)
    assert (done.returncode == 0) == works
    assert (tmp_path / "said").exists() == works
    if works:
        assert (tmp_path / "build/aws.yaml").read_text() == "made: here\n"
        (line,) = (each for each in (tmp_path / "said").read_text().splitlines() if "upgrade" in each)
        assert re.findall(r"-f (\S+)", line) == ["deploy/helm/values.yaml", "../mine.yaml", "build/aws.yaml"]
