"""qfarm: a distributed quantum-mechanics task farm with a job database."""
