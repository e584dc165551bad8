# What the Helm values and the manifests say of the cluster: Postgres, the volume, images, pools, settings of mimic.

variable "postgres_host" {
  description = "Host of Dagster's Postgres, for the Helm values; null where a file of yours says it."
  type        = string
  default     = null

  validation {
    condition     = var.postgres_host == null || can(regex("^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$", var.postgres_host))
    error_message = "postgres_host is \"${coalesce(var.postgres_host, "null")}\", expected the name of a host, without a scheme, a port or a database."
  }
}

variable "volume_claim" {
  description = "Volume claim that all pods mount at /mimic, for the spec folder; null for a folder of each pod, as all else is in S3, Glue and Postgres."
  type        = string
  default     = null

  validation {
    condition     = var.volume_claim == null || can(regex("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", var.volume_claim))
    error_message = "volume_claim is \"${coalesce(var.volume_claim, "null")}\", expected the name of one, such as \"mimic\" of deploy/kubernetes/volume.yaml."
  }
}

variable "pools" {
  description = "How many steps of each pool run at once. As many trainings as there are GPUs, else as the nodes bear; without a number gpu_nodes_max, or 4 where there are no GPUs."
  type = object({
    training = optional(number)
    shards   = optional(number, 32)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for each in values(var.pools) : each == null ? true : each >= 1 && floor(each) == each])
    error_message = "pools is ${jsonencode(var.pools)}, expected whole numbers, at least 1."
  }
}

variable "image_version" {
  description = "What the tags of the images begin with, before -cpu and -gpu; null for that of deploy/helm/values.yaml. An image that was built anew has a number more: 0.1.0-2."
  type        = string
  default     = null

  validation {
    condition     = var.image_version == null || can(regex("^[0-9][A-Za-z0-9._-]{0,100}$", var.image_version)) && !can(regex("-(cpu|gpu)$", var.image_version))
    error_message = "image_version is \"${coalesce(var.image_version, "null")}\", expected a version such as \"0.1.0\" or \"0.1.0-2\", without -cpu or -gpu."
  }
}

variable "settings" {
  description = "More settings of mimic, by their names in docs/operations.md, for the Helm values: MIMIC_COMPUTE, for instance. No secrets, which belong into the Kubernetes secret."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.settings) : can(regex("^[A-Z][A-Z0-9_]*$", key))])
    error_message = "settings has the names ${join(", ", keys(var.settings))}, expected names of environment variables, such as MIMIC_COMPUTE."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), keys(local.aws_settings))) == 0
    error_message = "settings has ${join(", ", setintersection(keys(var.settings), keys(local.aws_settings)))}, which follow from what is made here; leave them out."
  }
}
