-- load: what the workers have to do, at one moment.
-- Returns {live workers, tickets under a lease, tickets that one more worker could claim}.
-- Tickets that wait for room in their ring are no such: the workers wait with them.
local live, claimable = 0, 0

for _, id in ipairs(redis.call('SMEMBERS', K_WORKERS)) do live = live + redis.call('EXISTS', k_worker(id)) end

for _, name in ipairs(redis.call('ZRANGE', K_RINGS, 0, -1)) do
  local returned, fresh = 0, 0
  for _, id in ipairs(redis.call('SMEMBERS', k_orders(name))) do
    local o = redis.call('HMGET', k_order(id), 'left', 'outstanding')
    returned = returned + redis.call('LLEN', k_returned(id))  -- outstanding, and with a slot of their own
    fresh = fresh + tonumber(o[1]) - tonumber(o[2])
  end
  local r = redis.call('HMGET', k_ring(name), 'policy', 'reserved')
  if r[1] ~= 'latest' then fresh = math.min(fresh, redis.call('LLEN', k_free(name)) - tonumber(r[2])) end
  claimable = claimable + returned + math.max(0, fresh)
end

return {live, redis.call('ZCARD', K_LEASES), claimable}
