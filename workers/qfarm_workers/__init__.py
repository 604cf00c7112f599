"""What runs on a compute node: the pull loop, one attempt, its process and its scratch folder."""
