# The repository of the images. There is one: `cpu` and `gpu` differ by their tags, as everywhere in deploy/ and docs/images.md.

resource "aws_ecr_repository" "mimic" {
  name                 = var.name
  image_tag_mutability = "IMMUTABLE" # nodes do not look again for a tag that they have
  force_delete         = var.force_destroy

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "AES256"
  }
}

resource "aws_ecr_lifecycle_policy" "mimic" {
  repository = aws_ecr_repository.mimic.name
  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "pushes that got no tag"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 7 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "all but the newest of cpu"
        selection    = { tagStatus = "tagged", tagPatternList = ["*-cpu"], countType = "imageCountMoreThan", countNumber = var.images_kept }
        action       = { type = "expire" }
      },
      {
        rulePriority = 3
        description  = "all but the newest of gpu"
        selection    = { tagStatus = "tagged", tagPatternList = ["*-gpu"], countType = "imageCountMoreThan", countNumber = var.images_kept }
        action       = { type = "expire" }
      },
    ]
  })
}
