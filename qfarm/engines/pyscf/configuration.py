"""The configuration file that PySCF executes: PySCF's own defaults, whatever the user keeps."""
