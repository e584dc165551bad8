# The role of mimic's pods, and who may take it: one service account of one namespace of one cluster (IRSA).
# What it may do is in role_rights.tf.

resource "aws_iam_role" "mimic" {
  name        = "${var.name}-pods-${var.region}" # roles have no region, so two of them would collide
  description = "mimic's pods: service account ${var.namespace}/${var.service_account}"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = var.oidc_provider_arn }
      Condition = {
        StringEquals = {
          "${local.oidc_issuer}:sub" = "system:serviceaccount:${var.namespace}:${var.service_account}"
          "${local.oidc_issuer}:aud" = "sts.amazonaws.com"
        }
      }
    }]
  })

  lifecycle {
    precondition {
      condition     = split(":", var.oidc_provider_arn)[4] == local.account
      error_message = "oidc_provider_arn is \"${var.oidc_provider_arn}\", expected one of the account ${local.account}, whose credentials these are: a role trusts no provider of another."
    }
  }
}

resource "aws_iam_role_policy" "mimic" {
  name = "mimic"
  role = aws_iam_role.mimic.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(local.data_rights, local.table_rights, local.source_rights, local.key_rights)
  })
}
