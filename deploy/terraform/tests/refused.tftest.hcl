# What is refused, each by the variable that it is about: terraform test.

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

run "a_zone_is_no_region" {
  command = plan

  variables {
    region = "eu-central-1a"
  }

  expect_failures = [var.region]
}

run "a_name_that_no_bucket_may_have" {
  command = plan

  variables {
    name = "Mimic_"
  }

  expect_failures = [var.name]
}

run "tags_that_are_those_of_aws" {
  command = plan

  variables {
    tags = { "aws:owner" = "mimic" }
  }

  expect_failures = [var.tags]
}

run "the_url_of_the_provider_is_no_arn" {
  command = plan

  variables {
    oidc_provider_arn = "https://oidc.eks.eu-central-1.amazonaws.com/id/0123ABCD"
  }

  expect_failures = [var.oidc_provider_arn]
}

run "the_provider_of_a_cluster_elsewhere" {
  command = plan

  variables {
    region = "eu-west-1"
  }

  expect_failures = [var.oidc_provider_arn]
}

run "the_provider_of_another_account" {
  command = plan

  variables {
    oidc_provider_arn = "arn:aws:iam::210987654321:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/0123ABCD"
  }

  expect_failures = [aws_iam_role.mimic]
}

run "any_namespace" {
  command = plan

  variables {
    namespace = "*"
  }

  expect_failures = [var.namespace]
}

run "any_account_that_begins_with_mimic" {
  command = plan

  variables {
    service_account = "mimic*"
  }

  expect_failures = [var.service_account]
}

run "a_version_with_its_target" {
  command = plan

  variables {
    image_version = "0.1.0-cpu"
  }

  expect_failures = [var.image_version]
}

run "a_setting_that_follows_from_what_is_made" {
  command = plan

  variables {
    settings = { MIMIC_WAREHOUSE = "s3://other/place" }
  }

  expect_failures = [var.settings]
}

run "a_setting_that_is_no_variable" {
  command = plan

  variables {
    settings = { "mimic-compute" = "" }
  }

  expect_failures = [var.settings]
}

run "a_url_is_no_host" {
  command = plan

  variables {
    postgres_host = "postgresql://dagster@example.org:5432/dagster"
  }

  expect_failures = [var.postgres_host]
}

run "a_volume_with_capitals" {
  command = plan

  variables {
    volume_claim = "Mimic"
  }

  expect_failures = [var.volume_claim]
}

run "a_pool_in_which_nothing_runs" {
  command = plan

  variables {
    pools = { training = 0 }
  }

  expect_failures = [var.pools]
}

run "no_database" {
  command = plan

  variables {
    glue_databases = []
  }

  expect_failures = [var.glue_databases]
}

run "a_database_with_capitals" {
  command = plan

  variables {
    glue_databases = ["Haven"]
  }

  expect_failures = [var.glue_databases]
}

run "a_place_that_is_also_its_neighbours" {
  command = plan

  variables {
    sources = [{ database = "bookings", locations = ["s3://lake/bookings"] }]
  }

  expect_failures = [var.sources]
}

run "a_place_with_a_wildcard" {
  command = plan

  variables {
    sources = [{ database = "bookings", locations = ["s3://lake/*/"] }]
  }

  expect_failures = [var.sources]
}

run "any_database_of_others" {
  command = plan

  variables {
    sources = [{ database = "book*", locations = [] }]
  }

  expect_failures = [var.sources]
}

run "a_source_that_mimic_writes" {
  command = plan

  variables {
    sources = [{ database = "haven", locations = [] }]
  }

  expect_failures = [var.sources]
}

run "an_alias_of_a_source" {
  command = plan

  variables {
    source_key_arns = ["alias/lake"]
  }

  expect_failures = [var.source_key_arns]
}

run "any_key" {
  command = plan

  variables {
    kms_key_arn = "*"
  }

  expect_failures = [var.kms_key_arn]
}

run "a_key_of_another_region" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/0123abcd"
  }

  expect_failures = [var.kms_key_arn]
}

run "no_days_to_recover" {
  command = plan

  variables {
    recovery_days = 0
  }

  expect_failures = [var.recovery_days]
}

run "steps_that_expire_while_runs_wait" {
  command = plan

  variables {
    steps_days = 1
  }

  expect_failures = [var.steps_days]
}

run "half_a_day_of_logs" {
  command = plan

  variables {
    logs_days = 0.5
  }

  expect_failures = [var.logs_days]
}

run "one_image" {
  command = plan

  variables {
    images_kept = 1
  }

  expect_failures = [var.images_kept]
}

run "a_cluster_with_a_space" {
  command = plan

  variables {
    cluster_name = "an example"
  }

  expect_failures = [var.cluster_name]
}

run "a_network_is_no_subnet" {
  command = plan

  variables {
    gpu_subnet_ids = ["10.0.0.0/24"]
  }

  expect_failures = [var.gpu_subnet_ids]
}

run "a_machine_without_gpus" {
  command = plan

  variables {
    gpu_instance_types = ["m7i.2xlarge"]
  }

  expect_failures = [var.gpu_instance_types]
}

run "a_machine_with_other_cores" {
  command = plan

  variables {
    gpu_instance_types = ["g5g.2xlarge"]
  }

  expect_failures = [var.gpu_instance_types]
}

run "no_nodes_at_most" {
  command = plan

  variables {
    gpu_nodes_max = 0
  }

  expect_failures = [var.gpu_nodes_max]
}

run "a_disk_that_the_image_fills" {
  command = plan

  variables {
    gpu_disk_gib = 20
  }

  expect_failures = [var.gpu_disk_gib]
}

run "nodes_without_a_cluster_and_its_subnets" {
  command = plan

  variables {
    gpu_nodes = true
  }

  expect_failures = [var.cluster_name, var.gpu_subnet_ids]
}

run "nodes_that_nothing_asks_for" {
  command = plan

  variables {
    gpu_nodes      = true
    cluster_name   = "example"
    gpu_subnet_ids = ["subnet-0123456789abcdef0"]
    settings       = { MIMIC_COMPUTE = "{\"model_run\": {\"gpu\": 0}}" }
  }

  expect_failures = [check.gpu_nodes_are_used]
}
