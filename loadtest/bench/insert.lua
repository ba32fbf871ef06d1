-- wrk: creates a feature at a random point with each request.
math.randomseed(20)
wrk.headers['Content-Type'] = 'application/geo+json'
function request()
  local body = string.format(
    '{"type":"Feature","geometry":{"type":"Point","coordinates":[%.5f,%.5f]},"properties":{"name":"New Town","country":"XX","admin1":"01","admin2":"02"}}',
    math.random() * 360 - 180, math.random() * 180 - 90)
  return wrk.format('POST', '/collections/cities_by_id/items', nil, body)
end
