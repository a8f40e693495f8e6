"""Files of prompts: recognised, checked as a stream, converted to what is asked, and given out record by record.

`check` reports everything that a person has to know before anything is sent; `records` yields the valid records in the
same order, read by the same code; `spool` stores an upload.
"""

from services.batch.files.errors import MAX_RECORD_BYTES, Cancelled
from services.batch.files.read import check, check_settled, records
from services.batch.files.source import sha256_of, spool

__all__ = ["MAX_RECORD_BYTES", "Cancelled", "check", "check_settled", "records", "sha256_of", "spool"]
