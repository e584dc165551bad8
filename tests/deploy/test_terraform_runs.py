"""Terraform itself reads, tests, applies and destroys deploy/terraform, against a mocked provider and against moto.

Needed are a program, `terraform` or `tofu`, and a folder with the provider of AWS, so that nothing is fetched: one that
MIMIC_TERRAFORM_MIRROR names, or one of MIRRORS. `terraform providers mirror FOLDER` makes such a folder.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from pyiceberg.catalog.glue import GlueCatalog

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "terraform"
# those in which Terraform looks by itself, and one where machines for builds have it
MIRRORS = ("~/.terraform.d/plugins", "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins", "/opt/tf-plugins")
HOSTS = {"terraform": "registry.terraform.io", "tofu": "registry.opentofu.org"}
REGION, ACCOUNT = "eu-central-1", "123456789012"
OIDC = f"oidc-provider/oidc.eks.{REGION}.amazonaws.com/id/0123ABCD"
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": REGION}
VARIABLES = {
    "region": REGION,
    "oidc_provider_arn": f"arn:aws:iam::{ACCOUNT}:{OIDC}",
    "glue_databases": ["haven", "trips"],
    "sources": [{"database": "bookings", "locations": ["s3://lake/bookings/"]}],
    "kms_key_arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0123abcd",
}
MOTO = """
import sys
from moto.s3.models import FakeBucket
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

# what moto forgets of rules, so that every plan would say it again: how many newer versions there must be
set_lifecycle, serialized = FakeBucket.set_lifecycle, S3Response.serialized
def keep(bucket, rules):
    set_lifecycle(bucket, rules)
    for kept, rule in zip(bucket.rules, rules):
        kept.newer = (rule.get("NoncurrentVersionExpiration") or {}).get("NewerNoncurrentVersions")
def tell(response, result):
    if isinstance(result.result, dict) and "TransitionDefaultMinimumObjectSize" in result.result:
        for told, rule in zip(result.result["Rules"], response.backend.get_bucket(response.bucket_name).rules):
            if rule.newer:
                told["NoncurrentVersionExpiration"]["NewerNoncurrentVersions"] = rule.newer
    return serialized(response, result)
FakeBucket.set_lifecycle, S3Response.serialized = keep, tell

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""
# of moto: one address for all services, and no region that anybody could be asked about
OVERRIDE = 'provider "aws" {\n  s3_use_path_style = true\n}\n'


@dataclass(frozen=True)
class Terraform:
    """A copy of the folder, with what a program needs to work in it without a network."""

    program: str
    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command and return how it ended, whatever that was."""
        command = [self.program, f"-chdir={self.folder}", *arguments]
        return subprocess.run(command, env=self.environment | environment, capture_output=True, text=True, timeout=600)

    def succeed(self, *arguments: str, **environment: str) -> str:
        """Run a command that must succeed and return what it printed."""
        done = self.run(*arguments, **environment)
        assert done.returncode == 0, f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout


def program() -> str:
    found = next((path for name in HOSTS if (path := shutil.which(name))), None)
    return found or pytest.skip("neither `terraform` nor `tofu` is on the path: only the tests without them have run")


def mirror(host: str) -> Path:
    named = os.environ.get("MIMIC_TERRAFORM_MIRROR")
    folders = [Path(each).expanduser() for each in ([named] if named else MIRRORS)]
    found = next((folder for folder in folders if (folder / host / "hashicorp" / "aws").is_dir()), None)
    looked = ", ".join(map(str, folders))
    return found or pytest.skip(
        f"no provider {host}/hashicorp/aws in {looked}; "
        "`terraform providers mirror FOLDER`, then MIMIC_TERRAFORM_MIRROR=FOLDER"
    )


@pytest.fixture(scope="module")
def terraform(tmp_path_factory) -> Terraform:
    """A copy of the folder, initialised, beside the values and manifests that it reads."""
    path = program()
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "rc").write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror(HOSTS[Path(path).name])}"\n  }}\n}}\n'
    )
    left = shutil.ignore_patterns(".terraform*", "*.tfstate*", "terraform.tfvars", "*_override.tf")
    shutil.copytree(FOLDER, folder / "terraform", ignore=left)
    for each in ("helm", "kubernetes"):
        shutil.copytree(ROOT / "deploy" / each, folder / each)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TF_", "AWS_"))}
    environment = kept | {
        "TF_CLI_CONFIG_FILE": str(folder / "rc"),
        "TF_IN_AUTOMATION": "1",
        "TF_CLI_ARGS": "-no-color",
        "CHECKPOINT_DISABLE": "1",
        "AWS_ACCESS_KEY_ID": KEYS["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"],
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    found = Terraform(path, folder / "terraform", environment)
    found.succeed("init", "-input=false", "-backend=false")
    return found


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """The address of a server of moto in a process of its own, with the policies that AWS itself has."""
    environment = os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
    command = [sys.executable, "-c", MOTO]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as server:
        yield next(line.strip() for line in server.stdout if line.startswith("http://"))
        server.stdin.close()


@dataclass(frozen=True)
class Applied:
    """What was made on a server: its address and the outputs."""

    terraform: Terraform
    url: str
    outputs: dict[str, Any]

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.url, **KEYS)


@pytest.fixture(scope="module")
def tested_meanwhile(terraform) -> Iterator[Future[subprocess.CompletedProcess[str]]]:
    """`terraform test` in a folder of its own: it runs while the apply waits for the lifecycle of buckets."""
    copy = shutil.copytree(terraform.folder, terraform.folder.with_name("tested"), symlinks=True)
    with ThreadPoolExecutor() as threads:
        yield threads.submit(replace(terraform, folder=copy).run, "test", "-verbose")


@pytest.fixture(scope="module")
def applied(terraform, aws, tested_meanwhile) -> Applied:
    (terraform.folder / "moto_override.tf").write_text(OVERRIDE)
    (terraform.folder / "terraform.tfvars.json").write_text(json.dumps(VARIABLES))
    terraform.succeed("apply", "-auto-approve", "-input=false", AWS_ENDPOINT_URL=aws)
    outputs = json.loads(terraform.succeed("output", "-json"))
    return Applied(terraform, aws, {name: output["value"] for name, output in outputs.items()})


@pytest.fixture(scope="module")
def tested(tested_meanwhile) -> str:
    """What `terraform test` prints, with the plan of each run."""
    printed = tested_meanwhile.result()
    assert printed.returncode == 0, printed.stdout + printed.stderr
    return printed.stdout


def test_the_files_are_formatted():
    done = subprocess.run([program(), "fmt", "-check", "-recursive", "-diff", FOLDER], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_configuration_is_valid(terraform):
    assert json.loads(terraform.succeed("validate", "-json"))["diagnostics"] == []


def test_what_is_applied_is_what_was_planned_and_a_second_plan_changes_nothing(applied):
    planned = applied.terraform.run("plan", "-detailed-exitcode", "-input=false", AWS_ENDPOINT_URL=applied.url)
    assert planned.returncode == 0, planned.stdout + planned.stderr


def test_terraform_test_passes_and_runs_all_of_its_files(tested):
    runs = sum(len(re.findall(r"^run ", path.read_text(), re.MULTILINE)) for path in FOLDER.glob("tests/*.hcl"))
    assert f"Success! {runs} passed, 0 failed." in tested


def test_the_readme_says_how_much_is_planned(tested):
    """Of the first run, which has one database and no options."""
    said = re.search(r"Plan: (\d+) to add", (FOLDER / "README.md").read_text())
    planned = re.search(r"Plan: (\d+) to add", tested)
    assert 'run "buckets_are_encrypted_private_and_kept"' in tested[: planned.start()]
    assert planned.group() == said.group()


def test_every_bucket_is_encrypted_private_and_tidied_up(applied):
    s3 = applied.client("s3")
    buckets = applied.outputs["buckets"]
    assert sorted(each["Name"] for each in s3.list_buckets()["Buckets"]) == sorted(buckets.values())
    expiring = {}
    for name, bucket in buckets.items():
        (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        by_default = rule["ApplyServerSideEncryptionByDefault"]
        assert by_default == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": VARIABLES["kms_key_arn"]}
        assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
        rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        assert all(each["Status"] == "Enabled" for each in rules)
        assert [each["AbortIncompleteMultipartUpload"] for each in rules if "AbortIncompleteMultipartUpload" in each] == [
            {"DaysAfterInitiation": 7}
        ]
        expiring[name] = {
            each["Filter"].get("Prefix", ""): each["Expiration"]["Days"]
            for each in rules
            if "Days" in each.get("Expiration", {})
        }
        versions = {
            each["ID"]: each["NoncurrentVersionExpiration"] for each in rules if "NoncurrentVersionExpiration" in each
        }
        assert name != "artefacts" or versions["often"] == {"NoncurrentDays": 1, "NewerNoncurrentVersions": 3}
    assert expiring == {"warehouse": {}, "artefacts": {"artefacts/steps/": 30}, "logs": {"": 90}}
    versions = {name: s3.get_bucket_versioning(Bucket=bucket).get("Status") for name, bucket in buckets.items()}
    assert versions == {"warehouse": "Enabled", "artefacts": "Enabled", "logs": None}


def test_policies_that_were_made_are_as_narrow_as_they_are_written(applied, terraform_checks):
    iam = applied.client("iam")
    (role,) = iam.list_roles()["Roles"]
    assert role["Arn"] == applied.outputs["role_arn"]
    trust = role["AssumeRolePolicyDocument"]
    assert trust["Statement"][0]["Condition"]["StringEquals"] == {
        f"{OIDC.removeprefix('oidc-provider/')}:sub": "system:serviceaccount:mimic:mimic",
        f"{OIDC.removeprefix('oidc-provider/')}:aud": "sts.amazonaws.com",
    }
    assert iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"] == []
    names = iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
    policies = [iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"] for name in names]
    assert [each for policy in [trust, *policies] for each in terraform_checks.policy_problems(policy)] == []


WAREHOUSE, ARTEFACTS, LOGS = (f"arn:aws:s3:::mimic-{ACCOUNT}-{REGION}-{name}" for name in ("warehouse", "artefacts", "logs"))
GLUE = f"arn:aws:glue:{REGION}:{ACCOUNT}"
NEEDED = {  # by hand: what mimic, pyiceberg, pyarrow and Dagster's logs do
    "s3:GetObject": [
        f"{WAREHOUSE}/warehouse/haven.db/t/data/x.parquet",
        f"{ARTEFACTS}/artefacts/specs/x",
        "arn:aws:s3:::lake/bookings/x",
    ],
    "s3:PutObject": [f"{WAREHOUSE}/warehouse/x", f"{ARTEFACTS}/artefacts/steps/RUN/x", f"{LOGS}/compute_logs/RUN/x.err"],
    "s3:DeleteObject": [f"{WAREHOUSE}/warehouse/x", f"{ARTEFACTS}/artefacts/x", f"{LOGS}/compute_logs/x"],
    "s3:AbortMultipartUpload": [f"{WAREHOUSE}/warehouse/x"],
    "s3:ListBucket": [WAREHOUSE, ARTEFACTS, LOGS],
    "glue:UpdateTable": [f"{GLUE}:catalog", f"{GLUE}:database/haven", f"{GLUE}:table/trips/t"],
    "glue:GetTables": [f"{GLUE}:catalog", f"{GLUE}:database/haven", f"{GLUE}:database/bookings", f"{GLUE}:table/bookings/t"],
    "glue:GetPartitions": [f"{GLUE}:table/bookings/t"],
    "kms:GenerateDataKey": [VARIABLES["kms_key_arn"]],
}
REFUSED = {
    "s3:GetObject": [
        f"arn:aws:s3:::mimic-{ACCOUNT}-{REGION}-other/x",
        "arn:aws:s3:::lake/bookings-of-others/x",
        f"{WAREHOUSE}/x",
    ],
    "s3:PutObject": ["arn:aws:s3:::lake/bookings/x", f"{WAREHOUSE}-2/warehouse/x"],
    "s3:DeleteObject": ["arn:aws:s3:::lake/bookings/x"],
    "s3:DeleteObjectVersion": [f"{WAREHOUSE}/warehouse/x", f"{ARTEFACTS}/artefacts/x"],
    "s3:DeleteBucket": [WAREHOUSE],
    "s3:PutBucketPolicy": [WAREHOUSE],
    "s3:PutLifecycleConfiguration": [ARTEFACTS],
    "s3:ListBucket": ["arn:aws:s3:::lake", "arn:aws:s3:::other"],
    "s3:ListAllMyBuckets": ["arn:aws:s3:::*"],
    "glue:CreateTable": [f"{GLUE}:table/bookings/t", f"{GLUE}:table/haven2/t"],
    "glue:DeleteTable": [f"{GLUE}:table/bookings/t"],
    "glue:CreateDatabase": [f"{GLUE}:catalog", f"{GLUE}:database/haven"],
    "glue:DeleteDatabase": [f"{GLUE}:database/haven"],
    "kms:Decrypt": [f"arn:aws:kms:{REGION}:{ACCOUNT}:key/other"],
    "iam:PassRole": [f"arn:aws:iam::{ACCOUNT}:role/any"],
    "sts:AssumeRole": [f"arn:aws:iam::{ACCOUNT}:role/any"],
}


def test_the_role_may_do_what_pods_do_and_nothing_beside_it(applied, terraform_checks):
    iam = applied.client("iam")
    name = applied.outputs["role_arn"].rpartition("/")[2]
    policy = iam.get_role_policy(RoleName=name, PolicyName="mimic")["PolicyDocument"]
    for action, resources in NEEDED.items():
        assert [each for each in resources if not terraform_checks.allows(policy, action, each)] == [], action
    for action, resources in REFUSED.items():
        assert [each for each in resources if terraform_checks.allows(policy, action, each)] == [], action
    assert terraform_checks.allows(policy, "s3:ListBucket", "arn:aws:s3:::lake", prefix="bookings/2026/")
    assert not terraform_checks.allows(policy, "s3:ListBucket", "arn:aws:s3:::lake", prefix="bookings-of-others/")


def test_images_are_scanned_and_their_tags_stay(applied):
    ecr = applied.client("ecr")
    (repository,) = ecr.describe_repositories()["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert applied.outputs["image_repository"] == repository["repositoryUri"]
    policy = json.loads(ecr.get_lifecycle_policy(repositoryName=repository["repositoryName"])["lifecyclePolicyText"])
    assert [rule["selection"].get("tagPatternList") for rule in policy["rules"]] == [None, ["*-cpu"], ["*-gpu"]]


def test_pyiceberg_finds_the_databases_and_puts_tables_into_the_warehouse(applied):
    settings = applied.outputs["settings"]
    s3 = {"s3.endpoint": applied.url, "s3.access-key-id": "testing", "s3.secret-access-key": "testing"}
    glue = {"glue.endpoint": applied.url, "glue.region": settings["AWS_REGION"]}
    keys = {"glue.access-key-id": "testing", "glue.secret-access-key": "testing"}
    catalog = GlueCatalog("mimic", warehouse=settings["MIMIC_WAREHOUSE"], **s3, **glue, **keys)
    assert sorted(catalog.list_namespaces()) == [(name,) for name in applied.outputs["glue_databases"]]
    # `location` is that of the database, which is where pyiceberg would put tables without one
    database = catalog.load_namespace_properties("haven")["location"]
    assert database == f"{settings['MIMIC_WAREHOUSE']}/haven.db"


def test_the_helm_values_merge_into_those_of_the_chart_and_only_change_what_they_should(applied):
    """By hand: what of values.yaml is different afterwards."""
    made = yaml.safe_load(applied.outputs["helm_values"])
    values = yaml.safe_load((ROOT / "deploy/helm/values.yaml").read_text())
    repository, tag = applied.outputs["image_repository"], values["dagsterWebserver"]["image"]["tag"]
    for image in (made["dagsterWebserver"], made["dagsterDaemon"], made["pipelineRun"]):
        assert image["image"] == {"repository": repository, "tag": tag}
    (deployment,) = made["dagster-user-deployments"]["deployments"]
    (before,) = values["dagster-user-deployments"]["deployments"]
    assert {key for key in before if deployment[key] != before[key]} == {"image", "env", "volumes"}
    assert deployment["image"] == before["image"] | {"repository": repository, "tag": tag}
    assert deployment["env"] == before["env"] | applied.outputs["settings"]
    assert all(isinstance(value, str) for value in deployment["env"].values())
    (init,) = made["dagsterWebserver"]["extraPrependedInitContainers"]
    (init_before,) = values["dagsterWebserver"]["extraPrependedInitContainers"]
    assert init == init_before | {"image": f"{repository}:{tag}"}
    assert made["computeLogManager"]["config"]["s3ComputeLogManager"]["bucket"] == applied.outputs["buckets"]["logs"]


def test_the_manifests_are_those_of_the_repository_with_the_image_and_a_folder_of_each_pod(applied, manifest_checks):
    image = ":".join(yaml.safe_load(applied.outputs["helm_values"])["pipelineRun"]["image"].values())
    for name in ("commands_pod", "pools_job"):
        assert manifest_checks.problems_of_text(applied.outputs[name]) == []
        made = yaml.safe_load(applied.outputs[name])
        before = yaml.safe_load((ROOT / f"deploy/kubernetes/{name.replace('_', '-')}.yaml").read_text())
        for each in (made, before):
            pod = each["spec"]["template"]["spec"] if name == "pools_job" else each["spec"]
            pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != "mimic"]
            pod["containers"][0]["image"] = image if each is before else pod["containers"][0]["image"]
        assert made == before


def test_nodes_with_gpus_are_made_when_they_are_asked_for(applied):
    """The same apply says what a destroy of data wants said before it, see the next test."""
    eks = applied.client("eks")
    eks.create_cluster(name="example", roleArn=f"arn:aws:iam::{ACCOUNT}:role/cluster", resourcesVpcConfig={"subnetIds": []})
    asked = ["-var=gpu_nodes=true", "-var=cluster_name=example", '-var=gpu_subnet_ids=["subnet-0123456789abcdef0"]']
    asked.append("-var=force_destroy=true")
    applied.terraform.succeed("apply", "-auto-approve", "-input=false", *asked, AWS_ENDPOINT_URL=applied.url)
    group = eks.describe_nodegroup(clusterName="example", nodegroupName="mimic-gpu")["nodegroup"]
    assert group["scalingConfig"] == {"minSize": 0, "desiredSize": 0, "maxSize": 2}
    assert group["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]


def test_a_destroy_begins_with_nothing_until_somebody_says_what_happens_to_the_data(applied):
    """What the README has Terraform forget is taken from there, for both ways; the second, which deletes data, is gone."""
    s3, glue = applied.client("s3"), applied.client("glue")
    buckets, destroy = applied.outputs["buckets"], ("destroy", "-auto-approve", "-input=false")
    for bucket in buckets.values():  # moto takes its connections, which are not encrypted, for what the policy refuses
        s3.delete_bucket_policy(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="warehouse/haven.db/t/x.parquet", Body=b"x")
    refused = applied.terraform.run(*destroy, AWS_ENDPOINT_URL=applied.url)
    assert refused.returncode == 1
    assert "prevent_destroy" in refused.stderr
    assert sorted(each["Name"] for each in glue.get_databases()["DatabaseList"]) == ["haven", "trips"]
    assert len(applied.client("iam").list_roles()["Roles"]) == 2

    patterns = re.findall(r"grep -E '(.*?)'", (FOLDER / "README.md").read_text())
    known = applied.terraform.succeed("state", "list").splitlines()
    keep, delete = ([each for each in known if re.search(pattern, each)] for pattern in patterns)
    left = {each.partition(".")[0] for each in known if each not in keep and not each.startswith("data.")}
    assert left == {
        "aws_iam_role",
        "aws_iam_role_policy",
        "aws_iam_role_policy_attachment",
        "aws_eks_node_group",
        "aws_launch_template",
    }
    assert delete == [f'aws_glue_catalog_database.tables["{name}"]' for name in ("haven", "trips")]
    applied.terraform.succeed("state", "rm", *delete)
    applied.terraform.succeed(*destroy, "-var=force_destroy=true", AWS_ENDPOINT_URL=applied.url)
    assert s3.list_buckets()["Buckets"] == []
    assert sorted(each["Name"] for each in glue.get_databases()["DatabaseList"]) == ["haven", "trips"]
    assert applied.client("iam").list_roles()["Roles"] == []
    assert applied.client("ecr").describe_repositories()["repositories"] == []


def test_without_the_provider_the_tests_say_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("MIMIC_TERRAFORM_MIRROR", str(tmp_path))
    with pytest.raises(
        pytest.skip.Exception, match=r"no provider registry.terraform.io/hashicorp/aws in .*terraform providers mirror"
    ):
        mirror("registry.terraform.io")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="neither `terraform` nor `tofu` is on the path"):
        program()
