"""Schemas of jobs: warms."""

from hevlayer.gateway.openapi.shapes import Schema, array, described, integer, number, obj, ref, string, words

_TIME = string(format="date-time")
_REQUIRED = ["id", "namespace", "status", "progress", "documents_scanned", "created_at"]
_JOB: dict[str, Schema] = {
    "id": string(format="uuid"),
    "namespace": string(),
    "status": words("running", "completed", "failed"),
    "progress": number("A fraction that only grows; 1 when completed.", minimum=0, maximum=1),
    "documents_scanned": integer("Rows looked at so far.", minimum=0),
    "stable_as_of": described(ref("Watermark"), "The stamp through which the result is complete."),
    "created_at": _TIME,
    "completed_at": _TIME,
    "error": string("Why it failed."),
}

SCHEMAS: dict[str, Schema] = {
    "WarmJob": obj(_JOB, _REQUIRED, "A warm. It keeps what it has put when it fails or is deleted."),
    "WarmJobList": obj({"warm_jobs": array(ref("WarmJob"), "Newest first.")}, ["warm_jobs"]),
}
