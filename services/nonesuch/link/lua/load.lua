-- load: what the workers have to do, at one moment.
-- Returns {live workers, tickets under a lease, tickets that one more worker could claim}.
local live, claimable = 0, 0
for _, id in ipairs(redis.call('SMEMBERS', K_WORKERS)) do live = live + redis.call('EXISTS', k_worker(id)) end
for _, name in ipairs(redis.call('ZRANGE', K_RINGS, 0, -1)) do claimable = claimable + claimable_in(name) end
return {live, redis.call('ZCARD', K_LEASES), claimable}
