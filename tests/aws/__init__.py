"""An AWS of our own for the tests: Bedrock, SageMaker runtime and STS, byte by byte (see `tests/aws/README.md`)."""
