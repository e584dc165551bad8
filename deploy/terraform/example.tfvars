# An example of what is yours: copy it as terraform.tfvars, which git ignores, and edit the copy.

region            = "eu-central-1"
oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"

glue_databases = ["haven"]

# postgres_host = "mimic.0123456789ab.eu-central-1.rds.amazonaws.com" # of Dagster's database
# volume_claim  = "mimic"                                             # for a spec folder, which all pods must see

# sources = [{ database = "bookings", locations = ["s3://example-lake/bookings/"] }] # read where they lie
# settings = { MIMIC_COMPUTE = "{\"model_run\": {\"gpu\": 0}}" }                     # where there are no GPUs
# kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"

# gpu_nodes      = true
# cluster_name   = "example"
# gpu_subnet_ids = ["subnet-0123456789abcdef0"]
