# Two manifests of deploy/kubernetes with the image, namespace, account, volume and pools of this deployment.

locals {
  commands_pod = yamldecode(file("${path.module}/../kubernetes/commands-pod.yaml"))
  pools_job    = yamldecode(file("${path.module}/../kubernetes/pools-job.yaml"))
  pools        = { training = coalesce(var.pools.training, var.gpu_nodes ? var.gpu_nodes_max : 4), shards = var.pools.shards }
  of_pod       = { serviceAccountName = var.service_account }
  of_container = { image = "${local.image.repository}:${local.image.tag}" }

  commands_pod_here = merge(local.commands_pod, {
    metadata = merge(local.commands_pod.metadata, { namespace = var.namespace })
    spec = merge(local.commands_pod.spec, local.of_pod, {
      containers = [for each in local.commands_pod.spec.containers : merge(each, local.of_container)]
      volumes    = concat([for each in local.commands_pod.spec.volumes : each if each.name != "mimic"], local.home)
    })
  })

  pools_job_here = merge(local.pools_job, {
    metadata = merge(local.pools_job.metadata, { namespace = var.namespace })
    spec = merge(local.pools_job.spec, {
      template = merge(local.pools_job.spec.template, {
        spec = merge(local.pools_job.spec.template.spec, local.of_pod, {
          containers = [
            for each in local.pools_job.spec.template.spec.containers : merge(each, local.of_container, {
              args = [for text in each.args : replace(replace(text, "/set training \\d+/", "set training ${local.pools.training}"), "/set shards \\d+/", "set shards ${local.pools.shards}")]
            })
          ]
        })
      })
    })
  })
}
