"""What deployments on AWS need beside their wires: credentials, signatures, regions, and the control planes."""
