"""What only a machine with a GPU can show; run by hand there, see `prove`."""
