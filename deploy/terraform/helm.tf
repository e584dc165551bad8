# What the Helm values need of AWS: the settings of mimic's code, its images, its account, and where logs go.
# Helm replaces lists as a whole, so those with an image or a setting are taken from deploy/helm/values.yaml and changed.

locals {
  values        = yamldecode(file("${path.module}/../helm/values.yaml"))
  image_version = coalesce(var.image_version, trimsuffix(local.values.dagsterWebserver.image.tag, "-cpu"))
  image         = { repository = aws_ecr_repository.mimic.repository_url, tag = "${local.image_version}-cpu" }

  aws_settings = {
    MIMIC_ENV          = "kubernetes"
    MIMIC_CATALOG      = "glue:${join(",", sort(distinct(concat(tolist(var.glue_databases), var.sources[*].database))))}"
    MIMIC_WAREHOUSE    = "s3://${local.bucket_names.warehouse}/${local.prefixes.warehouse}"
    MIMIC_ARTEFACTS    = "s3://${local.bucket_names.artefacts}/${local.prefixes.artefacts}"
    MIMIC_GPU_IMAGE    = "${aws_ecr_repository.mimic.repository_url}:${local.image_version}-gpu"
    AWS_REGION         = var.region
    AWS_DEFAULT_REGION = var.region # boto3 reads this one only
  }

  helm_values = {
    global = { serviceAccountName = var.service_account }

    dagsterWebserver = {
      image = local.image
      extraPrependedInitContainers = [
        for each in local.values.dagsterWebserver.extraPrependedInitContainers :
        merge(each, { image = "${local.image.repository}:${local.image.tag}" })
      ]
    }
    dagsterDaemon = { image = local.image }
    pipelineRun   = { image = local.image }

    dagster-user-deployments = {
      deployments = [
        for each in local.values["dagster-user-deployments"].deployments :
        merge(each, {
          image = merge(each.image, local.image)
          env   = merge(each.env, local.aws_settings, var.settings)
        })
      ]
    }

    computeLogManager = {
      type = "S3ComputeLogManager"
      config = {
        s3ComputeLogManager = {
          bucket = local.bucket_names.logs
          prefix = local.prefixes.logs
          region = var.region
        }
      }
    }
  }
}
