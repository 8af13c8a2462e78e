-- open_ring: makes a ring, or takes over the one that is there (its consumer was restarted): batches that were in
-- hand and never released are unread again, in their order.
-- ARGV: name, policy, slots, slot_bytes, time to live in ms, snapshot channels that go with the ring, joined by ','
-- Returns 'opened', 'reopened', or 'differs' (there is one with another policy or size).
local name, policy, slots, slot_bytes = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local r = redis.call('HMGET', k_ring(name), 'policy', 'slots', 'slot_bytes')
redis.call('ZADD', K_RINGS, now_ms() + tonumber(ARGV[5]), name)
if r[1] then
  if r[1] ~= policy or r[2] ~= slots or r[3] ~= slot_bytes then return 'differs' end
  while redis.call('LMOVE', k_in_hand(name), k_ready(name), 'RIGHT', 'LEFT') do end
  return 'reopened'
end
redis.call('HSET', k_ring(name), 'policy', policy, 'slots', slots, 'slot_bytes', slot_bytes,
  'reserved', 0, 'committed', 0, 'overwritten', 0, 'channels', ARGV[6])
for i = 0, tonumber(slots) - 1 do redis.call('RPUSH', k_free(name), i) end
return 'opened'
