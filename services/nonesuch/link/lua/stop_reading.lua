-- stop_reading: a reader leaves the ring to the next one, which may begin at once.
-- ARGV: name, reader
-- Returns 1, or 0 if it was not the reader.
local name, reader = ARGV[1], ARGV[2]
if not is_reader(name, reader) then return 0 end
redis.call('DEL', k_reader(name))
redis.call('HDEL', k_ring(name), 'reader')
return 1
