"""Which deployments there are and what they may be."""
