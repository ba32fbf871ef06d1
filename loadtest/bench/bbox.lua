-- wrk: a page of 100 features of a box of one degree, each request another of a grid where every page is full.
math.randomseed(20)
local west, south, east, north =
  tonumber(os.getenv('BENCH_WEST')), tonumber(os.getenv('BENCH_SOUTH')), tonumber(os.getenv('BENCH_EAST')), tonumber(os.getenv('BENCH_NORTH'))
function request()
  local x, y = math.random(west, east - 1), math.random(south, north - 1)
  return wrk.format('GET', string.format('/collections/cities/items?limit=100&bbox=%d,%d,%d,%d', x, y, x + 1, y + 1))
end
