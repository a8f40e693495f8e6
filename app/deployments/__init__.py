"""The Deployments page."""
