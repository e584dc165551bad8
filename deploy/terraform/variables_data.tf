# What is stored, how it is encrypted, how long it is kept, and which tables of others are read.

variable "glue_databases" {
  description = "Databases of Glue that are made for mimic's tables: of `haven.trips` it is `haven`. Imports and builds write into these, and into no others. A name that is taken away or changed would delete its database with all tables' entries, so that is refused."
  type        = set(string)
  default     = ["haven"] # that of examples/first_table
  nullable    = false

  validation {
    condition     = length(var.glue_databases) > 0 && alltrue([for each in var.glue_databases : can(regex("^[a-z0-9_]{1,255}$", each))])
    error_message = "glue_databases is ${jsonencode(var.glue_databases)}, expected at least one name of a-z, 0-9 and \"_\": Glue keeps no capitals."
  }
}

variable "sources" {
  description = "Databases of others in the same account and region, whose tables are read where they lie, and the places in S3 of their files."
  type = list(object({
    database  = string
    locations = list(string)
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for each in var.sources : can(regex("^[a-z0-9_]{1,255}$", each.database))])
    error_message = "sources name the databases ${join(", ", var.sources[*].database)}, expected names of a-z, 0-9 and \"_\": Glue keeps no capitals."
  }

  validation {
    condition     = alltrue(flatten([for each in var.sources : [for place in each.locations : can(regex("^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([^*?$]*/)?$", place))]]))
    error_message = "sources lie at ${join(", ", flatten(var.sources[*].locations))}, expected places such as \"s3://bucket/folder/\": a \"/\" at the end, as \"folder\" alone is also \"folder-of-others\", and neither \"*\" nor \"?\"."
  }

  validation {
    condition     = length(setintersection(var.sources[*].database, var.glue_databases)) == 0
    error_message = "sources has ${join(", ", setintersection(var.sources[*].database, var.glue_databases))}, which glue_databases has too; those are read and written anyway."
  }
}

variable "source_key_arns" {
  description = "KMS keys that the files of `sources` are encrypted with, where they are; mimic may decrypt with them."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.source_key_arns : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", each))])
    error_message = "source_key_arns is ${jsonencode(var.source_key_arns)}, expected ARNs of keys, as \"arn:aws:kms:eu-central-1:123456789012:key/0123abcd-...\"; an alias is none."
  }
}

variable "kms_key_arn" {
  description = "A KMS key of yours to encrypt the buckets with; null for the keys that S3 itself has, which cost nothing. Its policy must leave rights to IAM."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "kms_key_arn is \"${coalesce(var.kms_key_arn, "null")}\", expected the ARN of a key, as \"arn:aws:kms:eu-central-1:123456789012:key/0123abcd-...\"; an alias is none."
  }

  validation {
    condition     = var.kms_key_arn == null || try(split(":", var.kms_key_arn)[3], "") == var.region
    error_message = "kms_key_arn is \"${coalesce(var.kms_key_arn, "null")}\", expected a key of the region ${var.region}, that of the buckets."
  }
}

variable "recovery_days" {
  description = "For how many days what was deleted or replaced in the buckets of tables and artefacts can be brought back; of an artefact that is replaced often the three versions before. It is paid for meanwhile."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.recovery_days >= 1 && floor(var.recovery_days) == var.recovery_days
    error_message = "recovery_days is ${var.recovery_days}, expected a whole number of days, at least 1."
  }
}

variable "steps_days" {
  description = "After how many days what steps handed to each other is deleted. Longer than the longest run: one that is launched anew begins with what its steps left."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.steps_days >= 7 && floor(var.steps_days) == var.steps_days
    error_message = "steps_days is ${var.steps_days}, expected a whole number of days, at least 7: runs of days may wait in the queue before they go on."
  }
}

variable "logs_days" {
  description = "After how many days standard output and error of steps are deleted."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.logs_days >= 1 && floor(var.logs_days) == var.logs_days
    error_message = "logs_days is ${var.logs_days}, expected a whole number of days, at least 1."
  }
}

variable "images_kept" {
  description = "How many images of each kind the repository keeps; older ones are deleted, also one that still runs."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.images_kept >= 3 && floor(var.images_kept) == var.images_kept
    error_message = "images_kept is ${var.images_kept}, expected a whole number, at least 3: the one that runs, the next, and one to go back to."
  }
}

variable "force_destroy" {
  description = "Whether `terraform destroy` also deletes buckets and repositories that are not empty, with all tables and models."
  type        = bool
  default     = false
  nullable    = false
}
