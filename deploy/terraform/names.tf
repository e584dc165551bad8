# What everything is called, and the ARNs that follow from it. Rights name these and not resources, so a plan shows them.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition

  # names of buckets are taken for all accounts of the world
  bucket_names = { for each in ["warehouse", "artefacts", "logs"] : each => "${var.name}-${local.account}-${var.region}-${each}" }
  bucket_arns  = { for each, name in local.bucket_names : each => "arn:${local.partition}:s3:::${name}" }
  prefixes     = { warehouse = "warehouse", artefacts = "artefacts", logs = "compute_logs" }

  glue = "arn:${local.partition}:glue:${var.region}:${local.account}"

  # host and path of the provider: what its tokens have as their issuer, without https://
  oidc_issuer = split(":oidc-provider/", var.oidc_provider_arn)[1]
}
