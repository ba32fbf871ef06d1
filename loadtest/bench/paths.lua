-- wrk: requests of the paths in the file BENCH_PATHS, each at random; with what BENCH_PREFER prefers, if anything.
math.randomseed(20)
local paths = {}
for path in io.lines(os.getenv('BENCH_PATHS')) do paths[#paths + 1] = path end
wrk.headers['Prefer'] = os.getenv('BENCH_PREFER')
function request()
  return wrk.format('GET', paths[math.random(#paths)])
end
