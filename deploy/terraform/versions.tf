# The versions of Terraform and of its provider, and where the provider works.

terraform {
  required_version = ">= 1.10" # for the lock of the state in S3, see backend_override.tf.example

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = var.tags
  }
}
