-- open_ring: makes a ring, or takes over the one that is there (its consumer was restarted): batches that were in
-- hand and never released are unread again, in their order.
-- ARGV: name, policy, slots, slot_bytes, time to live in ms, snapshot channels that go with the ring, joined by ',',
--       note, prefix of the names of rings of its kind, how many of these there may be or 0 for any number
-- Returns 'opened', 'reopened', 'differs' (there is one with another policy or size), or 'full' (there are too many of
--       its kind).
local name, policy, slots, slot_bytes, prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[8]
local r = redis.call('HMGET', k_ring(name), 'policy', 'slots', 'slot_bytes')

local function is_full()
  local most, n = tonumber(ARGV[9]), 0
  if most == 0 then return false end
  for _, other in ipairs(redis.call('ZRANGE', K_RINGS, 0, -1)) do
    if string.sub(other, 1, #prefix) == prefix then n = n + 1 end
  end
  return n >= most
end

if not r[1] and is_full() then return 'full' end
redis.call('ZADD', K_RINGS, now_ms() + tonumber(ARGV[5]), name)
if r[1] then
  if r[1] ~= policy or r[2] ~= slots or r[3] ~= slot_bytes then return 'differs' end
  unread_again(name)
  return 'reopened'
end
redis.call('HSET', k_ring(name), 'policy', policy, 'slots', slots, 'slot_bytes', slot_bytes,
  'reserved', 0, 'committed', 0, 'overwritten', 0, 'channels', ARGV[6], 'note', ARGV[7], 'opened', now_ms())
for i = 0, tonumber(slots) - 1 do redis.call('RPUSH', k_free(name), i) end
return 'opened'
