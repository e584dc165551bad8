# Nodes with GPUs: none unless asked for, and what they are.

variable "gpu_nodes" {
  description = "Whether to make a group of nodes with GPUs. Clusters that make their nodes by themselves (Karpenter, Auto Mode) need none."
  type        = bool
  default     = false
  nullable    = false
}

variable "cluster_name" {
  description = "Name of the EKS cluster; only nodes need it."
  type        = string
  default     = null

  validation {
    condition     = var.cluster_name == null || can(regex("^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$", var.cluster_name))
    error_message = "cluster_name is \"${coalesce(var.cluster_name, "null")}\", expected the name of an EKS cluster: at most 100 letters, digits, \"-\" and \"_\"."
  }

  validation {
    condition     = !var.gpu_nodes || var.cluster_name != null
    error_message = "cluster_name is missing, though gpu_nodes is true; expected the name of the EKS cluster: `aws eks list-clusters`."
  }
}

variable "gpu_subnet_ids" {
  description = "Subnets of the cluster for the nodes with GPUs, in zones that have such machines."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.gpu_subnet_ids : can(regex("^subnet-[0-9a-f]{8,17}$", each))])
    error_message = "gpu_subnet_ids is ${jsonencode(var.gpu_subnet_ids)}, expected ids such as \"subnet-0123456789abcdef0\"."
  }

  validation {
    condition     = !var.gpu_nodes || length(var.gpu_subnet_ids) > 0
    error_message = "gpu_subnet_ids is empty, though gpu_nodes is true; expected at least one subnet of the cluster."
  }
}

variable "gpu_instance_types" {
  description = "Machines with one GPU each, the first that is to be had. A training asks for 4 cores and 16Gi; a machine of 4 cores and 16 GiB has less than that to give."
  type        = list(string)
  default     = ["g6.2xlarge", "g5.2xlarge"] # 8 cores, 32 GiB, an L4 or an A10G with 24 GB
  nullable    = false

  validation {
    condition     = length(var.gpu_instance_types) > 0 && alltrue([for each in var.gpu_instance_types : can(regex("^(g|p)[0-9][a-z0-9-]*\\.[a-z0-9-]+$", each))])
    error_message = "gpu_instance_types is ${jsonencode(var.gpu_instance_types)}, expected types with NVIDIA's GPUs, such as \"g6.2xlarge\"."
  }

  validation {
    condition     = alltrue([for each in var.gpu_instance_types : !can(regex("^(g5g|g4ad)\\.", each))])
    error_message = "gpu_instance_types is ${jsonencode(var.gpu_instance_types)}, but g5g has ARM cores and g4ad AMD's GPUs; the images are for x86-64 and NVIDIA's."
  }
}

variable "gpu_nodes_max" {
  description = "How many nodes with GPUs there may be at once: the limit of the pool `training`. There are none until an autoscaler wants one."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.gpu_nodes_max >= 1 && var.gpu_nodes_max <= 100 && floor(var.gpu_nodes_max) == var.gpu_nodes_max
    error_message = "gpu_nodes_max is ${var.gpu_nodes_max}, expected a whole number from 1 to 100."
  }
}

variable "gpu_spot" {
  description = "Whether the nodes are spot machines, at a fraction of the price, which AWS may take back: a training then goes on from its checkpoint on another."
  type        = bool
  default     = false
  nullable    = false
}

variable "gpu_disk_gib" {
  description = "Disk of a node: the image of 7 GB, those of the cluster, and /tmp of the steps."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.gpu_disk_gib >= 50 && var.gpu_disk_gib <= 16384 && floor(var.gpu_disk_gib) == var.gpu_disk_gib
    error_message = "gpu_disk_gib is ${var.gpu_disk_gib}, expected a whole number of GiB from 50 to 16384."
  }
}
