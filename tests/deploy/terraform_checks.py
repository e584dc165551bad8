"""Checks of Terraform files without Terraform: what rights are given, and what buckets, variables and outputs must have.

`python tests/deploy/terraform_checks.py FOLDER` prints the problems of a folder and exits with 1 if there are any. Blocks
are read by python-hcl2, which evaluates nothing, so policies are looked at as they are written: every `Effect` with the
actions and resources beside it. `policy_problems` takes a policy that Terraform has rendered, and `allows` says what such a
policy lets somebody do.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import hcl2

OPTIONS = hcl2.SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)
STRING = r'"((?:[^"\\$]|\\.|\$(?!\{)|\$\{[^{}]*\})*)"'  # with ${...}, which here hold no braces
COMMENT = re.compile(rf"{STRING}|(?:#|//)[^\n]*", re.DOTALL)
COMPANIONS = {
    "aws_s3_bucket_public_access_block": "blocks what would make it public",
    "aws_s3_bucket_ownership_controls": "switches ACLs off",
    "aws_s3_bucket_server_side_encryption_configuration": "encrypts it",
    "aws_s3_bucket_lifecycle_configuration": "says how long objects stay",
    "aws_s3_bucket_policy": "refuses connections that are not encrypted",
}
BLOCKED = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
NODES = {"AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonEKS_CNI_Policy"}  # what AWS asks of nodes
ANY = ("*", "**", "arn:*", "*:*")

Found = Iterator[str]
Policy = Mapping[str, Any]


def texts(value: Any) -> list[str]:
    """Return the texts of a part of a policy that may be one or several."""
    return [value] if isinstance(value, str) else [each for each in value or [] if isinstance(each, str)]


def statement_problems(where: str, statement: Policy) -> Found:
    """Give what is too wide in a statement that allows something; a denial may be as wide as it likes."""
    if statement.get("Effect") == "Deny":
        return
    for key in ("NotAction", "NotResource", "NotPrincipal"):
        if key in statement:
            yield f"{where} has {key}, expected what is allowed and not all else"
    actions = texts(statement.get("Action"))
    for action in actions:
        if "*" in action or "?" in action:
            yield f"{where} allows the action {action!r}, expected single ones"
    for resource in texts(statement.get("Resource")):
        yield from _resource(where, resource)
    principal = statement.get("Principal")
    if principal == "*" or (isinstance(principal, Mapping) and any("*" in texts(each) for each in principal.values())):
        yield f"{where} is for everybody, expected one principal"
    if "sts:AssumeRoleWithWebIdentity" in actions:
        yield from _trust(where, statement.get("Condition") or {})


def _resource(where: str, resource: str) -> Found:
    if resource in ANY:
        yield f"{where} allows all resources, {resource!r}, expected ARNs"
    elif resource.startswith("arn:") and "*" in "".join(resource.split(":")[:5]):
        yield f"{where} allows {resource!r}, expected one service, region and account"
    elif re.search(r":::\*|:(database|table|repository|key)/\*", resource):
        yield f"{where} allows {resource!r}, expected what is named"


def _trust(where: str, condition: Any) -> Found:
    equal = condition.get("StringEquals") if isinstance(condition, Mapping) else None
    keys = {key.rpartition(":")[2]: value for key, value in (equal or {}).items()}
    if keys.get("aud") != "sts.amazonaws.com":
        yield f"{where} trusts tokens for {keys.get('aud')!r}, expected StringEquals of aud with sts.amazonaws.com"
    if not re.fullmatch(r"system:serviceaccount:[^*:]+:[^*:]+", str(keys.get("sub"))):
        yield f"{where} trusts {keys.get('sub')!r}, expected StringEquals of sub with one account of one namespace"


def policy_problems(policy: Policy) -> list[str]:
    """Return what is too wide in a policy that Terraform has rendered."""
    statements = policy["Statement"]
    return [
        each
        for place, statement in enumerate(statements)
        for each in statement_problems(f"statement {statement.get('Sid', place)}", statement)
    ]


def allows(policy: Policy, action: str, resource: str, **context: str) -> bool:
    """Return whether a policy allows an action on a resource, given values of the keys of StringLike conditions.

    Args:
        policy: as rendered, of statements that allow and no denials.
        action: such as s3:GetObject.
        resource: an ARN.
        context: values of keys by the part behind their colon, as prefix="folder/".
    """
    return any(
        any(fnmatchcase(action, each) for each in texts(statement["Action"]))
        and any(fnmatchcase(resource, each) for each in texts(statement["Resource"]))
        and all(
            any(fnmatchcase(context.get(key.partition(":")[2], ""), each) for each in texts(values))
            for key, values in statement.get("Condition", {}).get("StringLike", {}).items()
        )
        for statement in policy["Statement"]
    )


def without_comments(text: str) -> str:
    """Return a Terraform file without its comments; what looks like one inside a text stays."""
    return COMMENT.sub(lambda found: found.group() if found.group().startswith('"') else "", text)


def enclosing(text: str, place: int) -> str:
    """Return the innermost braces around a place, with them, where those of ${...} come in pairs."""
    depth, start = 0, place
    while depth >= 0:
        start -= 1
        depth += {"}": 1, "{": -1}.get(text[start], 0)
    end, depth = start, 0
    while True:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
        if depth == 0:
            return text[start:end]


def written_statements(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the statements of the policies in a file, each with its line; of an expression the texts that stand in it."""
    plain = without_comments(text)
    for found in re.finditer(r"\bEffect\s*=", plain):
        block = enclosing(plain, found.start())
        statement = hcl2.loads(f"statement = {block}\n", serialization_options=OPTIONS)["statement"]
        yield plain.count("\n", 0, found.start()) + 1, {key: _literal(value) for key, value in statement.items()}


def _literal(value: Any) -> Any:
    # of an expression, such as concat([...]), the texts that stand in it are looked at
    if isinstance(value, str) and value.startswith("${") and '"' in value:
        return re.findall(STRING, value[2:-1])
    return value


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the blocks of a folder by kind and name; of resources the name is TYPE.NAME."""
    found: dict[str, dict[str, Any]] = {"variable": {}, "resource": {}, "output": {}, "data": {}}
    for path in sorted(folder.glob("*.tf")):
        blocks = hcl2.loads(path.read_text(encoding="utf-8"), serialization_options=OPTIONS)
        for kind in ("resource", "data"):
            for block in blocks.get(kind, []):
                for type_, named in block.items():
                    found[kind] |= {f"{type_}.{name}": body for name, body in named.items()}
        for kind in ("variable", "output"):
            for block in blocks.get(kind, []):
                found[kind] |= block
    return found


def problems(folder: Path) -> list[str]:
    """Return what the files of a folder lack or allow too much: for each problem the place, what was found and expected."""
    blocks = read(folder)
    rules: Iterable[Found] = (
        _policies(folder),
        _unread_policies(blocks),
        _databases(blocks["resource"]),
        _buckets(blocks["resource"]),
        _repositories(blocks["resource"]),
        _optional_nodes(blocks),
        _variables(blocks["variable"]),
        _outputs(blocks["output"]),
    )
    return [each for rule in rules for each in rule]


def _policies(folder: Path) -> Found:
    for path in sorted(folder.glob("*.tf")):
        for line, statement in written_statements(path.read_text(encoding="utf-8")):
            yield from statement_problems(f"{path.name}:{line}", statement)


def _unread_policies(blocks: Mapping[str, Any]) -> Found:
    """Find rights that stand nowhere in these files, or not as `Effect`: what AWS or others wrote, and documents of data."""
    for name in _of_type(blocks["data"], "aws_iam_policy_document"):
        yield f"data {name} is read by none of these checks, expected jsonencode of a policy"
    for name, body in blocks["resource"].items():
        kind = name.partition(".")[0]
        attached = set(re.findall(STRING, str(body.get("for_each")).replace('\\"', '"')))
        of_aws = body.get("policy_arn") == "arn:${local.partition}:iam::aws:policy/${each.value}" and attached == NODES
        if re.fullmatch(r"aws_iam_\w*polic\w*_attachment\w*", kind) and not (
            of_aws and body.get("role") == "${aws_iam_role.gpu_nodes[0].name}"
        ):
            yield f"{name} attaches other policies than {', '.join(sorted(NODES))} to the GPU nodes, expected none"
        if "managed_policy_arns" in body:
            yield f"{name} has managed_policy_arns, expected none: policies of AWS give more than is needed"


def _databases(resources: Mapping[str, Any]) -> Found:
    for name, database in _of_type(resources, "aws_glue_catalog_database").items():
        if not any(each.get("prevent_destroy") is True for each in database.get("lifecycle", [])):
            yield f"{name} has no prevent_destroy, expected it: Glue deletes a database with its tables"


def _of_type(resources: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {name: body for name, body in resources.items() if name.partition(".")[0] == kind}


def _buckets(resources: Mapping[str, Any]) -> Found:
    for name, bucket in _of_type(resources, "aws_s3_bucket").items():
        for kind, does in COMPANIONS.items():
            if not any(_is_about_all_of(name, body) for body in _of_type(resources, kind).values()):
                yield f"{name} has no {kind} for each of its buckets, expected one, which {does}"
        if bucket.get("force_destroy") not in (None, False, "${var.force_destroy}"):
            yield f"{name}.force_destroy is {bucket['force_destroy']!r}, expected var.force_destroy"
    for name, block in _of_type(resources, "aws_s3_bucket_public_access_block").items():
        for key in BLOCKED:
            if block.get(key) is not True:
                yield f"{name}.{key} is {block.get(key)!r}, expected true"
    for name, lifecycle in _of_type(resources, "aws_s3_bucket_lifecycle_configuration").items():
        if not any("abort_incomplete_multipart_upload" in rule for rule in lifecycle.get("rule", [])):
            yield f"{name} has no rule with abort_incomplete_multipart_upload, expected one: lost uploads are paid for"


def _is_about_all_of(bucket: str, body: Mapping[str, Any]) -> bool:
    if body.get("for_each") == f"${{{bucket}}}":
        return body.get("bucket") == "${each.value.id}"
    return body.get("bucket") == f"${{{bucket}.id}}"


def _repositories(resources: Mapping[str, Any]) -> Found:
    for name, repository in _of_type(resources, "aws_ecr_repository").items():
        if repository.get("image_tag_mutability") != "IMMUTABLE":
            yield f"{name}.image_tag_mutability is {repository.get('image_tag_mutability')!r}, expected IMMUTABLE"
        if {"scan_on_push": True} not in repository.get("image_scanning_configuration", []):
            yield f"{name} does not scan images, expected scan_on_push = true"
        if not any(body.get("repository") == f"${{{name}.name}}" for body in resources.values()):
            yield f"{name} has no aws_ecr_lifecycle_policy, expected one: images are paid for"


def _optional_nodes(blocks: Mapping[str, Any]) -> Found:
    if (default := blocks["variable"].get("gpu_nodes", {}).get("default")) is not False:
        yield f"variable gpu_nodes has the default {default!r}, expected false: nodes are paid for"
    for name, body in blocks["resource"].items():
        if "gpu" in name and "var.gpu_nodes ?" not in str(body.get("count", body.get("for_each"))):
            yield f"{name} is always made, expected only where var.gpu_nodes is true"


def _variables(variables: Mapping[str, Any]) -> Found:
    for name, body in variables.items():
        for key in ("description", "type"):
            if not body.get(key):
                yield f"variable {name} has no {key}, expected one"
        if body.get("type") != "bool" and not body.get("validation"):
            yield f"variable {name} has no validation, expected one that says what is wrong"
        for validation in body.get("validation", []):
            message = validation["error_message"]
            if not re.match(rf"{name}( |s ).*?(\$\{{|is missing|is empty).*[,;] (expected|but|which) ", message):
                yield f"variable {name}: the message {message!r} does not say what was found and what was expected"


def _outputs(outputs: Mapping[str, Any]) -> Found:
    for name, body in outputs.items():
        if not body.get("description"):
            yield f"output {name} has no description, expected one"


def main(paths: list[str]) -> int:
    """Print the problems of folders; return 1 if there are any, 2 without a folder."""
    if not paths:
        print("usage: python tests/deploy/terraform_checks.py FOLDER...")  # noqa: T201
        return 2
    found = [f"{path}: {each}" for path in paths for each in problems(Path(path))]
    print("\n".join(found) or f"no problems in {len(paths)} folders")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
