"""Files of prompts: recognised, checked as a stream, converted to what is asked, and given out record by record.

`check` says everything that a person has to know before anything is sent; `records` gives the valid ones, in the same
order and with the same eyes; `spool` stores an upload.
"""

from services.batch.files.errors import MAX_RECORD_BYTES, Cancelled
from services.batch.files.source import sha256_of, spool
from services.batch.files.validate import check, records

__all__ = ["MAX_RECORD_BYTES", "Cancelled", "check", "records", "sha256_of", "spool"]
