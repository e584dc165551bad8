# What is planned with each option, against a mocked provider: keys, tables of others, nodes with GPUs, values, manifests.

mock_provider "aws" {
  override_during = plan # of Terraform 1.11: nothing is applied, so nothing is left, and databases refuse to be destroyed

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_resource "aws_ecr_repository" {
    defaults = { repository_url = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/mimic" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mocked" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0" }
  }
}

variables {
  region            = "eu-central-1"
  oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/0123ABCD"
}

run "a_key_encrypts_all_buckets_and_the_role_may_use_it" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/0123abcd"
  }

  assert {
    condition     = alltrue([for each in aws_s3_bucket_server_side_encryption_configuration.data : one(each.rule).bucket_key_enabled && one(one(each.rule).apply_server_side_encryption_by_default).kms_master_key_id == var.kms_key_arn])
    error_message = "a bucket is not encrypted by the key"
  }
  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.mimic.policy).Statement : each.Resource if startswith(each.Action[0], "kms:")] == [[var.kms_key_arn]]
    error_message = "the role may not use the key, or others too"
  }
}

run "tables_of_others_are_read_and_not_written" {
  command = plan

  variables {
    sources = [
      { database = "bookings", locations = ["s3://lake/bookings/", "s3://lake/fares/2026/"] },
      { database = "weather", locations = ["s3://weather/"] },
    ]
    source_key_arns = ["arn:aws:kms:eu-central-1:123456789012:key/lake"]
  }

  assert {
    condition = { for each in jsondecode(aws_iam_role_policy.mimic.policy).Statement : each.Sid => each.Resource if endswith(each.Sid, "OfOthers") } == {
      TablesOfOthers = [
        "arn:aws:glue:eu-central-1:123456789012:catalog",
        "arn:aws:glue:eu-central-1:123456789012:database/bookings",
        "arn:aws:glue:eu-central-1:123456789012:database/weather",
        "arn:aws:glue:eu-central-1:123456789012:table/bookings/*",
        "arn:aws:glue:eu-central-1:123456789012:table/weather/*",
      ]
      ObjectsOfOthers = ["arn:aws:s3:::lake/bookings/*", "arn:aws:s3:::lake/fares/2026/*", "arn:aws:s3:::weather/*"]
      RegionsOfOthers = ["arn:aws:s3:::lake", "arn:aws:s3:::weather"]
      KeysOfOthers    = ["arn:aws:kms:eu-central-1:123456789012:key/lake"]
    }
    error_message = "rights on the tables of others are not those of their databases and places"
  }
  assert {
    condition = [for each in jsondecode(aws_iam_role_policy.mimic.policy).Statement : each.Condition.StringLike["s3:prefix"] if startswith(each.Sid, "FoldersOfOthers")] == [
      ["bookings", "bookings/*", "fares/2026", "fares/2026/*"],
      ["", "*"],
    ]
    error_message = "other folders of these buckets may be listed"
  }
  assert {
    condition     = toset(keys(aws_glue_catalog_database.tables)) == toset(["haven"])
    error_message = "a database of others is made"
  }
}

run "nodes_with_gpus_fit_what_steps_ask_for" {
  command = plan

  variables {
    gpu_nodes      = true
    cluster_name   = "example"
    gpu_subnet_ids = ["subnet-0123456789abcdef0"]
  }

  assert {
    condition     = [for each in aws_eks_node_group.gpu[0].taint : "${each.key}:${each.effect}"] == ["nvidia.com/gpu:NO_SCHEDULE"]
    error_message = "the taint is not the one that steps with GPUs tolerate"
  }
  assert {
    condition     = aws_eks_node_group.gpu[0].scaling_config[0].min_size == 0 && aws_eks_node_group.gpu[0].scaling_config[0].desired_size == 0 && aws_eks_node_group.gpu[0].capacity_type == "ON_DEMAND"
    error_message = "nodes are there, and paid for, before somebody needs one"
  }
  assert {
    condition     = { for each in aws_launch_template.gpu_nodes[0].tag_specifications : each.resource_type => each.tags } == { for each in ["instance", "volume"] : each => var.tags }
    error_message = "what the nodes cost cannot be found by the tags"
  }
  assert {
    condition     = strcontains(output.pools_job, "concurrency set training 2\n") && strcontains(output.pools_job, "concurrency set shards 32\n")
    error_message = "the pool of trainings is not as large as the group"
  }
  assert {
    condition     = aws_launch_template.gpu_nodes[0].metadata_options[0].http_tokens == "required" && aws_launch_template.gpu_nodes[0].metadata_options[0].http_put_response_hop_limit == 1
    error_message = "pods may take the rights of their node"
  }
  assert {
    condition     = output.gpu_node_group == "mimic-gpu"
    error_message = "the output does not name the group"
  }
}

run "the_helm_values_name_images_settings_and_logs" {
  command = plan

  variables {
    image_version = "0.1.0-2"
    settings      = { MIMIC_MAX_RUNS_PER_CHANGE = "20" }
  }

  assert {
    condition     = yamldecode(output.helm_values).dagsterWebserver.image == { repository = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/mimic", tag = "0.1.0-2-cpu" }
    error_message = "the image is not that of the repository"
  }
  assert {
    condition = alltrue([for key, value in {
      MIMIC_ENV                 = "kubernetes"
      MIMIC_CATALOG             = "glue:haven"
      MIMIC_WAREHOUSE           = "s3://mimic-123456789012-eu-central-1-warehouse/warehouse"
      MIMIC_ARTEFACTS           = "s3://mimic-123456789012-eu-central-1-artefacts/artefacts"
      MIMIC_GPU_IMAGE           = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/mimic:0.1.0-2-gpu"
      MIMIC_MAX_RUNS_PER_CHANGE = "20"
      AWS_REGION                = "eu-central-1"
      AWS_DEFAULT_REGION        = "eu-central-1"
    } : yamldecode(output.helm_values)["dagster-user-deployments"].deployments[0].env[key] == value])
    error_message = "the settings are not those of what is made"
  }
  assert {
    condition     = yamldecode(output.helm_values).computeLogManager.config.s3ComputeLogManager == { bucket = "mimic-123456789012-eu-central-1-logs", prefix = "compute_logs", region = "eu-central-1", uploadInterval = 30 }
    error_message = "logs do not go to their bucket"
  }
  assert {
    condition     = alltrue([for each in concat([yamldecode(output.helm_values).dagsterWebserver, yamldecode(output.helm_values).dagsterDaemon, yamldecode(output.commands_pod).spec], yamldecode(output.helm_values)["dagster-user-deployments"].deployments) : [for volume in each.volumes : volume.emptyDir if volume.name == "mimic"] == [{}]])
    error_message = "without a claim a pod has none of its own at /mimic"
  }
  assert {
    condition     = !can(yamldecode(output.helm_values).postgresql)
    error_message = "a host of Postgres is named that nobody said"
  }
}

run "a_host_a_volume_and_pools_reach_the_values_and_the_manifests" {
  command = plan

  variables {
    postgres_host   = "mimic.0123.eu-central-1.rds.amazonaws.com"
    volume_claim    = "shared"
    pools           = { training = 3 }
    namespace       = "choices"
    service_account = "builds"
  }

  assert {
    condition     = yamldecode(output.helm_values).postgresql == { postgresqlHost = var.postgres_host }
    error_message = "the host of Postgres is not that of the variable"
  }
  assert {
    condition     = alltrue([for each in concat([yamldecode(output.helm_values).dagsterWebserver, yamldecode(output.helm_values).dagsterDaemon, yamldecode(output.commands_pod).spec], yamldecode(output.helm_values)["dagster-user-deployments"].deployments) : [for volume in each.volumes : volume.persistentVolumeClaim.claimName if volume.name == "mimic"] == ["shared"]])
    error_message = "a pod does not mount the claim"
  }
  assert {
    condition     = strcontains(output.pools_job, "concurrency set training 3\n") && strcontains(output.pools_job, "concurrency set shards 32\n")
    error_message = "the Job does not set the pools"
  }
  assert {
    condition     = alltrue([for each in [yamldecode(output.commands_pod), yamldecode(output.pools_job)] : each.metadata.namespace == "choices"]) && yamldecode(output.commands_pod).spec.serviceAccountName == "builds" && yamldecode(output.pools_job).spec.template.spec.serviceAccountName == "builds"
    error_message = "the manifests are for another namespace or account than the role"
  }
}
