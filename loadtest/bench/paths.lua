-- wrk: requests random paths of the file BENCH_PATHS, with BENCH_PREFER as the header Prefer if it is set.
math.randomseed(20)
local paths = {}
for path in io.lines(os.getenv('BENCH_PATHS')) do paths[#paths + 1] = path end
wrk.headers['Prefer'] = os.getenv('BENCH_PREFER')
function request()
  return wrk.format('GET', paths[math.random(#paths)])
end
