# A group of nodes with GPUs, none of it unless `gpu_nodes` is true. The device plugin is a step of README.md.

resource "aws_eks_node_group" "gpu" {
  count = var.gpu_nodes ? 1 : 0

  cluster_name    = var.cluster_name
  node_group_name = "${var.name}-gpu"
  node_role_arn   = aws_iam_role.gpu_nodes[0].arn
  subnet_ids      = var.gpu_subnet_ids
  ami_type        = "AL2023_x86_64_NVIDIA" # with NVIDIA's driver and container runtime
  capacity_type   = var.gpu_spot ? "SPOT" : "ON_DEMAND"
  instance_types  = var.gpu_instance_types

  launch_template {
    id      = aws_launch_template.gpu_nodes[0].id
    version = aws_launch_template.gpu_nodes[0].latest_version
  }

  scaling_config {
    min_size     = 0
    desired_size = 0
    max_size     = var.gpu_nodes_max
  }

  update_config {
    max_unavailable = 1
  }

  labels = {
    "nvidia.com/gpu.present"        = "true"   # what NVIDIA's device plugin looks for; a spec may choose nodes by it too
    "k8s.amazonaws.com/accelerator" = "nvidia" # the cluster autoscaler then waits for the GPU of a new node
  }

  # keeps pods away that need no GPU; those that ask for one tolerate it, see docs/kubernetes.md
  taint {
    key    = "nvidia.com/gpu"
    value  = "present"
    effect = "NO_SCHEDULE"
  }

  lifecycle {
    ignore_changes = [scaling_config[0].desired_size] # the autoscaler's
  }

  depends_on = [aws_iam_role_policy_attachment.gpu_nodes] # a node without these rights does not join
}

resource "aws_launch_template" "gpu_nodes" {
  count = var.gpu_nodes ? 1 : 0

  name = "${var.name}-gpu"

  # what the provider tags are the group and this template; machines and disks, which cost, are made by AWS
  dynamic "tag_specifications" {
    for_each = length(var.tags) == 0 ? [] : ["instance", "volume"]

    content {
      resource_type = tag_specifications.value
      tags          = var.tags
    }
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = var.gpu_disk_gib
      encrypted             = true
      delete_on_termination = true
    }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1 # a pod is one hop further, so it does not get the rights of its node
  }
}

resource "aws_iam_role" "gpu_nodes" {
  count = var.gpu_nodes ? 1 : 0

  name        = "${var.name}-gpu-nodes-${var.region}"
  description = "the kubelet of mimic's nodes with GPUs"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

# the three that AWS asks for of nodes: join the cluster, pull images, give pods addresses
resource "aws_iam_role_policy_attachment" "gpu_nodes" {
  for_each = var.gpu_nodes ? toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonEKS_CNI_Policy"]) : toset([])

  role       = aws_iam_role.gpu_nodes[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value}"
}

check "gpu_nodes_are_used" {
  assert {
    condition     = !var.gpu_nodes || try(tonumber(jsondecode(var.settings.MIMIC_COMPUTE).model_run.gpu), 1) > 0
    error_message = "gpu_nodes is true, but MIMIC_COMPUTE of settings says gpu 0 for model_run: no training will ask for one of these nodes. Take that out."
  }
}
