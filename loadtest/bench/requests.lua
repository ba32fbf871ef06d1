-- wrk: sends random requests of the file BENCH_REQUESTS, and prints what it measured as JSON.
-- A line of the file has a method, a path, a body, and names and values of headers, with tabs between them.
local requests = {}
function init()
  math.randomseed(20)
  for line in io.lines(os.getenv('BENCH_REQUESTS')) do
    local fields = {}
    for field in (line .. '\t'):gmatch('([^\t]*)\t') do fields[#fields + 1] = field end
    local headers = { Host = wrk.headers['Host'] }
    for at = 4, #fields, 2 do headers[fields[at]] = fields[at + 1] end
    local body = fields[3] ~= '' and fields[3] or nil
    requests[#requests + 1] = wrk.format(fields[1], fields[2], headers, body)
  end
end
function request()
  return requests[math.random(#requests)]
end
function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('{"failed":%d,"perSecond":%f,"p50Ms":%f,"p95Ms":%f,"p99Ms":%f}\n', failed,
    summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
