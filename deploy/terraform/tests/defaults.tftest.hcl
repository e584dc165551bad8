# What is planned with nothing but what must be said, against a mocked provider: terraform test.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  region            = "eu-central-1"
  oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/0123ABCD"
}

run "buckets_are_encrypted_private_and_kept" {
  command = plan

  assert {
    condition     = { for each, bucket in aws_s3_bucket.data : each => bucket.bucket } == { for each in ["artefacts", "logs", "warehouse"] : each => "mimic-123456789012-eu-central-1-${each}" }
    error_message = "buckets are not those of tables, artefacts and logs"
  }
  assert {
    condition     = alltrue([for each in aws_s3_bucket.data : !each.force_destroy]) && !aws_ecr_repository.mimic.force_delete
    error_message = "a destroy would delete data"
  }
  assert {
    condition     = alltrue([for each in aws_s3_bucket_server_side_encryption_configuration.data : one(one(each.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"])
    error_message = "a bucket is not encrypted by S3's keys"
  }
  assert {
    condition     = alltrue([for each in aws_s3_bucket_public_access_block.data : each.block_public_acls && each.block_public_policy && each.ignore_public_acls && each.restrict_public_buckets])
    error_message = "a bucket may become public"
  }
  assert {
    condition     = keys(aws_s3_bucket_versioning.data) == ["artefacts", "warehouse"]
    error_message = "versions are not kept of artefacts and tables alone"
  }
}

run "what_steps_hand_over_and_print_expires" {
  command = plan

  assert {
    condition     = { for rule in aws_s3_bucket_lifecycle_configuration.data["artefacts"].rule : rule.id => rule.expiration[0].days if rule.id == "steps" } == { steps = 30 }
    error_message = "what steps hand over does not expire"
  }
  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.data["logs"].rule : rule.expiration[0].days if rule.id == "old"] == [90]
    error_message = "logs do not expire"
  }
  assert {
    condition     = jsonencode([for rule in aws_s3_bucket_lifecycle_configuration.data["artefacts"].rule : [rule.noncurrent_version_expiration[0].noncurrent_days, rule.noncurrent_version_expiration[0].newer_noncurrent_versions] if rule.id == "often"]) == "[[1,3]]"
    error_message = "all old versions of artefacts that are replaced often stay"
  }
  assert {
    condition     = alltrue([for each in local.lifecycle_rules.warehouse : each.days == null])
    error_message = "current tables expire"
  }
}

run "the_role_is_for_one_account_of_one_namespace" {
  command = plan

  assert {
    condition = jsondecode(aws_iam_role.mimic.assume_role_policy).Statement == [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = var.oidc_provider_arn }
      Condition = { StringEquals = {
        "oidc.eks.eu-central-1.amazonaws.com/id/0123ABCD:sub" = "system:serviceaccount:mimic:mimic"
        "oidc.eks.eu-central-1.amazonaws.com/id/0123ABCD:aud" = "sts.amazonaws.com"
      } }
    }]
    error_message = "others may take the role"
  }
  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.mimic.policy).Statement : each.Sid] == ["Buckets", "Objects", "Tables"]
    error_message = "the role has rights that nothing asked for"
  }
  assert {
    condition     = !can(regex("\"[a-z0-9:]*\\*\"", replace(aws_iam_role_policy.mimic.policy, "/\"arn:[^\"]*\"/", "\"\"")))
    error_message = "an action or a resource is a bare *"
  }
}

run "there_are_no_nodes_and_one_repository" {
  command = plan

  assert {
    condition     = length(aws_eks_node_group.gpu) + length(aws_iam_role.gpu_nodes) + length(aws_iam_role_policy_attachment.gpu_nodes) + length(aws_launch_template.gpu_nodes) == 0 && output.gpu_node_group == null
    error_message = "nodes are made though nobody asked for them"
  }
  assert {
    condition     = aws_ecr_repository.mimic.image_tag_mutability == "IMMUTABLE" && aws_ecr_repository.mimic.image_scanning_configuration[0].scan_on_push
    error_message = "tags may be moved, or images are not scanned"
  }
}
