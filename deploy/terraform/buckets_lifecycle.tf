# How long objects stay: old versions, what steps hand to each other, what steps print, and uploads that never ended.
# Current tables and artefacts stay until mimic deletes them (`mimic gc`, `mimic tables maintain`).

locals {
  lifecycle_rules = {
    warehouse = {
      replaced = { prefix = "", days = null, replaced_days = var.recovery_days, newer = null }
    }
    artefacts = {
      replaced = { prefix = "", days = null, replaced_days = var.recovery_days, newer = null }
      # checkpoints, leases and histories are replaced all the time. Of two rules the earlier counts: the three newest old
      # versions of an object stay for recovery_days, those before them for a day
      often = { prefix = "", days = null, replaced_days = 1, newer = 3 }
      # of no use once their run has ended
      steps = { prefix = "${local.prefixes.artefacts}/steps/", days = var.steps_days, replaced_days = 1, newer = null }
    }
    logs = {
      old = { prefix = "", days = var.logs_days, replaced_days = 1, newer = null } # versions: if somebody switches them on
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "data" {
  for_each = aws_s3_bucket.data

  bucket = each.value.id

  dynamic "rule" {
    for_each = local.lifecycle_rules[each.key]

    content {
      id     = rule.key
      status = "Enabled"

      filter {
        prefix = rule.value.prefix
      }

      expiration {
        days                         = rule.value.days
        expired_object_delete_marker = rule.value.days == null ? true : null # S3 takes one of the two
      }

      noncurrent_version_expiration {
        noncurrent_days           = rule.value.replaced_days
        newer_noncurrent_versions = rule.value.newer
      }
    }
  }

  rule {
    id     = "unfinished-uploads" # of pods that were lost: paid for, and shown nowhere
    status = "Enabled"

    filter {
      prefix = ""
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.data] # rules about versions want these first
}
