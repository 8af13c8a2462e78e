-- stats: what the service is doing, at one moment. Reads nothing but what the sets of rings, channels and workers name.
-- Returns {now in ms, tickets under a lease, tickets that one more worker could claim, rings, priorities, channels,
--          workers, generators}:
--   ring      {name, {policy, slots, slot bytes, reserved, committed, overwritten, opened in ms}, expires in ms,
--             free slots, unread entries}
--   priority  {name, open orders, of these claimable ones, tickets that are not committed}
--   channel   {name, kept versions, oldest first, bytes of all of them, when the latest was published in ms}
--   worker    {heartbeat (JSON), ms until it lapses}
--   generator {id, open orders that need it, their tickets that are not committed}
local rings, priorities, channels, workers, generators = {}, {}, {}, {}, {}
local open, left, needed, claimable = {}, {}, {}, 0
for _, priority in ipairs(PRIORITIES) do open[priority], left[priority] = 0, 0 end

for _, name in ipairs(redis.call('ZRANGE', K_RINGS, 0, -1)) do
  claimable = claimable + claimable_in(name)
  local r = redis.call('HMGET', k_ring(name), 'policy', 'slots', 'slot_bytes', 'reserved', 'committed', 'overwritten',
    'opened')
  rings[#rings + 1] = {name, r, redis.call('ZSCORE', K_RINGS, name), redis.call('LLEN', k_free(name)),
    redis.call('LLEN', k_ready(name))}
  for _, id in ipairs(redis.call('SMEMBERS', k_orders(name))) do
    local o = redis.call('HMGET', k_order(id), 'priority', 'left', 'generators')
    open[o[1]], left[o[1]] = open[o[1]] + 1, left[o[1]] + tonumber(o[2])
    for generator in string.gmatch(o[3], '[^,]+') do
      local sums = needed[generator] or {0, 0}
      needed[generator] = {sums[1] + 1, sums[2] + tonumber(o[2])}
    end
  end
end
for _, priority in ipairs(PRIORITIES) do
  priorities[#priorities + 1] = {priority, open[priority], redis.call('LLEN', k_open(priority)), left[priority]}
end
for generator, sums in pairs(needed) do generators[#generators + 1] = {generator, sums[1], sums[2]} end

for _, channel in ipairs(redis.call('SMEMBERS', K_CHANNELS)) do
  local versions, bytes = redis.call('ZRANGE', k_snapshots(channel), 0, -1), 0
  for _, version in ipairs(versions) do bytes = bytes + redis.call('HGET', k_snapshot(channel, version), 'bytes') end
  channels[#channels + 1] = {channel, versions, bytes,
    redis.call('HGET', k_snapshot(channel, versions[#versions]), 'published')}
end

for _, id in ipairs(redis.call('SMEMBERS', K_WORKERS)) do
  local heartbeat = redis.call('GET', k_worker(id))
  if heartbeat then workers[#workers + 1] = {heartbeat, redis.call('PTTL', k_worker(id))} end
end

return {now_ms(), redis.call('ZCARD', K_LEASES), claimable, rings, priorities, channels, workers, generators}
