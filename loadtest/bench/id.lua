-- wrk: requests a feature by an id drawn at random.
math.randomseed(20)
local most = tonumber(os.getenv('BENCH_MAX_ID'))
function request()
  return wrk.format('GET', '/collections/cities_by_id/items/' .. math.random(1, most))
end
