-- keep_reading: prolongs a reader's lease, also one that has run out, unless another reader has begun since.
-- ARGV: name, reader, lease in ms
-- Returns 'reading', 'fenced' (it is not the reader any more), or 'gone'.
local name, reader = ARGV[1], ARGV[2]
if redis.call('EXISTS', k_ring(name)) == 0 then return 'gone' end
if not is_reader(name, reader) then return 'fenced' end
redis.call('SET', k_reader(name), reader, 'PX', ARGV[3])
return 'reading'
