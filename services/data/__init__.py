"""Dated data that comes with the product, and the commands that make its files anew (docs/data.md).

* ``litellm_prices.json``: the token prices of the providers we name, filtered from LiteLLM's list (`refresh_litellm`).
* ``instances.csv``: US dollars per hour of an instance, EC2 on demand and SageMaker hosting
  (`services.aws.instances`).
* ``provisioned_throughput.csv``: US dollars per unit and hour (`services.aws.instances`).
* ``gpus.csv``, ``llms.csv`` (`refresh_llms`), ``model_families.csv``, ``bedrock_units.csv``, ``api_speeds.csv``,
  ``calculator_quotas.csv``: what the calculator can choose from (`services.calculator.catalog`).
"""
