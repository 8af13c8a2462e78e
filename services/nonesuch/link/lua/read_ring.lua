-- read_ring: makes one reader the consumer of a ring that several processes can reach, for as long as it renews its
-- lease; batches that the last one had in hand and never released are unread again, in their order. Idempotent.
-- The ring remembers its reader also when the lease has run out: until another one begins it may come back, afterwards
-- whatever it asks for is refused.
-- ARGV: name, reader, lease in ms
-- Returns 'reading', 'taken' (another reader's lease runs), 'begun' (an earlier reader released batches, which are lost
--       to this one), or 'gone'.
local name, reader = ARGV[1], ARGV[2]
local r = redis.call('HMGET', k_ring(name), 'slots', 'committed', 'reader')
if not r[1] then return 'gone' end
if r[3] ~= reader then
  if redis.call('EXISTS', k_reader(name)) == 1 then return 'taken' end
  local filled = tonumber(r[1]) - redis.call('LLEN', k_free(name))
  if tonumber(r[2]) > filled then return 'begun' end
  redis.call('HSET', k_ring(name), 'reader', reader)
  unread_again(name)
end
redis.call('SET', k_reader(name), reader, 'PX', ARGV[3])
return 'reading'
