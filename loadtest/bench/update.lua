-- wrk: gives a random feature a new name with each request.
math.randomseed(20)
local most = tonumber(os.getenv('BENCH_MAX_ID'))
wrk.headers['Content-Type'] = 'application/merge-patch+json'
function request()
  local body = string.format('{"properties":{"name":"Town %d"}}', math.random(1, 1e9))
  return wrk.format('PATCH', '/collections/cities_by_id/items/' .. math.random(1, most), nil, body)
end
