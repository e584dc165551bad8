#!/usr/bin/env bash
# Installs Dagster's chart, or upgrades it, with the values of mimic and what Terraform made; arguments go to helm.
# For the root of the repository: bash deploy/helm/install-aws.sh, or with a file of yours: -f ../mine.yaml
set -euo pipefail

mkdir -p build
terraform -chdir=deploy/terraform output -raw helm_values > build/aws.yaml # an error ends it here, and not without values
helm repo add --force-update dagster https://dagster-io.github.io/helm
helm repo update dagster
helm upgrade --install dagster dagster/dagster --version 1.13.27 -n mimic \
  -f deploy/helm/values.yaml "$@" -f build/aws.yaml
