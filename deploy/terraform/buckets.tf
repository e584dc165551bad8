# The buckets: tables' files (warehouse), everything else that mimic keeps (artefacts), and what steps print (logs).
# How long things stay is in buckets_lifecycle.tf.

resource "aws_s3_bucket" "data" {
  for_each = local.bucket_names

  bucket        = each.value
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_public_access_block" "data" {
  for_each = aws_s3_bucket.data

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "data" {
  for_each = aws_s3_bucket.data

  bucket = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced" # no ACLs: policies alone say who may do what
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "data" {
  for_each = aws_s3_bucket.data

  bucket = each.value.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null # without it every object is a call of KMS, which is paid for

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

# Commits need no versions: they are conditional writes (If-None-Match, If-Match), and Iceberg never writes a file twice.
# Versions are there to bring back what was deleted or replaced by mistake. The role may not delete them, so no pod can
# destroy tables or models for good. Logs are written once and deleted anyway.
resource "aws_s3_bucket_versioning" "data" {
  for_each = { for each, bucket in aws_s3_bucket.data : each => bucket if each != "logs" }

  bucket = each.value.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_policy" "data" {
  for_each = aws_s3_bucket.data

  bucket = each.value.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyEncryptedConnections"
      Effect    = "Deny" # of everything, to everybody: it gives no rights
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.bucket_arns[each.key], "${local.bucket_arns[each.key]}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.data] # S3 refuses both at once
}
