"""One line per event, as text or as JSON. No line per request: the metrics count those."""

import logging
import sys
from typing import Literal

import orjson

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """A JSON object per line: time, level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(fields).decode()


def configure_logs(level: str, log_format: Literal["text", "json"]) -> None:
    """Send every log line to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # uvicorn tells of its start and of every odd byte that a scanner sends; ours say it once.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
