"""What deploy/terraform promises, read without Terraform; test_terraform_runs.py has Terraform itself read it."""

import inspect
import re
import shutil
from pathlib import Path

import hcl2
import pyiceberg.catalog.glue
import pytest
import yaml
from dagster_aws.s3.compute_log_manager import S3ComputeLogManager

from resources.k8s_pods import GPU

ROOT = Path(__file__).resolve().parents[2]
TERRAFORM = ROOT / "deploy" / "terraform"
FILES = sorted([*TERRAFORM.glob("*.tf"), *TERRAFORM.glob("*.tfvars"), *TERRAFORM.glob("tests/*.hcl")])
TF = "\n".join(path.read_text(encoding="utf-8") for path in sorted(TERRAFORM.glob("*.tf")))
# by hand: what a change would do, and what is then said of it
BAD_CHANGES = {
    "any action of S3": ("role_rights.tf", '"s3:GetBucketLocation", ', '"s3:*", ', "allows the action 's3:*'"),
    "any action": ("role_rights.tf", '["kms:Decrypt"]', '"*"', "allows the action '*'"),
    "actions that begin alike": ("role_rights.tf", '"glue:GetTables",', '"glue:Get*",', "allows the action 'glue:Get*'"),
    "all but an action": ("role_rights.tf", 'Action   = ["kms:Decrypt"]', 'NotAction = ["kms:Decrypt"]', "has NotAction"),
    "any resource": ("role_rights.tf", "Resource = values(local.bucket_arns)", 'Resource = "*"', "all resources, '*'"),
    "any resource beside others": ("role_rights.tf", '["${local.glue}:catalog"],', '["*"],', "all resources, '*'"),
    "any bucket": ("role_rights.tf", "s3:::${each}*", "s3:::*", "expected what is named"),
    "any database": ("role_rights.tf", ":database/${each}", ":database/*", "expected what is named"),
    "tables of any database": ("role_rights.tf", ":table/${each}/*", ":table/*", "expected what is named"),
    "any account of the cluster": (
        "role.tf",
        '${var.namespace}:${var.service_account}"\n',
        '*:*"\n',
        "expected StringEquals of sub",
    ),
    "accounts that look alike": ("role.tf", "StringEquals = {", "StringLike = {", "expected StringEquals of sub"),
    "tokens for others": ("role.tf", ':aud" = "sts', ':iss" = "sts', "expected StringEquals of aud"),
    "everybody": ("role.tf", "{ Federated = var.oidc_provider_arn }", '"*"', "is for everybody"),
    "a document of data": (
        "names.tf",
        'data "aws_partition" "current" {}',
        'data "aws_partition" "current" {}\n\ndata "aws_iam_policy_document" "wide" {}',
        "data aws_iam_policy_document.wide is read by none of these checks",
    ),
    "a policy of AWS more": (
        "gpu_nodes.tf",
        '"AmazonEKS_CNI_Policy"',
        '"AmazonEKS_CNI_Policy", "AdministratorAccess"',
        "aws_iam_role_policy_attachment.gpu_nodes attaches other policies",
    ),
    "a policy of AWS for the pods": (
        "role.tf",
        "locals {}",
        'resource "aws_iam_role_policy_attachment" "pods" {\n  role = aws_iam_role.mimic.name\n  policy_arn = "arn"\n}\n',
        "aws_iam_role_policy_attachment.pods attaches other policies",
    ),
    "a database that goes with its tables": ("glue.tf", "prevent_destroy = true", "", "has no prevent_destroy"),
    "a bucket without encryption": (
        "buckets.tf",
        'resource "aws_s3_bucket_server_side_encryption_configuration" "data" {\n  for_each = aws_s3_bucket.data\n',
        'resource "aws_s3_bucket_server_side_encryption_configuration" "data" {\n  for_each = toset([])\n',
        "aws_s3_bucket.data has no aws_s3_bucket_server_side_encryption_configuration",
    ),
    "another bucket": (
        "names.tf",
        "locals {",
        'resource "aws_s3_bucket" "other" {}\n\nlocals {',
        "aws_s3_bucket.other has no",
    ),
    "public by ACLs": ("buckets.tf", "ignore_public_acls      = true", "ignore_public_acls = false", "expected true"),
    "a destroy of data": (
        "buckets.tf",
        "force_destroy = var.force_destroy",
        "force_destroy = true",
        "expected var.force_destroy",
    ),
    "lost uploads": ("buckets_lifecycle.tf", "abort_incomplete_multipart_upload", "abort", "lost uploads are paid for"),
    "tags that move": ("images.tf", '"IMMUTABLE"', '"MUTABLE"', "expected IMMUTABLE"),
    "images that nobody scans": ("images.tf", "scan_on_push = true", "scan_on_push = false", "does not scan images"),
    "images for ever": (
        "images.tf",
        "repository = aws_ecr_repository.mimic.name",
        'repository = "other"',
        "lifecycle_policy",
    ),
    "nodes by default": ("variables_gpu.tf", "default     = false", "default     = true", "nodes are paid for"),
    "nodes that are always made": ("gpu_nodes.tf", "count = var.gpu_nodes ? 1 : 0", "count = 1", "is always made"),
    "a variable without validation": (
        "variables_gpu.tf",
        "locals {}",
        'variable "zone" {\n  description = "A zone."\n  type = string\n}\n',
        "variable zone has no validation",
    ),
    "a variable without words": (
        "variables_gpu.tf",
        "locals {}",
        'variable "eager" {\n  type = bool\n}\n',
        "variable eager has no description",
    ),
    "a message without the value": ("variables.tf", 'region is \\"${var.region}\\", ', "", "does not say what was found"),
    "an output without words": (
        "outputs.tf",
        'description = "Name of the group',
        "# ",
        "output gpu_node_group has no description",
    ),
}


@pytest.fixture
def blocks(terraform_checks):
    return terraform_checks.read(TERRAFORM)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TERRAFORM).as_posix())
def test_the_first_line_of_every_file_says_what_it_is_for(path):
    assert re.match(r"# [A-Z].{20,}", path.read_text(encoding="utf-8"))


def test_rights_buckets_images_variables_and_outputs_are_as_they_should_be(terraform_checks):
    assert terraform_checks.problems(TERRAFORM) == []


@pytest.mark.parametrize(("file", "old", "new", "said"), BAD_CHANGES.values(), ids=BAD_CHANGES)
def test_a_change_for_the_worse_is_found_and_said(tmp_path, terraform_checks, file, old, new, said):
    changed = shutil.copytree(TERRAFORM, tmp_path / "terraform") / file
    text = changed.read_text(encoding="utf-8") + "\nlocals {}\n"
    assert old in text
    changed.write_text(text.replace(old, new), encoding="utf-8")
    found = terraform_checks.problems(changed.parent)
    assert [each for each in found if said in each], found


def test_a_folder_with_problems_fails_the_script(tmp_path, terraform_checks, capsys):
    assert terraform_checks.main([str(TERRAFORM)]) == 0
    (tmp_path / "wide.tf").write_text(
        'locals {\n  # wide\n  rights = { Effect = "Allow", Action = "*", Resource = "*" }\n}\n'
    )
    assert terraform_checks.main([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"{tmp_path}: wide.tf:3 allows the action '*', expected single ones" in said
    assert terraform_checks.main([]) == 2


def test_a_rendered_policy_that_is_too_wide_is_named_by_its_statement(terraform_checks):
    wide = {
        "Sid": "Wide",
        "Effect": "Allow",
        "Action": ["s3:Get*"],
        "Resource": ["arn:aws:s3:::*", "arn:aws:glue:*:*:catalog"],
    }
    denied = {"Sid": "Denied", "Effect": "Deny", "Action": "s3:*", "Resource": "*"}
    assert terraform_checks.policy_problems({"Statement": [denied, wide]}) == [
        "statement Wide allows the action 's3:Get*', expected single ones",
        "statement Wide allows 'arn:aws:s3:::*', expected what is named",
        "statement Wide allows 'arn:aws:glue:*:*:catalog', expected one service, region and account",
    ]


def test_what_a_policy_allows_follows_its_wildcards_and_conditions(terraform_checks):
    """By hand: the rules of IAM for patterns, of the few things that our policies use."""
    bucket = {
        "Action": ["s3:ListBucket"],
        "Resource": ["arn:aws:s3:::lake"],
        "Condition": {"StringLike": {"s3:prefix": ["a/*"]}},
    }
    policy = {"Statement": [bucket, {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::lake/a/*"}]}
    assert terraform_checks.allows(policy, "s3:GetObject", "arn:aws:s3:::lake/a/b/c")
    assert not terraform_checks.allows(policy, "s3:GetObject", "arn:aws:s3:::lake/ab")
    assert not terraform_checks.allows(policy, "s3:PutObject", "arn:aws:s3:::lake/a/b")
    assert terraform_checks.allows(policy, "s3:ListBucket", "arn:aws:s3:::lake", prefix="a/b/")
    assert not terraform_checks.allows(policy, "s3:ListBucket", "arn:aws:s3:::lake", prefix="b/")
    assert not terraform_checks.allows(policy, "s3:ListBucket", "arn:aws:s3:::lake")


def test_comments_are_no_policies_and_texts_no_comments(terraform_checks):
    text = 'a = "# b ${c}" # Effect = "Allow"\nd = "https://e" // f\n'
    assert terraform_checks.without_comments(text) == 'a = "# b ${c}" \nd = "https://e" \n'
    assert list(terraform_checks.written_statements(text)) == []


def test_the_role_may_do_the_calls_of_pyiceberg_but_those_that_change_or_list_databases(terraform_checks):
    calls = set(re.findall(r"self\.glue\.((?:get|create|update|delete)_\w+)\(", inspect.getsource(pyiceberg.catalog.glue)))
    actions = {"glue:" + "".join(word.capitalize() for word in call.split("_")) for call in calls}
    statements = (each for _, each in terraform_checks.written_statements(TF))
    (allowed,) = (set(each["Action"]) for each in statements if each.get("Sid") == "Tables")
    unused = {"glue:CreateDatabase", "glue:DeleteDatabase", "glue:GetDatabases", "glue:UpdateDatabase"}
    assert actions - allowed == unused
    assert allowed - actions == set()


def test_no_statement_lets_pods_delete_versions_or_change_buckets(terraform_checks):
    actions = {
        action for _, each in terraform_checks.written_statements(TF) for action in terraform_checks.texts(each["Action"])
    }
    assert {each for each in actions if each.startswith("s3:") and each != "s3:*"} == {
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:GetBucketLocation",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
    }


def test_the_values_for_helm_have_keys_that_the_values_of_the_chart_have_too():
    """The lists among them are taken from values.yaml when they are made, so only the keys above these can differ."""
    (local,) = (
        each["helm_values"] for each in hcl2.loads((TERRAFORM / "helm.tf").read_text())["locals"] if "helm_values" in each
    )
    values = yaml.safe_load((ROOT / "deploy/helm/values.yaml").read_text())
    for key, below in local.items():
        assert set(below) <= set(values[key]), key
    log_manager = local["computeLogManager"]["config"]["s3ComputeLogManager"]
    in_dagster = {re.sub(r"[A-Z]", lambda letter: f"_{letter.group().lower()}", key) for key in log_manager}
    assert in_dagster <= set(S3ComputeLogManager.config_type())


def test_the_taint_and_the_label_of_nodes_fit_what_steps_and_the_device_plugin_look_for(blocks):
    group = blocks["resource"]["aws_eks_node_group.gpu"]
    assert group["taint"] == [{"key": GPU, "value": "present", "effect": "NO_SCHEDULE"}]
    assert group["labels"]["nvidia.com/gpu.present"] == "true"


def test_versions_are_bounded_and_the_state_is_nobodys_until_somebody_says_so():
    assert re.search(r'required_version = ">= \d+\.\d+"', TF)
    assert re.search(r'version = "~> \d+\.\d+"', TF)
    assert not re.search(r"^\s*backend\s", TF, re.MULTILINE)
    backend = hcl2.loads((TERRAFORM / "backend_override.tf.example").read_text())["terraform"]
    assert "use_lockfile" in str(backend)
    assert "*_override.tf" in (TERRAFORM / ".gitignore").read_text().splitlines()


def test_nothing_is_the_account_or_the_secret_of_somebody():
    assert not re.search(r"\b\d{12}\b", re.sub(r"123456789012", "", TF))
    assert not re.search(r"AKIA|secret_key|access_key|password", TF, re.IGNORECASE)


def test_the_example_names_only_variables_that_there_are(blocks):
    named = set(re.findall(r"^(?:# )?([a-z_]+) +=", (TERRAFORM / "example.tfvars").read_text(), re.MULTILINE))
    required = {name for name, body in blocks["variable"].items() if "default" not in body}
    assert required <= named <= set(blocks["variable"])


def test_every_variable_and_output_is_explained_in_the_readme(blocks):
    readme = (TERRAFORM / "README.md").read_text(encoding="utf-8")
    assert [name for name in [*blocks["variable"], *blocks["output"]] if f"`{name}`" not in readme] == []


def test_every_variable_with_a_rule_has_a_test_in_which_it_is_refused(blocks):
    refused = (TERRAFORM / "tests" / "refused.tftest.hcl").read_text(encoding="utf-8")
    ruled = [name for name, body in blocks["variable"].items() if body.get("validation")]
    assert [name for name in ruled if f"var.{name}" not in refused] == []


def test_the_links_of_the_readme_lead_somewhere():
    text = (TERRAFORM / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        page = (TERRAFORM / path).resolve() if path else TERRAFORM / "README.md"
        headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, target
