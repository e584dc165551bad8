# What the rest of a deployment needs to know.

output "role_arn" {
  description = "Role of mimic's pods, for the annotation eks.amazonaws.com/role-arn of their service account."
  value       = aws_iam_role.mimic.arn
}

output "image_repository" {
  description = "Where images are pushed to, with the tags VERSION-cpu and VERSION-gpu."
  value       = aws_ecr_repository.mimic.repository_url
}

output "settings" {
  description = "Settings of mimic's code that follow from what is made here, also for a machine outside of the cluster."
  value       = local.aws_settings
}

output "buckets" {
  description = "Names of the buckets, by what they hold."
  value       = { for each, bucket in aws_s3_bucket.data : each => bucket.id }
}

output "glue_databases" {
  description = "Databases of Glue that mimic's tables are in."
  value       = sort([for each in aws_glue_catalog_database.tables : each.name])
}

output "gpu_node_group" {
  description = "Name of the group of nodes with GPUs; null without one."
  value       = one(aws_eks_node_group.gpu[*].node_group_name)
}

output "helm_values" {
  description = "Values for Dagster's chart, as YAML, on top of deploy/helm/values.yaml: terraform output -raw helm_values."
  value       = "# Made by deploy/terraform; not to be edited.\n${yamlencode(merge(local.helm_values, local.postgres_values))}"
}

output "commands_pod" {
  description = "Manifest of the pod for commands: terraform output -raw commands_pod | kubectl apply -f -."
  value       = "# Made by deploy/terraform of deploy/kubernetes/commands-pod.yaml.\n${yamlencode(local.commands_pod_here)}"
}

output "pools_job" {
  description = "Manifest of the Job that sets the limits of the pools: terraform output -raw pools_job | kubectl create -f -."
  value       = "# Made by deploy/terraform of deploy/kubernetes/pools-job.yaml.\n${yamlencode(local.pools_job_here)}"
}
