-- wrk: requests of the paths in the file BENCH_PATHS, each at random.
math.randomseed(20)
local paths = {}
for path in io.lines(os.getenv('BENCH_PATHS')) do paths[#paths + 1] = path end
function request()
  return wrk.format('GET', paths[math.random(#paths)])
end
