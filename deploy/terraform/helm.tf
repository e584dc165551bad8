# What the Helm values need of AWS: the settings of mimic's code, its images, its account, its volume, and where logs go.
# Helm replaces lists as a whole, so those with something to change are taken from deploy/helm/values.yaml and changed.

locals {
  values        = yamldecode(file("${path.module}/../helm/values.yaml"))
  image_version = coalesce(var.image_version, trimsuffix(local.values.dagsterWebserver.image.tag, "-cpu"))
  image         = { repository = aws_ecr_repository.mimic.repository_url, tag = "${local.image_version}-cpu" }

  # /mimic: one of the two, by filters, as a conditional wants both to be of one type
  home = concat(
    [for each in [{ name = "mimic", emptyDir = {} }] : each if var.volume_claim == null],
    [for each in [{ name = "mimic", persistentVolumeClaim = { claimName = var.volume_claim } }] : each if var.volume_claim != null],
  )

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
      volumes = concat([for each in local.values.dagsterWebserver.volumes : each if each.name != "mimic"], local.home)
    }
    dagsterDaemon = {
      image   = local.image
      volumes = concat([for each in local.values.dagsterDaemon.volumes : each if each.name != "mimic"], local.home)
    }
    pipelineRun = { image = local.image }

    dagster-user-deployments = {
      deployments = [
        for each in local.values["dagster-user-deployments"].deployments :
        merge(each, {
          image   = merge(each.image, local.image)
          env     = merge(each.env, local.aws_settings, var.settings)
          volumes = concat([for volume in each.volumes : volume if volume.name != "mimic"], local.home)
        })
      ]
    }

    computeLogManager = {
      type = "S3ComputeLogManager"
      config = {
        s3ComputeLogManager = {
          bucket         = local.bucket_names.logs
          prefix         = local.prefixes.logs
          region         = var.region
          uploadInterval = 30 # seconds; without it nothing is there to read before a step ends
        }
      }
    }
  }

  # nothing of it where a file of yours names the host: these values are on top of that
  postgres_values = { for key, value in { postgresql = { postgresqlHost = var.postgres_host } } : key => value if var.postgres_host != null }
}
