"""An emulator of AWS's batch services over moto's S3, and the tests of the routes against it."""
