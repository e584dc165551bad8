# The databases of Glue that hold mimic's tables. mimic makes the tables, and no databases unless it is told that it may.

resource "aws_glue_catalog_database" "tables" {
  for_each = var.glue_databases

  name = each.value
  # where pyiceberg puts tables anyway; said here, it holds for Athena and Spark too
  location_uri = "s3://${local.bucket_names.warehouse}/${local.prefixes.warehouse}/${each.value}.db"

  lifecycle {
    prevent_destroy = true # Glue deletes a database with its tables, without a question: README.md, Destroy
  }
}
