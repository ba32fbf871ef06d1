-- wrk: requests a page of 100 features in a box of one degree, drawn from a grid in which every page is full.
math.randomseed(20)
local west, south, east, north =
  tonumber(os.getenv('BENCH_WEST')), tonumber(os.getenv('BENCH_SOUTH')), tonumber(os.getenv('BENCH_EAST')), tonumber(os.getenv('BENCH_NORTH'))
function request()
  local x, y = math.random(west, east - 1), math.random(south, north - 1)
  return wrk.format('GET', string.format('/collections/cities/items?limit=100&bbox=%d,%d,%d,%d', x, y, x + 1, y + 1))
end
