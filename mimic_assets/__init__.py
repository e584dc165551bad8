"""What exists, from what, and when: the assets, their partitions, and the command line that builds them."""
