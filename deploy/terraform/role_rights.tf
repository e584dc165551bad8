# All that mimic's pods may do in AWS, for each action the call that needs it. No action and no resource is a bare "*".
# Not among them: to delete versions of objects, to change a bucket or its policy, and to make or delete databases.

locals {
  data_rights = [
    {
      Sid      = "Buckets" # list folders; pyarrow asks for the region
      Effect   = "Allow"
      Action   = ["s3:GetBucketLocation", "s3:ListBucket"]
      Resource = values(local.bucket_arns)
    },
    {
      Sid    = "Objects" # and large ones in parts, which an upload that fails takes back
      Effect = "Allow"
      Action = [
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:GetObject",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
      ]
      Resource = [for each, arn in local.bucket_arns : "${arn}/${local.prefixes[each]}/*"]
    },
  ]

  # Glue wants rights on what lies above too: for a table on its database and on the catalog
  table_rights = [
    {
      Sid    = "Tables" # the calls of pyiceberg's GlueCatalog
      Effect = "Allow"
      Action = [
        "glue:CreateTable",
        "glue:DeleteTable",
        "glue:GetDatabase",
        "glue:GetTable",
        "glue:GetTables",
        "glue:UpdateTable",
      ]
      Resource = concat(
        ["${local.glue}:catalog"],
        [for each in sort(var.glue_databases) : "${local.glue}:database/${each}"],
        [for each in sort(var.glue_databases) : "${local.glue}:table/${each}/*"],
      )
    },
  ]

  source_databases = sort(distinct(var.sources[*].database))
  source_places    = [for place in distinct(flatten(var.sources[*].locations)) : trimprefix(place, "s3://")]
  # prefixes by bucket: of "bucket/some/folder/" it is "some/folder/"
  source_prefixes = { for place in local.source_places : split("/", place)[0] => trimprefix(place, "${split("/", place)[0]}/")... }

  source_rights = concat(
    length(local.source_databases) == 0 ? [] : [{
      Sid    = "TablesOfOthers" # partitions: of plain tables of Hive
      Effect = "Allow"
      Action = ["glue:GetDatabase", "glue:GetPartitions", "glue:GetTable", "glue:GetTables"]
      Resource = concat(
        ["${local.glue}:catalog"],
        [for each in local.source_databases : "${local.glue}:database/${each}"],
        [for each in local.source_databases : "${local.glue}:table/${each}/*"],
      )
    }],
    length(local.source_places) == 0 ? [] : [
      {
        Sid      = "ObjectsOfOthers"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = [for each in local.source_places : "arn:${local.partition}:s3:::${each}*"]
      },
      {
        Sid      = "RegionsOfOthers"
        Effect   = "Allow"
        Action   = ["s3:GetBucketLocation"]
        Resource = [for each in keys(local.source_prefixes) : "arn:${local.partition}:s3:::${each}"]
      },
    ],
    [for index, bucket in keys(local.source_prefixes) : {
      Sid       = "FoldersOfOthers${index}"
      Effect    = "Allow"
      Action    = ["s3:ListBucket"]
      Resource  = ["arn:${local.partition}:s3:::${bucket}"]
      Condition = { StringLike = { "s3:prefix" = flatten([for each in local.source_prefixes[bucket] : [trimsuffix(each, "/"), "${each}*"]]) } }
    }],
  )

  key_rights = concat(
    var.kms_key_arn == null ? [] : [{
      Sid      = "Key" # parts of large objects are decrypted when they are put together
      Effect   = "Allow"
      Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource = [var.kms_key_arn]
    }],
    length(var.source_key_arns) == 0 ? [] : [{
      Sid      = "KeysOfOthers"
      Effect   = "Allow"
      Action   = ["kms:Decrypt"]
      Resource = sort(var.source_key_arns)
    }],
  )
}
