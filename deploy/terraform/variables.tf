# Where mimic runs and what its things are called: region, names, tags, and the cluster with the account of its pods.

variable "region" {
  description = "Region of the buckets, databases and images; that of the cluster, as traffic between regions is paid for."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region is \"${var.region}\", expected one of AWS, such as \"eu-central-1\"; a zone has a letter more."
  }
}

variable "name" {
  description = "What the names of everything here begin with: buckets, role, repository, nodes. One of its own for each mimic of an account."
  type        = string
  default     = "mimic"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,18}[a-z0-9]$", var.name))
    error_message = "name is \"${var.name}\", expected 2 to 20 of a-z, 0-9 and \"-\", a letter first and no \"-\" last: names of buckets begin with it."
  }
}

variable "tags" {
  description = "Tags of everything that is made here, for instance to find its cost."
  type        = map(string)
  default     = { "app.kubernetes.io/part-of" = "mimic" }
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.tags : length(key) <= 128 && length(value) <= 256 && !startswith(lower(key), "aws:")])
    error_message = "tags are ${jsonencode(var.tags)}, expected keys of at most 128 and values of at most 256 characters, and no key with \"aws:\" first."
  }
}

variable "oidc_provider_arn" {
  description = "ARN of the IAM OIDC provider of the cluster, which vouches for its service accounts: `aws iam list-open-id-connect-providers`. Its URL is part of it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:oidc-provider/[a-z0-9.-]+(/[A-Za-z0-9._-]+)*$", var.oidc_provider_arn))
    error_message = "oidc_provider_arn is \"${var.oidc_provider_arn}\", expected one like \"arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/0123ABCD\"; it has no \"https://\"."
  }

  validation {
    condition     = !strcontains(var.oidc_provider_arn, "/oidc.eks.") || strcontains(var.oidc_provider_arn, "/oidc.eks.${var.region}.")
    error_message = "oidc_provider_arn is \"${var.oidc_provider_arn}\", expected one of the region ${var.region}: the cluster and all that is made here are in one."
  }
}

variable "namespace" {
  description = "Namespace of mimic in the cluster: deploy/kubernetes/namespace.yaml."
  type        = string
  default     = "mimic"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "namespace is \"${var.namespace}\", expected the name of one: at most 63 of a-z, 0-9 and \"-\". A \"*\" would let others in."
  }
}

variable "service_account" {
  description = "Service account of mimic's pods, which gets the role: deploy/kubernetes/rbac.yaml."
  type        = string
  default     = "mimic"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", var.service_account))
    error_message = "service_account is \"${var.service_account}\", expected the name of one: a-z, 0-9, \"-\" and \".\". A \"*\" would let others in."
  }
}
