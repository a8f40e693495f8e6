"""Dated price data that comes with the product, and the command that makes one of its files anew.

* ``litellm_prices.json``: the token prices of the providers we name, filtered from LiteLLM's list (`refresh_litellm`).
* ``instances.csv``: US dollars per hour of an instance, EC2 on demand and SageMaker hosting (`services.instances`).
* ``provisioned_throughput.csv``: US dollars per unit and hour (`services.provisioned_prices`).
"""
