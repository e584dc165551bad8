# Where the state is kept: in this folder, unless you take away the `#` below and name a bucket that is there already.
# Without one place and its lock, two people who apply at once make two of everything. The state holds no secret.

# terraform {
#   backend "s3" {
#     bucket       = "example-terraform-state" # with versioning, and none of those that are made here
#     key          = "mimic/terraform.tfstate"
#     region       = "eu-central-1"
#     encrypt      = true
#     use_lockfile = true # a lock in the same bucket; no table of DynamoDB is needed
#   }
# }
