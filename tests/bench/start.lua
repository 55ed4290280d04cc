-- wrk: each connection starts a run, waits for the answer, starts the next. One JSON line at the end.
--   KEY_FILE  the API key      INPUT_FILE  the run's input as JSON
local key = assert(io.open(os.getenv("KEY_FILE"))):read("*l")
wrk.method = "POST"
wrk.body = '{"input": ' .. assert(io.open(os.getenv("INPUT_FILE"))):read("*a") .. "}"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer " .. key

done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('{"answers": %d, "seconds": %.3f, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
