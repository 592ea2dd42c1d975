-- Events for wrk: each has an event_id and an i_account of its own. Prints the outcome as JSON.
-- Environment: BENCH_TEMPLATE (a file; "@" where the id goes, "#" where the account goes), BENCH_RUN, BENCH_TOKEN.

local file = assert(io.open(os.getenv("BENCH_TEMPLATE"), "rb"))
local head, rest = file:read("*a"):match("^([^@]*)@(.*)$")
file:close()

local run = tonumber(os.getenv("BENCH_RUN"))
local number = 0

wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_TOKEN")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["x-b3-traceid"] = "4bf92f3577b34da6a3ce929d0e0e4736"
wrk.headers["x-request-id"] = "0b6f4a52-7c1d-4d0f-8e55-3f6c1a2b9d77"

function request()
  number = number + 1
  local event_id = string.format("%08x-0000-4000-8000-%012x", run, number)
  local i_account = tostring(10000 + number % 50000)
  return wrk.format(nil, nil, nil, head .. event_id .. rest:gsub("#", i_account))
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"seconds":%.6f,"answers":%d,"refused":%d,"lost":%d,"p50":%.3f,"p95":%.3f,"p99":%.3f}\n',
    summary.duration / 1e6, summary.requests, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000))
end
