"""Google's APIs as far as a release uses them, under the real clients: `python -m testbench.fakes.google`.

  Compute v1 (also as beta and alpha)   /compute/v1/projects/...
  Container v1 (GKE)                    /v1/projects/P/locations/L/clusters...
  Resource Manager v1, v3               /v1/projects/P:testIamPermissions
  Cloud Logging v2                      /v2/entries:list
  OAuth token service                   /token
  the bench's own control               /_bench/...          GET /healthz answers when it is up

Request bodies are parsed by Google's own message classes: an unknown field is a 400. Changes are operations
that run later. State is in <state>/google.json, changes are listed in <state>/writes.jsonl.

Control (JSON; no authentication):
  GET /_bench/faults, POST /_bench/faults {...}, DELETE /_bench/faults (clears all and releases what is stuck)
    {"kind": "op-latency", "seconds": 5}                      operations take that long
    {"kind": "op-error", "reason": R, "message": M, "code": C, "match": "insert .*/disks/", "count": 1}
    {"kind": "op-stuck", "match": "attachDisk", "count": 1}   stays RUNNING until POST /_bench/release
    {"kind": "stockout", "match": "insert .*/instances/"}     ZONE_RESOURCE_POOL_EXHAUSTED in the operation
    {"kind": "quota", "metric": "HDML_TOTAL_THROUGHPUT", "region": "us-central1", "limit": 1000}
    {"kind": "api-error", "code": 503, "reason": "backendError", "match": "GET .*/disks/", "count": 3}
    {"kind": "api-slow", "seconds": 2, "match": "clusters"}
  `match` is a regular expression searched in "METHOD path" of a call, or in "type target" of an operation
  (types: insert, update, delete, attachDisk, detachDisk, resizeDisk, setLabels, createSnapshot; of GKE
  CREATE_NODE_POOL and DELETE_NODE_POOL).
  POST /_bench/revoke                       every token given out so far is refused; DELETE takes it back
  GET  /_bench/writes?since=UNIX            mutating requests
  GET  /_bench/resources                    everything that is held
  POST /_bench/nodes/INSTANCE/relink        after a node came back with a new root: its device names again
"""
