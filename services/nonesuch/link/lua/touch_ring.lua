-- touch_ring: the consumer shows that it is there.
-- ARGV: name, time to live in ms
-- Returns 1, or 0 if the ring is gone.
if redis.call('EXISTS', k_ring(ARGV[1])) == 0 then return 0 end
redis.call('ZADD', K_RINGS, now_ms() + tonumber(ARGV[2]), ARGV[1])
return 1
